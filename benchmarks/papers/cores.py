"""ResNet8 on several cores and few tiles: the table in docs/concepts/system-cost.md.

    python benchmarks/papers/cores.py            # the table
    python benchmarks/papers/cores.py --page     # update the table in the page

All projections are analog except the stem, the first convolution of the first stack, and the last layer.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from lionheart.graph import trace_graph
from lionheart.mapping import LayerMapping
from lionheart.partition import partition_matrix
from lionheart.system import CoresRequest, compare_on_cores, load_platform
from lionheart.tasks.images.networks import ResNet8
from lionheart.units import format_si

PAGE = Path(__file__).parents[2] / "docs" / "concepts" / "system-cost.md"
DIGITAL = ("conv", "stack1.conv1", "fc")
CASES = (  # cores, tiles, reprogrammed
    (1, None, False), (2, None, False), (4, None, False), (8, None, False), (4, 3, False), (4, 1, False), (4, 1, True),
)  # fmt: skip


def table() -> str:
    """Return the table in Markdown."""
    graph = trace_graph(ResNet8(), torch.zeros(1, 3, 32, 32))
    mapping = LayerMapping.from_analog(graph, [fqn for fqn in graph.fqns if fqn not in DIGITAL])
    tiles = {node.fqn: partition_matrix(node.rows, node.cols, node.groups, 256, 256) for node in graph.nodes}
    platform = load_platform("alpine-high-power")
    lines = [
        "| cores | tiles | not on tiles | first result | one every | energy of each | results, against digital | energy, against digital |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for n_cores, max_tiles, reprogram in CASES:
        cores = CoresRequest(n_cores, 10, max_tiles, reprogram)
        found = compare_on_cores(graph, mapping, platform, tiles, cores).summary()
        mapped, n_left = found.mapped, len(found.without_tiles)
        left = f"{len(found.reprogrammed)} reprogrammed" if reprogram else f"{n_left} digital" if n_left else "–"
        lines.append(
            f"| {n_cores} | {found.n_tiles} | {left} | {format_si(mapped.latency_s, 's')} | {format_si(mapped.interval_s, 's')} | "
            f"{format_si(mapped.energy_per_inference_j, 'J')} | {found.throughput_gain:.2f}× | {found.energy_gain:.2f}× |"
        )
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Print the table or update the page."""
    if "--page" not in arguments:
        print(table())
        return
    before, _, rest = PAGE.read_text(encoding="utf-8").partition("<!-- cores -->\n")
    after = rest.partition("<!-- end cores -->")[2]
    PAGE.write_text(f"{before}<!-- cores -->\n{table()}\n<!-- end cores -->{after}", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])

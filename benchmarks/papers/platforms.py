"""Print costs of VGG-16 all digital and all analog on every shipped platform, and the cost of programming.

    python benchmarks/papers/platforms.py           # the table
    python benchmarks/papers/platforms.py --page    # update docs/how-to/platforms.md

The network is the VGG-16 of the LionHeart paper: 13 convolutions and one linear layer on CIFAR-10 images.
"""

from __future__ import annotations

import sys
from pathlib import Path

from alpine_networks import vgg16

from lionheart.devices import TileSpec
from lionheart.mapping import LayerMapping
from lionheart.system import estimate_system, load_platform, platform_names
from lionheart.units import format_count, format_si

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "platforms.md"
MARK, END = "<!-- figures -->\n", "<!-- end figures -->"


def table() -> str:
    """Return the figures in Markdown."""
    lines = [
        "| platform | digital | mapped | faster | digital | mapped | saving | tiles missing | programming | saved after inferences |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    graph = vgg16()
    mapping = LayerMapping.from_analog(graph, graph.fqns)
    for name in platform_names():
        found = estimate_system(graph, mapping, load_platform(name), tile=TileSpec())
        cost, digital, mapped = found.programming, found.all_digital, found.mapped
        after = cost.break_even_energy
        cells = [
            f"`{name}`", format_si(digital.latency_s, "s"), format_si(mapped.latency_s, "s"), f"{found.speedup:.1f}x",
            format_si(digital.energy_j, "J"), format_si(mapped.energy_j, "J"), f"{found.energy_gain:.1f}x",
            str(found.tiles_missing), f"{format_si(cost.duration_s, 's')}, {format_si(cost.energy_j, 'J')}",
            "never" if after is None else format_count(after),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Print the table or update the page."""
    if "--page" not in arguments:
        print(table())
        return
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(MARK)
    PAGE.write_text(f"{before}{MARK}{table()}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])

"""How much slower is a network with all its projections on tiles than the same network in floating point?

Both sides run alternately in one process on the same batch. Prints medians and their ratio. Run: make bench
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import torch

from lionheart import LayerMapping, TileSpec, convert_to_analog_, trace_graph
from lionheart.analog import calibrate_input_ranges_, drift_chip_, program_chip_
from lionheart.tasks.registry import build_untrained


def time_alternately(sides: dict[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    """Return the median wall time of each side [s]; the sides take turns."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for round_number in range(repeats + 1):
        for name, work in sides.items():
            begin = time.perf_counter()
            work()
            if round_number > 0:
                times[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--batch", type=int, default=128)
    args = parser.parse_args()
    digital = build_untrained("cifar10/resnet8", seed=0)
    images = torch.randn(args.batch, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(10, (args.batch,))
    graph = trace_graph(digital, images[:1])
    everything = LayerMapping.from_analog(graph, graph.fqns)
    analog = convert_to_analog_(copy.deepcopy(digital), everything, TileSpec.pcm())
    calibrate_input_ranges_(analog, lambda model: model(images))
    generator = torch.Generator().manual_seed(0)
    program_chip_(analog, generator)
    drift_chip_(analog, 86_400.0, generator)

    def infer(model: torch.nn.Module) -> Callable[[], None]:
        @torch.no_grad()
        def work() -> None:
            model.eval()(images)

        return work

    def train(model: torch.nn.Module, *, bfloat16: bool) -> Callable[[], None]:
        def work() -> None:
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                outputs = model.train()(images)
            torch.nn.functional.cross_entropy(outputs.float(), labels).backward()

        return work

    jobs = {
        "inference, float32": (infer(digital), infer(analog)),
        "training step, float32": (train(digital, bfloat16=False), train(analog, bfloat16=False)),
        "training step, bfloat16": (train(digital, bfloat16=True), train(analog, bfloat16=True)),
    }
    print(f"ResNet8, all 10 projections analog, batch {args.batch}, median of {args.repeats}")
    for threads in args.threads:
        torch.set_num_threads(threads)
        for name, (reference, ours) in jobs.items():
            times = time_alternately({"digital": reference, "analog": ours}, args.repeats)
            ratio = times["analog"] / times["digital"]
            print(
                f"{threads} thread(s)  {name:24s} digital {1e3 * times['digital']:7.1f} ms   "
                f"analog {1e3 * times['analog']:7.1f} ms   ratio {ratio:.2f}"
            )


if __name__ == "__main__":
    main()

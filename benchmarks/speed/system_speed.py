"""Time of the system model: a full estimate, all costs at once, one moved projection, and a search without measurements.

Networks are ResNet20 and MobileBERT's architecture (question answering, default configuration, random weights, 128 tokens).
The search uses synthetic accuracies that take no time, so only its own work is timed. On ALPINE's platforms hardly any of
MobileBERT's projections saves time or energy, so its searches run on a core that multiplies ten times as slowly.

Run: python benchmarks/speed/system_speed.py
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from lionheart.candidates import find_candidates, rank_candidates
from lionheart.devices import TileSpec
from lionheart.graph import LayerGraph, trace_graph
from lionheart.jobs import Context, MapSettings, make_objective
from lionheart.mapping import LayerMapping
from lionheart.progress import SILENT
from lionheart.runs import Accuracy, Decision, Journal, TrainTrace
from lionheart.search import STRATEGIES, SearchLoop, SearchSpec, Trial
from lionheart.system import SystemModel, estimate_system, load_platform
from lionheart.tasks import Task
from lionheart.tasks.images.networks import ResNetCifar

REPEATS = 21
PLATFORM = "alpine-high-power"
SLOW = """
[macs_per_cycle]
value = {value}
unit = "MAC/cycle"
source = "made up: a tenth"
kind = "assumed"
"""


def trace_resnet20() -> LayerGraph:
    return trace_graph(ResNetCifar(3).eval(), torch.randn(1, 3, 32, 32))


def trace_mobilebert() -> LayerGraph:
    from transformers import MobileBertConfig, MobileBertForQuestionAnswering

    model = MobileBertForQuestionAnswering(MobileBertConfig()).eval()
    return trace_graph(model, {"input_ids": torch.randint(0, 1000, (1, 128))})


def write_slow_platform(folder: str) -> str:
    """Write the platform with a core that multiplies ten times as slowly, and return its path."""
    text = (files("lionheart.system") / "platforms" / f"{PLATFORM}.toml").read_text(encoding="utf-8")
    path = Path(folder) / "slow.toml"
    path.write_text(text + SLOW.format(value=load_platform(PLATFORM).macs_per_cycle / 10), encoding="utf-8")
    return str(path)


class MadeUp:
    """A problem whose drop is a sum of synthetic contributions; its measurements take no time."""

    def __init__(self, fqns: Sequence[str]) -> None:
        draw = random.Random(0)  # noqa: S311  no secret
        self.damage_pp = {fqn: draw.expovariate(1.0) / len(fqns) for fqn in fqns}
        self.rises = {fqn: damage * draw.uniform(0.5, 2.0) for fqn, damage in self.damage_pp.items()}
        self.n_tried = 0

    n_decided = 0

    def decide_once(self, index: int, decide: Callable[[], Decision]) -> Decision:
        return decide()

    def try_mapping(self, mapping: LayerMapping, index: int, label: str, **how: bool) -> Trial:
        self.n_tried += 1
        drop_pp = sum(self.damage_pp[name] for name in mapping.analog)
        mean = 0.9 - drop_pp / 100
        accuracy = Accuracy(t_inference=0.0, mean=mean, low=mean, high=mean, std=0.0, n_chips=1, scores=(mean,))
        return Trial(accuracy, drop_pp, drop_pp, TrainTrace(), 0.0)

    def remeasure(self, mapping: LayerMapping, index: int, number: int, **how: bool) -> Trial:
        return self.try_mapping(mapping, index, "")

    def loss_increase(self, fqns: Sequence[str]) -> Mapping[str, float]:
        return self.rises

    expected_loss_increase = loss_increase

    def commit(self, decision: Decision, mapping: LayerMapping) -> None:
        pass

    rollback = commit

    def is_out_of_budget(self) -> bool:
        return False


def measure(work: Callable[[], Any], repeats: int) -> str:
    """Return the median and the largest wall time of `work`."""
    work()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return f"{show(statistics.median(times))} | {show(max(times))}"


def show(seconds: float) -> str:
    return f"{1e6 * seconds:.1f} µs" if seconds < 1e-3 else f"{1e3 * seconds:.2f} ms"


def time_model(name: str, graph: LayerGraph, repeats: int) -> None:
    platform, fqns = load_platform(PLATFORM), graph.fqns
    half = LayerMapping.from_analog(graph, fqns[::2])
    model = SystemModel(graph, platform)
    tracker = model.track(half)
    n = len(fqns)

    def estimate() -> None:
        found = estimate_system(graph, half, platform)
        _ = found.mapped.energy_j, found.all_digital.energy_j

    def change_one() -> None:
        tracker.change(fqns[n // 2])

    def rank() -> None:
        start = model.track(LayerMapping.all_digital(graph))
        sorted(fqns, key=lambda fqn: start.with_change(fqn).energy_j)

    print(f"| {name} ({n} projections) | full estimate | {measure(estimate, repeats)} |")
    print(
        f"| | `SystemModel`: every projection in both placements | {measure(lambda: SystemModel(graph, platform), repeats)} |"
    )
    print(f"| | `cost(mapping)`, half of them on tiles | {measure(lambda: model.cost(half), repeats)} |")
    print(f"| | one projection moved | {measure(change_one, 50 * repeats)} |")
    print(f"| | all of them ranked by energy | {measure(rank, repeats)} |")


def time_search(name: str, graph: LayerGraph, settings: MapSettings, repeats: int) -> None:
    search_spec = settings.search
    candidates = tuple(find_candidates(graph, TileSpec()))
    task = Task(model=torch.nn.Identity(), train=[], validation=[], test=[], name=name)
    context = Context(task, settings, graph, candidates, Journal(None), SILENT)
    ranked = rank_candidates(candidates)
    counts = []

    def search() -> None:
        problem = MadeUp([each.node.fqn for each in ranked])
        start, strategy = LayerMapping.all_digital(graph), STRATEGIES.find(search_spec.strategy)
        loop = SearchLoop(problem, ranked, start, max_drop_pp=0.3, objective=make_objective(context))
        strategy.search(loop)
        counts.append((len(loop.result().mapping.analog), problem.n_tried))

    took = measure(search, repeats)
    limit = "none" if search_spec.max_tiles is None else str(search_spec.max_tiles)
    print(
        f"| {name} | {search_spec.strategy} | {search_spec.objective} | {limit} | {counts[0][0]} | {counts[0][1]} | {took} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=REPEATS, help="of each timing; at least 5")
    repeats = max(5, parser.parse_args().repeats)
    torch.set_num_threads(1)
    networks = {"ResNet20": trace_resnet20(), "MobileBERT": trace_mobilebert()}
    print("| network | what | median | largest |")
    print("|---|---|---|---|")
    for name, graph in networks.items():
        time_model(name, graph, repeats)
    print("\n| network | strategy | objective | tiles | on tiles | measurements | own work, median | largest |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        platforms = (PLATFORM, write_slow_platform(folder))
        for (name, graph), platform, limit in zip(networks.items(), platforms, (12, 150), strict=True):
            for strategy in ("lionheart", "training-free"):
                for objective, max_tiles in (("macs", None), ("time", None), ("energy", None), ("energy", limit)):
                    search = SearchSpec(strategy=strategy, objective=objective, max_tiles=max_tiles)
                    settings = MapSettings(search=search, platforms=(platform,))
                    time_search(name, graph, settings, max(5, repeats // 4))


if __name__ == "__main__":
    main()

"""Time and memory of a network on simulated tiles relative to the same network in floating point.

All variants are timed alternately in one process on the same batch; medians and their ratio are printed. With --peer
an installed AIHWKIT (torch tiles) is timed too. Run: make bench, or: python benchmarks/speed/performance.py --help
"""

from __future__ import annotations

import argparse
import copy
import importlib.metadata
import multiprocessing
import platform
import statistics
import time
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lionheart import LayerMapping, TileSpec, convert_to_analog_, trace_graph
from lionheart.analog import (
    calibrate_input_ranges_,
    clip_weights_,
    compile_model_,
    drift_chip_,
    program_chip_,
)
from lionheart.evaluation import ChipEnsemble
from lionheart.rng import RandomStreams

TIMES = [1.0, 3600.0, 86_400.0, 30 * 86_400.0, 365 * 86_400.0]


# -- networks ----------------------------------------------------------------------------------------------------------


class Block(nn.Module):
    """A basic residual block."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(n_out)
        same = stride == 1 and n_in == n_out
        self.shortcut = nn.Sequential() if same else nn.Conv2d(n_in, n_out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


def build_resnet20() -> nn.Module:
    widths = [
        (16, 16, 1),
        (16, 16, 1),
        (16, 16, 1),
        (16, 32, 2),
        (32, 32, 1),
        (32, 32, 1),
        (32, 64, 2),
        (64, 64, 1),
        (64, 64, 1),
    ]
    stem = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)]
    return nn.Sequential(*stem, *[Block(*each) for each in widths], *head).to(memory_format=torch.channels_last)


class Encoder(nn.Module):
    """One layer of BERT-mini; attention products, norms and GELU are digital."""

    def __init__(self, width: int = 256, hidden: int = 1024, n_heads: int = 4) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.query, self.key, self.value, self.output = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        b, t, d = x.shape
        heads = [each(x).view(b, t, self.n_heads, -1).transpose(1, 2) for each in (self.query, self.key, self.value)]
        mixed = F.scaled_dot_product_attention(*heads).transpose(1, 2).reshape(b, t, d)
        x = self.norm1(x + self.output(mixed))
        return self.norm2(x + self.down(F.gelu(self.up(x))))


class Whole(nn.Module):
    """Wrapper module that PyTorch compiles as a whole, unlike its own containers."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "ResNet20": (build_resnet20, lambda: torch.randn(128, 3, 32, 32).contiguous(memory_format=torch.channels_last)),
    "BERT-mini": (lambda: nn.Sequential(*[Encoder() for _ in range(4)]), lambda: torch.randn(128, 64, 256)),
}


# -- sides -------------------------------------------------------------------------------------------------------------


def on_tiles(digital: nn.Module, x: Tensor) -> nn.Module:
    graph = trace_graph(digital, x[:1])
    analog = convert_to_analog_(copy.deepcopy(digital), LayerMapping.from_analog(graph, graph.fqns), TileSpec.pcm())
    calibrate_input_ranges_(analog, lambda model: model(x))
    return analog


def on_aihwkit(digital: nn.Module) -> nn.Module:
    from aihwkit.nn.conversion import convert_to_analog
    from aihwkit.simulator.configs import TorchInferenceRPUConfig, WeightModifierType

    config = TorchInferenceRPUConfig()
    config.forward.inp_res = config.forward.out_res = 1 / 254
    config.forward.out_noise = 0.06
    config.mapping.weight_scaling_omega = 1.0
    config.mapping.weight_scaling_columnwise = True
    config.mapping.max_input_size = config.mapping.max_output_size = 256
    config.modifier.type, config.modifier.std_dev = WeightModifierType.MULT_NORMAL, 0.08
    return convert_to_analog(copy.deepcopy(digital), config)


class OneBatch:
    """A source of one batch."""

    def __init__(self, x: Tensor) -> None:
        self.x = x

    def __len__(self) -> int:
        return 1

    def epoch(self, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        yield self.x, self.x.new_zeros(len(self.x))


def forwards(model: nn.Module, x: Tensor, n: int) -> Callable[[], None]:
    @torch.no_grad()
    def work() -> None:
        model.eval()
        for _ in range(n):
            model(x)

    return work


def ensemble(model: nn.Module, x: Tensor, n_chips: int) -> Callable[[], None]:
    def work() -> None:
        chips = ChipEnsemble(model, n_chips=n_chips, times=TIMES, streams=RandomStreams(0))
        chips.evaluate(OneBatch(x), lambda outputs, targets: outputs.flatten(1)[:, 0])

    return work


def training(model: nn.Module, x: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)

    def work() -> None:
        optimizer.zero_grad()
        model.train()(x).square().mean().backward()
        optimizer.step()
        clip_weights_(model)

    return work


def time_alternately(sides: dict[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    """Return the median wall time of each variant [s]; variants run alternately, the first round is not counted."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(repeats + 1):
        for name, work in sides.items():
            begin = time.perf_counter()
            work()
            if turn > 0:
                times[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in times.items()}


def resident_peak() -> float:
    """Return the peak resident memory of this process since the last reset [MB]; Linux only."""
    with open("/proc/self/status") as file:
        return next(float(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM"))


def peak_memory(network: str, side: str, queue: multiprocessing.Queue[float]) -> None:
    """Put the memory that five training steps add to a fresh process [MB] into the queue."""
    torch.set_num_threads(1)
    build, make_input = NETWORKS[network]
    model, x = build(), make_input()
    if side in ("analog", "compiled"):
        model = on_tiles(model, x[:8])
    if side == "compiled":
        training(compile_model_(model), x)()  # compilation needs additional memory
    elif side == "aihwkit":
        model = on_aihwkit(model)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # reset the peak
    before = resident_peak()
    step = training(model, x)
    for _ in range(5):
        step()
    queue.put(resident_peak() - before)


def measure_memory(network: str, side: str) -> float:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=peak_memory, args=(network, side, queue))
    process.start()
    process.join()
    return float(queue.get())


# -- the table ---------------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--chips", type=int, default=20)
    parser.add_argument("--peer", action="store_true", help="time AIHWKIT's torch tiles too")
    args = parser.parse_args()
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {platform.machine()}, median of {args.repeats}")
    if args.peer:
        print(f"aihwkit {importlib.metadata.version('aihwkit')}")
    sides = ["fp32", "fp32 compiled", "tiles", "tiles compiled", *(["AIHWKIT"] if args.peer else [])]
    print("| network | work | threads | " + " | ".join(f"{side} | ratio" for side in sides[1:]).join(["fp32 | ", " |"]))
    print("|---" * (2 * len(sides) + 2) + "|")
    for name in args.networks:
        build, make_input = NETWORKS[name]
        digital, x = build(), make_input()
        models = {"fp32": digital, "fp32 compiled": Whole(copy.deepcopy(digital)), "tiles": on_tiles(digital, x)}
        models["tiles compiled"] = copy.deepcopy(models["tiles"])
        programmed = {side: copy.deepcopy(model) for side, model in models.items()}
        for side in ("tiles", "tiles compiled"):
            program_chip_(programmed[side], torch.Generator().manual_seed(0))
            drift_chip_(programmed[side], 86_400.0, torch.Generator().manual_seed(0))
        if args.peer:
            models["AIHWKIT"], programmed["AIHWKIT"] = on_aihwkit(digital), on_aihwkit(digital)
            programmed["AIHWKIT"].eval().drift_analog_weights(86_400.0)
        n = args.chips * len(TIMES)
        many = {side: forwards(models[side], x, n) for side in ("fp32", "fp32 compiled")}
        many |= {side: ensemble(models[side], x, args.chips) for side in ("tiles", "tiles compiled")}
        single = {side: forwards(model, x, 1) for side, model in programmed.items()}
        steps = {side: training(model, x) for side, model in models.items()}
        for threads in args.threads:
            torch.set_num_threads(threads)
            torch.compiler.reset()
            for each in (models, programmed):
                each["fp32 compiled"].compile()
                compile_model_(each["tiles compiled"])
            jobs = {
                f"{args.chips} chips x {len(TIMES)} times": many,
                "one chip, one time": single,
                "HWA training step": steps,
            }
            for label, works in jobs.items():
                times = time_alternately(works, args.repeats)
                cells = [f"{1e3 * times['fp32']:.0f} ms"]
                for side in sides[1:]:
                    known = side in times
                    cells += (
                        [f"{1e3 * times[side]:.0f} ms", f"{times[side] / times['fp32']:.2f}"] if known else ["", ""]
                    )
                print(f"| {name} | {label} | {threads} | " + " | ".join(cells) + " |", flush=True)
        trained = ["digital", "analog", "compiled", *(["aihwkit"] if args.peer else [])]
        memory = {side: measure_memory(name, side) for side in trained}
        text = ", ".join(f"{side} {size:.0f} MB ({size / memory['digital']:.2f})" for side, size in memory.items())
        print(f"\n{name}: memory that training adds: {text}\n", flush=True)


if __name__ == "__main__":
    main()

"""Compare the system model with the gains that ALPINE and LionHeart print.

    python benchmarks/alpine_ratios.py          # the table of docs/system_cost.md
    python benchmarks/alpine_ratios.py --fit    # the two fitted coefficients of software.toml, from MLP C1

Printed gains: Klein et al., IEEE Trans. Computers 2023, arXiv:2205.10042v2 (ALPINE); Lammie et al., IEEE TETC 2025,
arXiv:2401.09420v3 (LionHeart). All are ratios, all-digital over mapped, on the same number of cores.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from lionheart.graph import DigitalOp, LayerGraph, LayerNode
from lionheart.mapping import LayerMapping
from lionheart.system import PlatformSpec, SystemEstimate, estimate_system, load_platform

PRINTED_MLP_SPEEDUP = 12.8
PRINTED_MLP_PRODUCT_SHARE = 0.96


def linear(fqn: str, rows: int, cols: int) -> LayerNode:
    """Return a linear layer that runs once per inference."""
    return LayerNode(fqn, "linear", rows, cols, 1, 1, 1, rows, cols, has_bias=True)


def conv(fqn: str, channels: int, filters: int, kernel: int, size_in: int, size_out: int) -> LayerNode:
    """Return a square convolution."""
    rows, n_mvms = channels * kernel**2, size_out**2
    return LayerNode(fqn, "conv2d", rows, filters, 1, n_mvms, 1, channels * size_in**2, filters * n_mvms, has_bias=True)


def mlp() -> LayerGraph:
    """Return ALPINE's MLP 1024-1024-1024 with ReLU."""
    return LayerGraph((linear("fc1", 1024, 1024), linear("fc2", 1024, 1024)), (DigitalOp("relu", 2, 2048, 2048),))


def lstm(hidden: int = 750, inputs: int = 100, outputs: int = 50) -> LayerGraph:
    """Return one step of ALPINE's LSTM: the four gates as one projection, the cell, and the output layer."""
    ops = (
        DigitalOp("sigmoid", 3, 3 * hidden, 3 * hidden),
        DigitalOp("tanh", 2, 2 * hidden, 2 * hidden),
        DigitalOp("mul", 3, 3 * hidden, 6 * hidden),
        DigitalOp("add", 1, hidden, 2 * hidden),
        DigitalOp("softmax", 1, outputs, outputs),
    )
    return LayerGraph((linear("gates", inputs + hidden, 4 * hidden), linear("out", hidden, outputs)), ops)


@dataclass(frozen=True)
class Pipeline:
    """A CNN with one layer a core; each operation names the stage it runs in."""

    graph: LayerGraph
    op_stages: tuple[int, ...]
    analog: tuple[str, ...]


def _pipeline(convs: list[LayerNode], dense: list[LayerNode], pools: dict[int, int], lrn: tuple[int, ...]) -> Pipeline:
    """Add ReLU, pools (stage -> elements written) and local response norms of 5 channels to the layers."""
    ops: list[tuple[int, DigitalOp]] = []
    for stage, node in enumerate([*convs, *dense]):
        n = node.n_outputs
        ops.append((stage, DigitalOp("relu", 1, n, n)))
        if stage in lrn:
            ops += [(stage, DigitalOp("mul", 2, 2 * n, 2 * n)), (stage, DigitalOp("avg_pool", 1, n, 5 * n))]
            ops += [(stage, DigitalOp("pow", 1, n, n))]
        if stage in pools:
            ops.append((stage, DigitalOp("max_pool", 1, pools[stage], n)))
    graph = LayerGraph((*convs, *dense), tuple(op for _, op in ops))
    return Pipeline(graph, tuple(stage for stage, _ in ops), tuple(node.fqn for node in convs))


def cnn_f() -> Pipeline:
    """Return CNN-F (Chatfield et al.) with the strides and pads that ALPINE gives."""
    convs = [conv("conv1", 3, 64, 11, 224, 54), conv("conv2", 64, 256, 5, 27, 25), conv("conv3", 256, 256, 3, 12, 12)]
    convs += [conv("conv4", 256, 256, 3, 12, 12), conv("conv5", 256, 256, 3, 12, 12)]
    dense = [linear("fc6", 36 * 256, 4096), linear("fc7", 4096, 4096), linear("fc8", 4096, 1000)]
    return _pipeline(convs, dense, {0: 64 * 27**2, 1: 256 * 12**2, 4: 256 * 6**2}, lrn=(0, 1))


def cnn_s() -> Pipeline:
    """Return CNN-S (Chatfield et al.) with the strides and pads that ALPINE gives."""
    convs = [conv("conv1", 3, 96, 7, 224, 109), conv("conv2", 96, 256, 5, 36, 34), conv("conv3", 256, 512, 3, 17, 17)]
    convs += [conv("conv4", 512, 512, 3, 17, 17), conv("conv5", 512, 512, 3, 17, 17)]
    dense = [linear("fc6", 25 * 512, 4096), linear("fc7", 4096, 4096), linear("fc8", 4096, 1000)]
    return _pipeline(convs, dense, {0: 96 * 36**2, 1: 256 * 17**2, 4: 512 * 5**2}, lrn=(0,))


def vgg16() -> LayerGraph:
    """Return the VGG-16 for CIFAR-10: 13 convolutions of 3x3 and one linear layer."""
    nodes, channels, size, n_outputs, n_pooled = [], 3, 32, 0, 0
    for filters, repeats in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(repeats):
            nodes.append(conv(f"conv{len(nodes) + 1}", channels, filters, 3, size, size))
            channels, n_outputs = filters, n_outputs + nodes[-1].n_outputs
        n_pooled += nodes[-1].n_outputs
        size //= 2
    ops = (DigitalOp("relu", 13, n_outputs, n_outputs), DigitalOp("max_pool", 5, n_pooled // 4, n_pooled))
    return LayerGraph((*nodes, linear("fc", 512, 10)), (*ops, DigitalOp("batch_norm", 13, n_outputs, n_outputs)))


def estimate_all_analog(graph: LayerGraph, platform: PlatformSpec) -> SystemEstimate:
    """Return the estimate with every projection on tiles."""
    return estimate_system(graph, LayerMapping.from_analog(graph, graph.fqns), platform)


def whole_layer_tile(platform: PlatformSpec, rows: int, cols: int) -> PlatformSpec:
    """Return the platform with ALPINE's one large tile."""
    return platform.replace(tile_rows=rows, tile_cols=cols)


def mlp_estimate(platform: PlatformSpec) -> SystemEstimate:
    """Return MLP C1: one core, one 2048x2048 tile that holds both layers side by side."""
    return estimate_all_analog(mlp(), whole_layer_tile(platform, 1024, 1024))


def product_share(estimate: SystemEstimate) -> float:
    """Return the share of the all-digital time in products and their weights."""
    time_s = estimate.all_digital.time_s
    return (time_s["mac_kernel"] + time_s["weight_memory"]) / estimate.all_digital.latency_s


def pipeline_gains(pipeline: Pipeline, platform: PlatformSpec, n_inferences: int = 3) -> tuple[float, float]:
    """Return time and energy gain of a pipeline with one layer a core: its fill plus the slowest stage.

    Cores idle when they do not work; the last-level cache leaks over the whole run.
    """
    mapping = LayerMapping.from_analog(pipeline.graph, pipeline.analog)
    estimate = estimate_system(pipeline.graph, mapping, whole_layer_tile(platform, 4608, 512))
    times, energies = [], []
    for layers in (estimate.digital_layers, estimate.layers):
        stages = [row.latency_s for row in layers]
        energy_j = sum(row.energy_j - row.cost.energy.get("llc_leakage", 0.0) for row in layers)
        for stage, op in zip((*pipeline.op_stages, 0), estimate.other_ops, strict=True):
            stages[stage] += op.cost.latency_s
            energy_j += op.cost.energy_j - op.cost.energy.get("llc_leakage", 0.0)
        total_s = sum(stages) + (n_inferences - 1) * max(stages)
        idle_cycles = (len(stages) * total_s - n_inferences * sum(stages)) * platform.clock_hz
        energy_j = n_inferences * energy_j + platform.llc_leakage_w * total_s
        times.append(total_s)
        energies.append(energy_j + idle_cycles * platform.idle_energy_j_per_cycle)
    return times[0] / times[1], energies[0] / energies[1]


def conv_layers_speedup(pipeline: Pipeline, platform: PlatformSpec) -> float:
    """Return the gain of the convolutions alone, run one after another: what is left without the dense layers."""
    mapping = LayerMapping.from_analog(pipeline.graph, pipeline.analog)
    estimate = estimate_system(pipeline.graph, mapping, whole_layer_tile(platform, 4608, 512))
    pairs = [pair for pair in zip(estimate.digital_layers, estimate.layers, strict=True) if pair[1].n_tiles]
    return sum(d.latency_s for d, _ in pairs) / sum(a.latency_s for _, a in pairs)


def fit(platform: PlatformSpec) -> tuple[float, float]:
    """Return (io, convert) cycles per element that reproduce MLP C1: product share of 96.0 %, then 12.8x."""
    blank = mlp_estimate(platform.replace(io_cycles_per_element=0.0, convert_cycles_per_element=0.0))
    digital_s = product_share(blank) * blank.all_digital.latency_s / PRINTED_MLP_PRODUCT_SHARE
    io_s = digital_s - blank.all_digital.latency_s
    convert_s = digital_s / PRINTED_MLP_SPEEDUP - blank.mapped.latency_s - io_s
    nodes = mlp().nodes
    n_io = nodes[0].n_inputs + nodes[-1].n_outputs
    n_converted = sum(node.n_inputs + node.n_outputs for node in nodes)
    return io_s * platform.clock_hz / n_io, convert_s * platform.clock_hz / n_converted


def compare() -> list[tuple[str, str, float, float, str]]:
    """Return rows (case, quantity, printed, ours, role)."""
    rows = []
    printed = {"alpine-high-power": ("HP", 12.8, 12.5, 9.4, 9.3, 7.3, 7.4, 20.5, 20.8),
               "alpine-low-power": ("LP", 8.3, 8.4, 6.1, 6.4, 8.8, 8.9, 17.6, 18.4)}  # fmt: skip
    for name, (label, *values) in printed.items():
        platform = load_platform(name)
        m, r = mlp_estimate(platform), estimate_all_analog(lstm(), whole_layer_tile(platform, 1600, 3050))
        ours = (m.speedup, m.energy_gain, r.speedup, r.energy_gain)
        ours += pipeline_gains(cnn_f(), platform) + pipeline_gains(cnn_s(), platform)
        cases = ("MLP C1, 1 core", "LSTM 750 C1, 1 core", "CNN-F, 8 cores", "CNN-S, 8 cores")
        for index, (theirs, value) in enumerate(zip(values, ours, strict=True)):
            role = "fitted" if label == "HP" and index == 0 else "held out"
            rows.append((f"{cases[index // 2]}, {label}", ("time", "energy")[index % 2], theirs, value, role))
    high = load_platform("alpine-high-power")
    rows.append(("MLP digital, HP", "% in products", 96.0, 100 * product_share(mlp_estimate(high)), "fitted"))
    slow = mlp_estimate(high.replace(tile_mvm_s=10 * high.tile_mvm_s))
    rows.append(("MLP C1, HP, tile 10x slower (printed: hardly matters)", "time", 12.8, slow.speedup, "held out"))
    small = estimate_all_analog(lstm(256), whole_layer_tile(high, 1600, 3050))
    rows.append(("LSTM 256, 1 core, HP (printed 1.0 to 1.5)", "time", 1.5, small.speedup, "held out"))
    rows.append(("CNN-F convolutions alone, 1 core, HP", "time", 7.3, conv_layers_speedup(cnn_f(), high), "diagnosis"))
    rows.append(("CNN-S convolutions alone, 1 core, HP", "time", 20.5, conv_layers_speedup(cnn_s(), high), "diagnosis"))
    vgg = estimate_all_analog(vgg16(), high.replace(tile_ops_per_j=20e12, tile_technology_factor=1.0))
    rows.append(("VGG-16 (LionHeart), 1 core, HP", "time", 6.6, vgg.speedup, "held out"))
    rows.append(("VGG-16 (LionHeart), 1 core, HP (printed: follows time)", "energy", 6.6, vgg.energy_gain, "held out"))
    return rows


def main(arguments: list[str]) -> None:
    """Print the table, or the fit."""
    if "--fit" in arguments:
        io, convert = fit(load_platform("alpine-high-power"))
        print(f"io_cycles_per_element = {io:.2f}\nconvert_cycles_per_element = {convert:.2f}")
        return
    print("| case | quantity | printed | ours | error | role |\n|---|---|---|---|---|---|")
    for case, quantity, printed, ours, role in compare():
        print(f"| {case} | {quantity} | {printed:.1f} | {ours:.1f} | {100 * (ours / printed - 1):+.0f} % | {role} |")


if __name__ == "__main__":
    main(sys.argv[1:])

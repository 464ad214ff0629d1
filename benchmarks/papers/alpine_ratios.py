"""Compare the system model with the printed gains of ALPINE and LionHeart.

    python benchmarks/papers/alpine_ratios.py            # the table
    python benchmarks/papers/alpine_ratios.py --page     # docs/results/alpine.md
    python benchmarks/papers/alpine_ratios.py --fit      # the fitted coefficients, from the printed gains

Printed gains: Klein et al., IEEE Trans. Computers 2023, arXiv:2205.10042v2 (ALPINE); Lammie et al., IEEE TETC 2025,
arXiv:2401.09420v3 (LionHeart). All are ratios, all-digital over mapped, on the same number of cores.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from alpine_networks import cnn_f, cnn_s, linear, lstm, mlp, vgg16
from scipy.optimize import least_squares

from lionheart.graph import LayerGraph
from lionheart.mapping import LayerMapping
from lionheart.partition import partition_matrix
from lionheart.system import (
    Cost,
    PipelineEstimate,
    PlatformSpec,
    Stage,
    SystemEstimate,
    add_costs,
    estimate_pipeline,
    estimate_system,
    list_layer_work,
    load_platform,
    platform_constants,
    split_cost,
)

PAGE = Path(__file__).parents[2] / "docs" / "results" / "alpine.md"
PLATFORMS = {"HP": "alpine-high-power", "LP": "alpine-low-power"}
PRINTED = {  # case -> platform -> (time, energy)
    "MLP C1, 1 core": {"HP": (12.8, 12.5), "LP": (8.3, 8.4)},
    "MLP C3, 2 cores": {"HP": (5.1, 5.4), "LP": (3.5, 4.0)},
    "LSTM 750 C1, 1 core": {"HP": (9.4, 9.3), "LP": (6.1, 6.4)},
    "LSTM 750 C4, 5 cores": {"HP": (2.5, 2.9), "LP": (1.9, 2.4)},
    "CNN-F, 8 cores": {"HP": (7.3, 7.4), "LP": (8.8, 8.9)},
    "CNN-S, 8 cores": {"HP": (20.5, 20.8), "LP": (17.6, 18.4)},
}
FITTED = (
    "conv_macs_per_cycle", "conversion", "unpack_cycles_per_element", "io_cycles_per_element",
    "handover_cycles", "activation_function",
)  # fmt: skip
PRINTED_VGG = 6.6
UNCACHED_ACCESS_S = 300e-9  # one access to a device over gem5's bus: 100 ns of the device, plus bridges and crossbars


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


def stage_costs(estimate: SystemEstimate, graph: LayerGraph, *, mapped: bool) -> list[Cost]:
    """Return the cost of each layer with the operations after it; the first reads the input, the last writes the output."""
    return [work.cost for work in list_layer_work(graph, estimate, mapped=mapped).values()]


Gains = tuple[float, float]


def gains(digital: PipelineEstimate, mapped: PipelineEstimate) -> Gains:
    """Return the gains (time, energy): all-digital divided by mapped."""
    return digital.total_s / mapped.total_s, digital.energy_j / mapped.energy_j


def one_core(estimate: SystemEstimate, platform: PlatformSpec, n: int = 10) -> Gains:
    """Return the gains on one core."""
    runs = [estimate_pipeline([Stage("all", cost)], platform, n) for cost in (estimate.all_digital, estimate.mapped)]
    return gains(*runs)


def layer_a_core(
    graph: LayerGraph, analog: Sequence[str], platform: PlatformSpec, n: int
) -> tuple[PipelineEstimate, PipelineEstimate]:
    """Return the all-digital and the mapped pipeline with one layer per core, each on a tile of the layer's size."""
    mapping = LayerMapping.from_analog(graph, analog)
    tiles = {
        fqn: partition_matrix(graph[fqn].rows, graph[fqn].cols, 1, graph[fqn].rows, graph[fqn].cols) for fqn in analog
    }
    estimate = estimate_system(graph, mapping, platform, tiles, concurrent=graph.fqns)
    digital, mapped = (
        estimate_pipeline([Stage("layer", cost) for cost in stage_costs(estimate, graph, mapped=m)], platform, n)
        for m in (False, True)
    )
    return digital, mapped


def lstm_five_cores(platform: PlatformSpec, n: int = 10) -> Gains:
    """Return LSTM C4: a quarter of each gate on each of four cores, which wait twice per step, and one output core."""
    graph, quarter = lstm(), linear("quarter", 850, 750)
    estimate = estimate_all_analog(graph, whole_layer_tile(platform, 1600, 3050))
    alone = estimate_all_analog(LayerGraph((quarter,), ()), whole_layer_tile(platform, 1600, 3050)).layers[0].cost
    runs = []
    for mapped in (False, True):
        gates, out = stage_costs(estimate, graph, mapped=mapped)
        part = split_cost(gates, 4)
        if mapped:  # each core queues the whole input; cell and network input are divided over the cores
            gate = estimate.layers[0].cost
            rest = split_cost(_difference(gates, gate), 4)
            part = add_costs([alone, rest])
        stages = [Stage("gates", part, n_cores=4, n_handovers=2), Stage("output", out)]
        runs.append(estimate_pipeline(stages, platform, n))
    return gains(*runs)


def _difference(total: Cost, part: Cost) -> Cost:
    return Cost(
        {name: value - part.time_s.get(name, 0.0) for name, value in total.time_s.items()},
        {name: value - part.energy.get(name, 0.0) for name, value in total.energy.items()},
        total.dram_bytes - part.dram_bytes,
    )


def cases(platform: PlatformSpec) -> dict[str, Gains]:
    """Return the gains of each of ALPINE's cases."""
    lstm_one = estimate_all_analog(lstm(), whole_layer_tile(platform, 1600, 3050))
    return {
        "MLP C1, 1 core": one_core(mlp_estimate(platform), platform),
        "MLP C3, 2 cores": gains(*layer_a_core(mlp(), mlp().fqns, platform, 10)),
        "LSTM 750 C1, 1 core": one_core(lstm_one, platform),
        "LSTM 750 C4, 5 cores": lstm_five_cores(platform),
        "CNN-F, 8 cores": gains(*layer_a_core(cnn_f(), cnn_f().fqns[:5], platform, 3)),
        "CNN-S, 8 cores": gains(*layer_a_core(cnn_s(), cnn_s().fqns[:5], platform, 3)),
    }


def vgg_estimate(platform: PlatformSpec) -> SystemEstimate:
    """Return the estimate of an all-analog VGG-16 with the paper's tiles of 256x256 at 20 TOp/s/W."""
    return estimate_all_analog(vgg16(), platform.replace(tile_ops_per_j=20e12, tile_technology_factor=1.0))


def dequeue_share(platform: PlatformSpec) -> float:
    """Return the share of LSTM C1's time on tiles in dequeue, conversion and activation functions."""
    estimate = estimate_all_analog(lstm(), whole_layer_tile(platform, 1600, 3050))
    gate = estimate.layers[0].cost.time_s
    cell = sum(op.cost.latency_s for op in estimate.other_ops if op.scheduled_after == "gates")
    return (gate["dequeue"] + gate["convert"] * 3000 / 3850 + cell) / estimate.mapped.latency_s


def loose_coupling_gain(platform: PlatformSpec) -> float:
    """Return MLP C1's gain when every 4 bytes to or from the tile are an uncached access to a device."""
    estimate = mlp_estimate(platform)
    n_accesses = sum(node.rows + node.cols for node in mlp().nodes) / platform.elements_per_queue_instruction
    return estimate.all_digital.latency_s / (estimate.mapped.latency_s + n_accesses * UNCACHED_ACCESS_S)


# --- the fit ---


def with_values(platform: PlatformSpec, values: dict[str, float]) -> PlatformSpec:
    """Return the platform with these fitted coefficients."""
    changes: dict[str, object] = {}
    for name, value in values.items():
        if name == "activation_function":
            changes["cycles_per_written"] = {**platform.cycles_per_written, "sigmoid": value, "tanh": value}
        elif name == "conversion":
            changes |= {"convert_input_cycles": value, "convert_output_cycles": value}
        else:
            changes[name] = value
    return platform.replace(**changes)


def shipped(platform: PlatformSpec) -> dict[str, float]:
    """Return the fitted coefficients of the platform."""
    special = {
        "activation_function": platform.cycles_per_written["tanh"],
        "conversion": platform.convert_input_cycles,
    }
    return {name: special[name] if name in special else getattr(platform, name) for name in FITTED}


def errors(values: dict[str, float]) -> dict[tuple[str, str, str], float]:
    """Return (case, platform, quantity) -> relative error with these coefficients."""
    found = {}
    for label, name in PLATFORMS.items():
        ours = cases(with_values(load_platform(name), values))
        for case, printed in PRINTED.items():
            for quantity, theirs, value in zip(("time", "energy"), printed[label], ours[case], strict=True):
                found[case, label, quantity] = value / theirs - 1
    high = with_values(load_platform("alpine-high-power"), values)
    found["VGG-16", "HP", "time"] = vgg_estimate(high).speedup / PRINTED_VGG - 1
    return found


def fit(hold_out: Callable[[str, str, str], bool] = lambda *_: False) -> dict[str, float]:
    """Return the coefficients that minimise the fourth power of the errors over the rows that are not held out."""
    start = shipped(load_platform("alpine-high-power"))

    def weighted(logs: np.ndarray) -> np.ndarray:
        found = errors(dict(zip(FITTED, np.exp(logs), strict=True)))
        kept = np.array([value for row, value in found.items() if not hold_out(*row)]) / 0.15
        return np.sign(kept) * kept**4

    solution = least_squares(weighted, np.log([start[name] for name in FITTED]), max_nfev=200)
    return dict(zip(FITTED, np.exp(solution.x), strict=True))


HELD_OUT: dict[str, Callable[[str, str, str], bool]] = {
    "the low-power system": lambda case, label, quantity: label == "LP",
    "all energies": lambda case, label, quantity: quantity == "energy",
    "MLP on 2 cores": lambda case, label, quantity: "MLP C3" in case,
    "LSTM on 5 cores": lambda case, label, quantity: "LSTM 750 C4" in case,
    "CNN-S": lambda case, label, quantity: "CNN-S" in case,
    "CNN-F": lambda case, label, quantity: "CNN-F" in case,
}


def held_out() -> str:
    """Return the errors of held-out rows in Markdown."""
    lines = ["| held out | rows | median error | largest error |", "|---|---|---|---|"]
    for name, rule in HELD_OUT.items():
        found = {row: abs(value) for row, value in errors(fit(rule)).items() if rule(*row)}
        worst = max(found, key=found.__getitem__)
        lines.append(
            f"| {name} | {len(found)} | {100 * np.median(list(found.values())):.0f} % | "
            f"{100 * found[worst]:.0f} % ({worst[0]}, {worst[1]}, {worst[2]}) |"
        )
    return "\n".join(lines)


# --- the table ---


@dataclass(frozen=True)
class Row:
    """One printed figure and the figure of the system model; `role` is fitted or other."""

    case: str
    quantity: str
    printed: float
    ours: float
    role: str


def compare() -> list[Row]:
    """Return all printed figures with the figures of the system model."""
    rows = []
    for label, name in PLATFORMS.items():
        ours = cases(load_platform(name))
        for case, printed in PRINTED.items():
            for quantity, theirs, value in zip(("time", "energy"), printed[label], ours[case], strict=True):
                rows.append(Row(f"{case}, {label}", quantity, theirs, value, "fitted"))
    high = load_platform("alpine-high-power")
    vgg = vgg_estimate(high)
    rows.append(Row("VGG-16 (LionHeart), 1 core, HP", "time", PRINTED_VGG, vgg.speedup, "fitted"))
    rows.append(Row("VGG-16 (LionHeart), 1 core, HP (printed: follows time)", "energy", 6.6, vgg.energy_gain, "other"))
    rows.append(Row("MLP digital, HP", "% in products", 96.0, 100 * product_share(mlp_estimate(high)), "other"))
    slow = mlp_estimate(high.replace(tile_mvm_s=10 * high.tile_mvm_s))
    rows.append(Row("MLP C1, HP, tile 10x slower (printed: hardly matters)", "time", 12.8, slow.speedup, "other"))
    rows.append(Row("MLP C1, HP, loosely coupled tile", "time", 4.1, loose_coupling_gain(high), "other"))
    rows.append(
        Row(
            "LSTM C1, HP, dequeue and activation (printed: 77 to 82)",
            "% of time",
            79.5,
            100 * dequeue_share(high),
            "other",
        )
    )
    small = estimate_all_analog(lstm(256), whole_layer_tile(high, 1600, 3050))
    rows.append(Row("LSTM 256, 1 core, HP (printed: 1.0 to 1.5)", "time", 1.5, small.speedup, "other"))
    two = layer_a_core(mlp(), mlp().fqns, high, 10)[1].total_s / (10 * mlp_estimate(high).mapped.latency_s)
    rows.append(Row("MLP analog, HP, 2 cores over 1 core (printed: 1.2 to 1.3)", "time", 1.25, two, "other"))
    return rows


def table() -> str:
    """Return the rows in Markdown."""
    lines = ["| case | quantity | printed | ours | error | role |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {row.case} | {row.quantity} | {row.printed:.1f} | {row.ours:.1f} | {100 * (row.ours / row.printed - 1):+.0f} % | {row.role} |"
        for row in compare()
    ]
    return "\n".join(lines)


def coefficients() -> str:
    """Return the fitted coefficients in Markdown."""
    constants = platform_constants("alpine-high-power")
    lines = ["| coefficient | value | unit |", "|---|---|---|"]
    names = {"conversion": "convert_input_cycles", "activation_function": "cycles_per_written.sigmoid"}
    for name in (names.get(each, each) for each in FITTED):
        lines.append(f"| `{name}` | {constants[name].value:g} | {constants[name].unit} |")
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Print the table or the fit, or update the tables of the page."""
    if "--fit" in arguments:
        for name, value in fit().items():
            print(f"{name} = {value:.4g}")
    elif "--page" in arguments:
        text = PAGE.read_text(encoding="utf-8")
        for mark, content in (("gains", table()), ("coefficients", coefficients()), ("held out", held_out())):
            before, _, rest = text.partition(f"<!-- {mark} -->\n")
            text = f"{before}<!-- {mark} -->\n{content}\n<!-- end {mark} -->{rest.partition(f'<!-- end {mark} -->')[2]}"
        PAGE.write_text(text, encoding="utf-8")
    else:
        print(table())


if __name__ == "__main__":
    main(sys.argv[1:])

"""The command ``lionheart simulate``, which estimates latency and energy of a mapping on one core or on several cores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from lionheart.cli import render
from lionheart.cli.console import make_table, print_json, stderr
from lionheart.cli.options import JsonFlag, PlatformNames, RunPath
from lionheart.cross_checks import CROSS_CHECKS
from lionheart.units import format_si

if TYPE_CHECKING:
    from lionheart.runs.costs import CoreRecord, PipelineRecord
    from lionheart.system import CoresRequest

_N_INFERENCES = 10


def simulate(
    run: RunPath,
    platform: PlatformNames = None,
    cores: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Number of cores over which the layers are pipelined, simulated in addition to the estimate for one core.",
            show_default="no pipeline",
        ),
    ] = None,
    inferences: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Number of inferences that pass through the cores one after another.",
            show_default=str(_N_INFERENCES),
        ),
    ] = None,
    max_tiles: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Number of available tiles. If they are too few, layers share tiles, and layers that do not fit stay digital.",
            show_default="the platform's",
        ),
    ] = None,
    reprogram: Annotated[
        bool,
        typer.Option(
            "--reprogram",
            help="Reprogram tiles in every inference for layers that do not fit, instead of running these layers digitally.",
        ),
    ] = False,
    cross_check: Annotated[
        str | None,
        typer.Option(
            metavar="TOOL",
            help="Also show the layer costs of another tool. "
            + "; ".join(f"{name}: {each.help}" for name, each in CROSS_CHECKS.items())
            + ".",
            show_default="none",
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Estimate latency and energy of a finished run's mapping and of the all-digital network.

    With --cores, --inferences, --max-tiles or --reprogram, both networks are
    also simulated on one or several cores. The report of the run then shows the
    activity of each core over time.
    """
    from lionheart.cli.cross_check import check_tool, compare_run, show_comparison
    from lionheart.jobs import estimate_run

    check_tool(cross_check)
    platforms = platform or ["alpine-high-power", "alpine-low-power"]
    estimates = estimate_run(run, platforms, _read_request(cores, inferences, max_tiles, reprogram=reprogram))
    comparisons = compare_run(cross_check, run, platforms) if cross_check else []
    if as_json:
        data = [estimate.to_json() for estimate in estimates]
        for row, comparison in zip(data, comparisons, strict=bool(comparisons)):
            row["cross_check"] = comparison.to_json()
        print_json(data)
        return
    render.show_system(estimates)
    for comparison in comparisons:
        show_comparison(str(cross_check), comparison)
    for estimate in estimates:
        if estimate.pipeline is not None:
            show_pipeline(estimate.pipeline)


def _read_request(
    cores: int | None, inferences: int | None, max_tiles: int | None, *, reprogram: bool
) -> CoresRequest | None:
    from lionheart.system import CoresRequest

    if cores is None and inferences is None and max_tiles is None and not reprogram:
        return None
    return CoresRequest(
        n_cores=1 if cores is None else cores,
        n_inferences=_N_INFERENCES if inferences is None else inferences,
        max_tiles=max_tiles,
        reprogram=reprogram,
    )


def show_pipeline(data: PipelineRecord) -> None:
    """Print latency, throughput, energy and utilisation of the mapped and of the all-digital network on a pipeline of cores."""
    from lionheart.runs.text import describe_shared_tiles

    digital, mapped, n = data.all_digital, data.mapped, data.n_cores
    what = f"{n} core{'s' if n > 1 else ''}, {data.n_inferences} inference{'s' if data.n_inferences > 1 else ''}"
    stderr.print(f"\n{data.platform}: {what}", style="bold")
    table = make_table("simulated", "", "digital", "mapped", "better", right=("digital", "mapped", "better"))
    table.title = None
    for name, before, after, unit, gain in (
        ("latency of the first result", digital.latency_s, mapped.latency_s, "s", data.latency_gain),
        ("interval between results", digital.interval_s, mapped.interval_s, "s", data.throughput_gain),
        ("results per second", 1 / digital.interval_s, 1 / mapped.interval_s, "", None),
        ("energy per inference", digital.energy_per_inference_j, mapped.energy_per_inference_j, "J", data.energy_gain),
    ):
        values = [format_si(value, unit).strip() for value in (before, after)]
        table.add_row(name, *values, "" if gain is None else f"{gain:.2f}×")
    stderr.print(table)
    _show_cores(digital.cores, mapped.cores)
    stderr.print(describe_shared_tiles(data))


def _show_cores(digital: tuple[CoreRecord, ...], mapped: tuple[CoreRecord, ...]) -> None:
    table = make_table(
        "utilisation of each core (share of the time)", "core", "digital", "layers", "mapped", "layers ",
        right=("core", "digital", "mapped"),
    )  # fmt: skip
    for number in range(max(len(digital), len(mapped))):
        sides = [side[number] if number < len(side) else None for side in (digital, mapped)]
        table.add_row(str(number + 1), *(cell for side in sides for cell in _describe_core(side)))
    stderr.print(table)


def _describe_core(core: CoreRecord | None) -> tuple[str, str]:
    if core is None:
        return "unused", ""
    layers = core.layers
    text = layers[0] if len(layers) == 1 else f"{layers[0]} to {layers[-1]} ({len(layers)})"
    return f"{100 * core.utilisation:.0f} %", text

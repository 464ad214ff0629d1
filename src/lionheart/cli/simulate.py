"""The verb `simulate`: time and energy of a mapping, on one core or on several with so many tiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lionheart.cli import render
from lionheart.cli.console import make_table, print_json, stderr
from lionheart.errors import ConfigError
from lionheart.units import format_si

if TYPE_CHECKING:
    from lionheart.workflow import CoresRequest

_N_INFERENCES = 10


def simulate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder that `lionheart map` wrote.")],
    platform: Annotated[
        list[str] | None,
        typer.Option(help="A known platform or a TOML file; repeatable.", show_default="both ALPINE ones"),
    ] = None,
    cores: Annotated[
        int | None, typer.Option(help="Also on several cores, layers pipelined over them.", show_default="no")
    ] = None,
    inferences: Annotated[
        int | None, typer.Option(help="How many pass one after another.", show_default=str(_N_INFERENCES))
    ] = None,
    max_tiles: Annotated[
        int | None,
        typer.Option(
            help="Tiles there are. Layers share them if they must; those without room stay digital.",
            show_default="as many as needed",
        ),
    ] = None,
    program_time: Annotated[
        float | None,
        typer.Option(
            help="Program layers without room again for every inference instead: seconds a device, those of a tile in turn.",
            show_default="no",
        ),
    ] = None,
    program_energy: Annotated[float | None, typer.Option(help="The same: joules a device.", show_default="no")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write the result as JSON to stdout.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Estimate time and energy of a finished run's mapping, against all-digital.

    On several cores or with few tiles it is simulated, beside all-digital on
    as many cores, and the report shows what each core does when.
    """
    from lionheart.workflow import estimate_run

    request = _read_request(cores, inferences, max_tiles, program_time, program_energy)
    data = estimate_run(run, platform or ["alpine-high-power", "alpine-low-power"], request)
    if as_json:
        print_json(data)
        return
    render.show_system(data)
    for row in data:
        if "pipeline" in row:
            show_pipeline(row["pipeline"])


def _read_request(
    cores: int | None, inferences: int | None, max_tiles: int | None, time_s: float | None, energy_j: float | None
) -> CoresRequest | None:
    from lionheart.workflow import CoresRequest

    if all(value is None for value in (cores, inferences, max_tiles, time_s, energy_j)):
        return None
    if (time_s is None) != (energy_j is None) or (time_s is not None and max_tiles is None):
        raise ConfigError(
            "--program-time, --program-energy: expected both, and --max-tiles with them",
            hint="for example --max-tiles 8 and the time and energy to program one device",
        )
    return CoresRequest(
        n_cores=1 if cores is None else cores,
        n_inferences=_N_INFERENCES if inferences is None else inferences,
        max_tiles=max_tiles,
        program_time_s=time_s,
        program_energy_j=energy_j or 0.0,
    )


def show_pipeline(data: Mapping[str, Any]) -> None:
    """Print a mapping on several cores beside all-digital on as many."""
    from lionheart.report.schedules import describe_tiles

    digital, mapped, n = data["all_digital"], data["mapped"], data["n_cores"]
    what = f"{n} core{'s' if n > 1 else ''}, {data['n_inferences']} inference{'s' if data['n_inferences'] > 1 else ''}"
    stderr.print(f"\n{data['platform']}: {what}", markup=False, style="bold")
    table = make_table("simulated", "", "digital", "mapped", "better", right=("digital", "mapped", "better"))
    table.title = None
    for name, key, unit, gain in (
        ("first result after", "latency_s", "s", "latency_gain"),
        ("then one every", "interval_s", "s", "throughput_gain"),
        ("results a second", "throughput_per_s", "", ""),
        ("energy of each", "energy_per_inference_j", "J", "energy_gain"),
    ):
        values = [format_si(side[key], unit).strip() for side in (digital, mapped)]
        table.add_row(name, *values, f"{data[gain]:.2f}×" if gain else "")
    stderr.print(table)
    _show_cores(digital["cores"], mapped["cores"])
    stderr.print(describe_tiles(data), markup=False)


def _show_cores(digital: Sequence[Mapping[str, Any]], mapped: Sequence[Mapping[str, Any]]) -> None:
    table = make_table(
        "share of the time in which each core works", "core", "digital", "layers", "mapped", "layers ",
        right=("core", "digital", "mapped"),
    )  # fmt: skip
    for core in range(max(len(digital), len(mapped))):
        table.add_row(str(core + 1), *_describe_core(digital, core), *_describe_core(mapped, core))
    stderr.print(table)


def _describe_core(cores: Sequence[Mapping[str, Any]], core: int) -> tuple[str, str]:
    if core >= len(cores):
        return "off", ""
    layers = cores[core]["layers"]
    text = layers[0] if len(layers) == 1 else f"{layers[0]} to {layers[-1]} ({len(layers)})"
    return f"{100 * cores[core]['utilisation']:.0f} %", text

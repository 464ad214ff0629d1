"""The verb `simulate`: time and energy of a mapping, on one core or on several with so many tiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lionheart.cli import render
from lionheart.cli.console import make_table, print_json, stderr
from lionheart.units import format_si

if TYPE_CHECKING:
    from lionheart.jobs import CoresRequest

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
            show_default="the platform's",
        ),
    ] = None,
    reprogram: Annotated[
        bool, typer.Option("--reprogram", help="Program layers without room again for every inference instead.")
    ] = False,
    second_opinion: Annotated[
        str | None, typer.Option(help="zigzag: its cost of each layer too (extra zigzag).", show_default="none")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write the result as JSON to stdout.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Estimate time and energy of a finished run's mapping, against all-digital.

    On several cores or with few tiles it is simulated, beside all-digital on
    as many cores, and the report shows what each core does when.
    """
    from lionheart.cli.cross_check import add_second_opinion, check_tool, show_second_opinion
    from lionheart.jobs import estimate_run

    check_tool(second_opinion)
    platforms = platform or ["alpine-high-power", "alpine-low-power"]
    data = estimate_run(run, platforms, _read_request(cores, inferences, max_tiles, reprogram=reprogram))
    if second_opinion:
        add_second_opinion(data, run, platforms)
    if as_json:
        print_json(data)
        return
    render.show_system(data)
    for opinion in (row["second_opinion"] for row in data if second_opinion):
        show_second_opinion(opinion)
    for row in data:
        if "pipeline" in row:
            show_pipeline(row["pipeline"])


def _read_request(
    cores: int | None, inferences: int | None, max_tiles: int | None, *, reprogram: bool
) -> CoresRequest | None:
    from lionheart.jobs import CoresRequest

    if cores is None and inferences is None and max_tiles is None and not reprogram:
        return None
    return CoresRequest(
        n_cores=1 if cores is None else cores,
        n_inferences=_N_INFERENCES if inferences is None else inferences,
        max_tiles=max_tiles,
        reprogram=reprogram,
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

"""The verb `export`: a finished run for the next tool."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lionheart.cli.console import EXIT_BUG, RichProgress, print_json, stderr
from lionheart.errors import ConfigError, suggest

FORMATS = ("alpine", "json")


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder that `lionheart map` wrote.")],
    to: Annotated[
        str, typer.Option(help="alpine: a C++ program for the ALPINE simulator; json: the mapping as plain data.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="New folder of the program, or file of the mapping.", show_default="RUN/alpine, stdout"),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Build and run the program, and compare its outputs bit for bit.")
    ] = False,
    samples: Annotated[int, typer.Option(help="Training samples that decide the scales.")] = 64,
    inputs: Annotated[int, typer.Option(help="Validation samples stored with the program.")] = 8,
    task: Annotated[str | None, typer.Option(help="The run's task, if it moved.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write the result as JSON to stdout.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Hand a finished run to another tool: its mapping, or its network as a C++ program with analog tiles.

    docs/exporting.md says what can be exported and how exact it is.
    """
    if to not in FORMATS:
        raise ConfigError(f"--to: got {to!r}", hint=suggest(to, FORMATS, label="formats"))
    if to == "json":
        if check:
            raise ConfigError("--check: there is nothing to run in a mapping", hint="leave it out")
        _export_mapping(run, out, as_json=as_json)
        return
    data = _export_program(run, out or run / "alpine", task, samples, inputs, check=check)
    if as_json:
        print_json(data)
    else:
        _show(data)
    if "different" in data.get("check", {}).values():
        raise typer.Exit(EXIT_BUG)


def _export_mapping(run: Path, out: Path | None, *, as_json: bool) -> None:
    from lionheart.jobs.evaluate import open_finished
    from lionheart.mapping import LayerMapping

    mapping = LayerMapping.load(open_finished(run).file("mapping.json"))
    if out is not None:
        mapping.save(out)
        stderr.print(f"mapping: {out}", markup=False, soft_wrap=True)
    if out is None or as_json:
        print_json(mapping.to_json())


def _export_program(
    run: Path, out: Path, task: str | None, samples: int, inputs: int, *, check: bool
) -> dict[str, Any]:
    from lionheart.cli.tasks import load_task
    from lionheart.interop.alpine.export import check_program, export_run
    from lionheart.jobs.evaluate import open_finished

    name = task or open_finished(run).description().task
    manifest = export_run(
        load_task(name, RichProgress()), run, out, n_calibration=samples, n_stored=inputs
    )  # fmt: skip
    data = {"folder": str(out), "manifest": manifest}
    return data | {"check": check_program(out)} if check else data


def _show(data: dict[str, Any]) -> None:
    manifest = data["manifest"]
    products = [layer for layer in manifest["layers"] if layer["kind"] == "product"]
    n_analog = sum(layer["placement"] == "analog" for layer in products)
    text = f"{n_analog} of {len(products)} products on {manifest['n_tiles']} tiles, the rest digital"
    stderr.print(f"program: {data['folder']}: {text}", markup=False, soft_wrap=True)
    for target, verdict in data.get("check", {}).items():
        stderr.print(f"outputs on {target}: {verdict}", markup=False, soft_wrap=True)
    if "check" not in data:
        stderr.print("Build and compare it: make check in that folder; README.md there says more.", markup=False)

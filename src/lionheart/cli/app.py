"""The typer application of the command line. Each command is defined in its own module."""

from __future__ import annotations

from typing import Annotated

import typer

from lionheart.cli.devices import devices
from lionheart.cli.evaluate import evaluate
from lionheart.cli.export import export
from lionheart.cli.inspect import inspect
from lionheart.cli.map import map_command
from lionheart.cli.pareto import pareto
from lionheart.cli.platforms import platforms
from lionheart.cli.profile import profile
from lionheart.cli.report import report
from lionheart.cli.schema import schema
from lionheart.cli.settings import settings
from lionheart.cli.simulate import simulate
from lionheart.cli.sources import sources
from lionheart.cli.train import train
from lionheart.cli.verbs import Verb, VerbGroup, make_command

app = typer.Typer(
    name="lionheart",
    help="Decide which layers of a network run on analog in-memory-computing tiles and which on digital cores.",
    no_args_is_help=True,
    cls=VerbGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)

#: Function, name and example arguments of each verb, in the order of the help text.
_VERBS = (
    (inspect, "inspect", "hf:gpt2 --exclude lm_head"),
    (map_command, "map", "cifar10/resnet8 --max-drop 2 --set search.n_chips=10"),
    (evaluate, "evaluate", "runs/first --times 1s,1h,1d,1mo,1y --chips 20"),
    (report, "report", "runs/first --out first.html"),
    (train, "train", "cifar10/resnet8 --out resnet8.safetensors"),
    (sources, "sources", ""),
    (pareto, "pareto", "cifar10/resnet8 --objective time --bounds 0.5,1,2,5"),
    (profile, "profile", "cifar10/resnet8 --times 1s,1d --chips 10"),
    (export, "export", "runs/first --to alpine --out first-alpine --check"),
    (simulate, "simulate", "runs/first --cores 4 --inferences 10"),
    (settings, "settings", "tile.device --set tile.device.technology=reram_cmo"),
    (devices, "devices", "pcm"),
    (platforms, "platforms", "--template > mine.toml"),
    (schema, "schema", "results > results.schema.json"),
)
for _verb, _name, _example in _VERBS:
    app.command(name=_name, cls=Verb, epilog=f"Example: lionheart {_name} {_example}".rstrip())(
        make_command(_verb, _name)
    )


def _print_version(is_asked: bool) -> None:
    if is_asked:
        from importlib import metadata  # slow to import, and rarely needed

        typer.echo(f"lionheart {metadata.version('lionheart-aimc')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print only errors and warnings. --json still writes to stdout.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show the traceback of errors.")] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line ``lionheart`` with the arguments in ``sys.argv``, and exit the process with its exit code."""
    app(prog_name="lionheart")

"""The command ``lionheart schema``, which writes the JSON schema of a result file, generated from its record class."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any

import typer

from lionheart.cli.console import make_table, print_json, stderr
from lionheart.cli.options import JsonFlag
from lionheart.registry import Registry

#: Module and class of a record, imported when its schema is requested, and name of the file that holds the record.
SCHEMAS: Registry[tuple[str, str, str]] = Registry("schema", "schemas")
SCHEMAS.add("results", ("lionheart.runs", "Results", "results.json"))
SCHEMAS.add("evaluation", ("lionheart.runs", "Evaluation", "evaluation.json"))
SCHEMAS.add("front", ("lionheart.experimental.pareto.records", "FrontResults", "pareto.json"))
SCHEMAS.add("profile", ("lionheart.jobs.profile", "Profile", "TASK-profile.json"))
SCHEMAS.add("run", ("lionheart.runs", "RunDescription", "run.json"))


def schema(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", help=f"Schema to write: {', '.join(SCHEMAS.names())}. Without it, list the schemas."
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Write the JSON schema of a result file to stdout, or list the schemas."""
    if name is not None:
        print_json(read_schema(name))
    elif as_json:
        print_json({"schemas": [{"schema": each, "file": file} for each, (_, _, file) in SCHEMAS.items()]})
    else:
        table = make_table("JSON schemas", "schema", "file")
        for each, (_, _, file) in SCHEMAS.items():
            table.add_row(each, file)
        stderr.print(table)


def read_schema(name: str) -> dict[str, Any]:
    """Return the JSON schema called `name` (such as ``results``), which describes the format of a result file.

    Raises:
        ConfigError: No schema has this name.
    """
    from lionheart.record import describe_schema

    module, record, _ = SCHEMAS.find(name)
    return describe_schema(getattr(import_module(module), record))

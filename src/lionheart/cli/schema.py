"""The verb `schema`: the JSON schemas of what runs write, made from the records."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any

import typer

from lionheart.cli.console import make_table, print_json, stderr
from lionheart.cli.options import JsonFlag
from lionheart.registry import Registry

#: What has a schema: module and class of the record, which is imported when it is asked for, and the file that holds it.
SCHEMAS: Registry[tuple[str, str, str]] = Registry("schema", "schemas")
SCHEMAS.add("results", ("lionheart.runs", "Results", "results.json"))
SCHEMAS.add("evaluation", ("lionheart.runs", "Evaluation", "evaluation.json"))
SCHEMAS.add("front", ("lionheart.experimental.pareto.records", "FrontResults", "pareto.json"))
SCHEMAS.add("profile", ("lionheart.jobs.profile", "Profile", "TASK-profile.json"))
SCHEMAS.add("run", ("lionheart.runs", "RunDescription", "run.json"))


def schema(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help=f"{', '.join(SCHEMAS.names())}; without one they are listed.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Write the JSON schema of what a run writes to stdout, or list what has one."""
    if name is not None:
        print_json(read_schema(name))
    elif as_json:
        print_json({"schemas": [{"schema": each, "file": file} for each, (_, _, file) in SCHEMAS.items()]})
    else:
        table = make_table("JSON schemas", "schema", "of")
        for each, (_, _, file) in SCHEMAS.items():
            table.add_row(each, file)
        stderr.print(table)


def read_schema(name: str) -> dict[str, Any]:
    """Return the JSON schema of a record as it is written.

    Raises:
        ConfigError: There is no such record.
    """
    from lionheart.record import describe_schema

    module, record, _ = SCHEMAS.find(name)
    return describe_schema(getattr(import_module(module), record))

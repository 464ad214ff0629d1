"""Write docs/reference/results.schema.json: the JSON schema of ``results.json``, generated from the records."""

from __future__ import annotations

import json
from pathlib import Path

from lionheart.cli.schema import read_schema

PAGE = Path(__file__).with_name("reference") / "results.schema.json"


def render_schema() -> str:
    """Return the schema in the format of ``lionheart schema results``."""
    return json.dumps(read_schema("results"), indent=2) + "\n"


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(render_schema(), encoding="utf-8")

"""Reader of the constants files of this folder."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from lionheart.constants import Constant, parse_constants

FOLDER = Path(__file__).parent


@cache
def read_file(name: str) -> Mapping[str, Constant]:
    """Return the constants of a file of this folder, each with unit, source and kind."""
    return parse_constants((FOLDER / name).read_text(encoding="utf-8"), name)

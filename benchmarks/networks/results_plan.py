"""The rows of the tables of results and their files, read from benchmarks/networks/results.toml."""

from __future__ import annotations

import itertools
import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from lionheart.errors import ArtifactError, ConfigError, suggest
from lionheart.jobs import MapSettings, read_settings
from lionheart.search import Seconds
from lionheart.spec import Spec
from lionheart.units import format_duration

#: The strategy whose rows have no suffix.
PLAIN_STRATEGY = "training-free"

Images = Literal["all"] | Annotated[int, Field(ge=1)]


class Row(Spec):
    """One row of a table: network, bound, and settings of the search and the measurements."""

    task: str = Field(description="built-in task, or path/to/file.py:function")
    bound: float = Field(gt=0, lt=100, description="largest drop of mean validation accuracy [pp]")
    at: Seconds = Field(86_400.0, ge=0, description="when the bound must hold, after programming [s]")
    strategy: str = Field(PLAIN_STRATEGY, description="strategy of the search")
    preset: str = Field("robust", description="preset of settings")
    config: str | None = Field(None, description="TOML file with more settings, as for lionheart map --config")
    exclude: tuple[str, ...] = Field((), description="rules of projections that stay digital")
    seed: int = Field(0, ge=0, description="root of all random streams")
    chips: int = Field(20, ge=1, description="number of fresh chips of the figures")
    times: tuple[Seconds, ...] = Field(
        min_length=1, description="times of the figures over time, after programming [s]"
    )
    validation_images: Images = Field("all", description="first validation samples of the figures, or all")
    test_images: Images = Field("all", description="first test samples of the figures at the time of the bound, or all")
    time_images: Images = Field("all", description="first test samples of the figures over time, or all")

    @property
    def name(self) -> str:
        """Name of the row: ``TASK@BOUND``, or ``TASK@BOUND:STRATEGY`` for strategies other than training-free."""
        suffix = "" if self.strategy == PLAIN_STRATEGY else f":{self.strategy}"
        return f"{self.task}@{self.bound:g}{suffix}"

    @property
    def stem(self) -> str:
        """Return the name of the row's files within its network's folder."""
        return f"{self.bound:g}" + ("" if self.strategy == PLAIN_STRATEGY else f"-{self.strategy}")

    def settings(self) -> MapSettings:
        """Return the settings of the search; its final figures are minimal, because the row has its own figures."""
        search: dict[str, Any] = {"max_drop_pp": self.bound, "t_inference": self.at, "strategy": self.strategy}
        search |= {"exclude": self.exclude, "n_chips_final": 1, "final_samples": 1, "report_times": ()}
        config = None if self.config is None else Path(self.config)
        return read_settings(self.preset, config, {"search": search, "": {"seed": self.seed}})

    def map_command(self) -> str:
        """Return the command that finds the same mapping without the tables."""
        words = ["lionheart", "map", self.task, "--max-drop", f"{self.bound:g}", "--at", format_duration(self.at)]
        words += ["--preset", self.preset, "--seed", str(self.seed)]
        words += ["--config", self.config] if self.config is not None else []
        settings = [f"search.strategy={self.strategy}"]
        settings += [f"search.exclude={','.join(self.exclude)}"] if self.exclude else []
        settings += [f"search.n_chips_final={self.chips}"]
        return shlex.join([*words, *(word for each in settings for word in ("--set", each))])


def slug(task: str) -> str:
    """Return a file name for a task."""
    return re.sub(r"[^\w.-]+", "_", task)


def read_toml(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file.

    Raises:
        ArtifactError: The file is missing or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ArtifactError(f"{path}: not readable as TOML: {error}", hint="check the path, or fix the file") from error


def read_plan(path: Path) -> list[Row]:
    """Return all rows of a plan, in its order.

    Raises:
        ArtifactError: The file cannot be read.
        ConfigError: A setting is unknown or impossible, there are no rows, or two rows are equal.
    """
    data = read_toml(path)
    unknown = sorted(set(data) - {"defaults", "rows"})
    if unknown or not isinstance(data.get("rows"), list):
        raise ConfigError(
            f"{path}: got {', '.join(unknown) or 'no rows'}, expected [defaults] and [[rows]]", hint="see results.toml"
        )
    rows = list(itertools.chain.from_iterable(_expand(data.get("defaults", {}), each, path) for each in data["rows"]))
    names = [row.name for row in rows]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{path}: {name}: got two such rows, expected one", hint="remove one of the rows")
    return rows


def _expand(defaults: Mapping[str, Any], group: Mapping[str, Any], path: Path) -> Iterator[Row]:
    settings = {**defaults, **group}
    bounds = settings.pop("bounds", None)
    if not isinstance(bounds, list) or not bounds:
        raise ConfigError(f"{path}: bounds: got {bounds!r}, expected a list of numbers", hint="for example [1, 5]")
    for bound in bounds:
        yield Row(**settings, bound=bound)


def select_rows(rows: Sequence[Row], names: Sequence[str] = (), network: str | None = None) -> list[Row]:
    """Return the rows with these names, or of a network given by its task or the last component of the task; default all.

    Raises:
        ConfigError: The row or network is unknown.
    """
    known = {row.name: row for row in rows}
    for name in names:
        if name not in known:
            raise ConfigError(f"row: got {name!r}", hint=suggest(name, known, label="rows"))
    chosen = [known[name] for name in dict.fromkeys(names)] if names else list(rows)
    if network is None:
        return chosen
    tasks = {row.task for row in rows if network in (row.task, row.task.rpartition("/")[2])}
    if not tasks:
        raise ConfigError(
            f"network: got {network!r}", hint=suggest(network, {row.task for row in rows}, label="networks")
        )
    return [row for row in chosen if row.task in tasks]

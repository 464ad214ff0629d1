"""What a mapping run gives, and how a finished run is opened again."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import final

from torch import nn

from lionheart.analog import set_tiles_
from lionheart.errors import ArtifactError, ConfigError
from lionheart.jobs.backend import DEFAULT_BACKEND, find_backend
from lionheart.jobs.settings import MapSettings
from lionheart.mapping import LayerMapping
from lionheart.runs import Results, RunDirectory, SearchOutcome
from lionheart.tables import Block, Printable
from lionheart.tasks import Task
from lionheart.training import load_weights


@final
@dataclass(frozen=True)
class MappingResult(Printable):
    """What a run found.

    Args:
        mapping: Which projections go on tiles.
        model: Retrained, with analog layers in place, ready to be programmed; the task's own model is untouched.
        outcome: ``mapped``, ``infeasible`` (no layer could go analog) or ``budget`` (ended early with the best so far).
        results: Every figure, as in ``results.json``.
        run: The run directory.
    """

    mapping: LayerMapping
    model: nn.Module
    outcome: SearchOutcome
    results: Results
    run: RunDirectory

    def to_blocks(self) -> list[Block]:
        """Return the tables of the results, and the run directory."""
        return [*self.results.to_blocks(), f"run: {self.run.path}"]


def open_finished(run_dir: Path | str) -> RunDirectory:
    """Return a run that has its results.

    Raises:
        ArtifactError: There is no run, or it has not finished.
    """
    run = RunDirectory.open(Path(run_dir))
    run.require_job("map")
    if not run.has("results.json"):
        raise ArtifactError(
            f"{run.path}: the run has not finished", hint=f"continue it with: lionheart map --resume {run.path}"
        )
    return run


def load_result(network: Task | nn.Module, run: RunDirectory, *, backend: str | None = None) -> MappingResult:
    """Return a finished run's result, with its weights in a copy of the digital network, on the run's or another `backend`.

    Args:
        network: The run's task, or its model alone.
        run: A finished run.
        backend: What computes analog layers; None takes the run's.

    Raises:
        ArtifactError: ``results.json`` or the weights are damaged, or belong to another network.
    """
    settings = MapSettings.from_json(run.description().settings)
    results = run.results()
    computing = backend or settings.backend
    computes = find_backend(computing)
    computes.check_tile(settings.tile)
    model = computes.convert_(
        copy.deepcopy(network.model if isinstance(network, Task) else network), results.mapping, settings.tile
    )
    load_weights(run.file("weights.safetensors"), model)
    tiles = {fqn: settings.tile.replace(**changes) for fqn, changes in results.tiles.items()}
    if tiles and computing != DEFAULT_BACKEND:
        raise ConfigError(
            f"backend: got {computing}, expected {DEFAULT_BACKEND}: the run gave layers tiles of their own",
            hint="evaluate it with the backend it was made with",
        )
    set_tiles_(model, tiles)
    return MappingResult(results.mapping, model, results.outcome, results, run)


def load_run(run_dir: Path | str, model: nn.Module, *, backend: str | None = None) -> MappingResult:
    """Open a finished run with the digital network alone: no task and no data.

    Args:
        run_dir: Folder of the run.
        model: The network that the run began with. It is copied; its weights do not matter.
        backend: What computes analog layers; None takes the run's.

    Returns:
        The run's result; its model has the trained weights and the analog layers, in ``eval()`` mode.

    Raises:
        ArtifactError: There is no finished run, a file is damaged, or the run belongs to another network.
    """
    run = open_finished(run_dir)
    try:
        result = load_result(model, run, backend=backend)
    except (ConfigError, ArtifactError) as error:
        known = {name for name, _ in model.named_modules()} | {name for name, _ in model.named_parameters()}
        missing = [fqn for fqn in run.results().mapping.analog if fqn not in known]
        if not missing or isinstance(error, ArtifactError):
            raise
        raise ArtifactError(
            f"{run.path}: the run belongs to another network: got {type(model).__name__} without {missing[0]!r}",
            hint="give the network that the run began with",
        ) from error
    result.model.eval()
    return result

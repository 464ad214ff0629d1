"""The result of a mapping run, and how a finished run is opened again."""

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
    """The result of a mapping run.

    Args:
        mapping: Placement of each projection, on tiles or on the digital core.
        model: Retrained copy of the task's model with analog layers, ready to be programmed. The task's model is unchanged.
        outcome: ``mapped``, ``infeasible`` (no layer could become analog) or ``budget`` (ended early with the best so far).
        results: All results, as in ``results.json``.
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
    """Return the run directory of a finished mapping run.

    Raises:
        ArtifactError: There is no run in `run_dir`, or the run has not finished.
    """
    run = RunDirectory.open(Path(run_dir))
    run.require_job("map")
    if not run.has("results.json"):
        raise ArtifactError(
            f"{run.path}: the run has not finished", hint=f"continue it with: lionheart map --resume {run.path}"
        )
    return run


def load_result(network: Task | nn.Module, run: RunDirectory, *, backend: str | None = None) -> MappingResult:
    """Return the result of a finished run, with its weights in a copy of the digital network.

    Args:
        network: Task of the run, or its model alone.
        run: The finished run.
        backend: Backend that computes analog layers; None = the backend of the run.

    Raises:
        ArtifactError: ``results.json`` or the weights are damaged or belong to another network.
        ConfigError: The backend does not support the tiles of the run.
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
            f"backend: got {computing}, expected {DEFAULT_BACKEND}: the layers of this run have different tile settings",
            hint=f"evaluate the run with the backend {DEFAULT_BACKEND}",
        )
    set_tiles_(model, tiles)
    return MappingResult(results.mapping, model, results.outcome, results, run)


def load_run(run_dir: Path | str, model: nn.Module, *, backend: str | None = None) -> MappingResult:
    """Open a finished run with the digital network alone: no task and no data.

    Args:
        run_dir: Directory of the run.
        model: Digital network of the run. A copy of the network is loaded; the values of its weights are not used.
        backend: Backend that computes analog layers; None = the backend of the run.

    Returns:
        The result of the run. Its model has the trained weights and the analog layers, in ``eval()`` mode.

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
            hint="pass the digital network that the run started from",
        ) from error
    result.model.eval()
    return result

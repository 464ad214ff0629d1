"""`MappingResult`, the result of a mapping run, and functions that load the result of a finished run."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, final

import torch
from torch import nn

from lionheart.analog import analog_layers, find_unprogrammed, set_tiles_
from lionheart.copies import copy_model
from lionheart.data import is_own_pass
from lionheart.errors import ArtifactError, ConfigError, LionHeartWarning, check_type
from lionheart.jobs.backend import DEFAULT_BACKEND, find_backend
from lionheart.jobs.settings import MapSettings
from lionheart.mapping import LayerMapping
from lionheart.runs import Results, RunDirectory, SearchOutcome
from lionheart.tables import Block, Printable
from lionheart.tasks import Task
from lionheart.training import load_weights


@final
class ChipReminder:
    """Forward pre-hook that warns once if a model with analog layers runs in eval mode before a chip is programmed.

    Forward passes of LionHeart itself, such as those of an evaluation before it programs its chips, are left out.
    """

    @classmethod
    def attach_(cls, model: nn.Module) -> nn.Module:
        """Set the model to eval mode, register the hook in it, and return the model."""
        model.register_forward_pre_hook(cls())
        return model.eval()

    def __call__(self, model: nn.Module, inputs: Any) -> None:
        """Remove this hook from `model`, and issue the warning if no chip is programmed."""
        if model.training or torch.compiler.is_compiling() or is_own_pass():
            return
        for key, hook in list(model._forward_pre_hooks.items()):
            if hook is self:
                del model._forward_pre_hooks[key]
        if find_unprogrammed(model):
            warnings.warn(
                "the model of a mapping run computes without a programmed chip, so without programming noise and drift; "
                "program one with lionheart.program_(model), or measure accuracies with lionheart.evaluate",
                LionHeartWarning,
                stacklevel=4,
            )

    def __deepcopy__(self, memo: Any) -> Self:
        return self.__class__()


@final
@dataclass(frozen=True)
class MappingResult(Printable):
    """Result of a mapping run: the mapping, the retrained model and the measured accuracy and cost.

    Args:
        mapping: Placement of each projection (weight matrix), on tiles or on the digital core.
        model: Retrained copy of the task's model with analog layers, ready to be programmed. The task's model is unchanged.
        outcome: ``mapped``, ``infeasible`` (no projection could become analog) or ``budget`` (the search ended early, with the
            best mapping so far).
        results: Accuracy, cost and decisions of the run, as stored in ``results.json``.
        run: Run directory, which contains all files of the run.
    """

    mapping: LayerMapping
    model: nn.Module
    outcome: SearchOutcome
    results: Results
    run: RunDirectory

    def to_blocks(self) -> list[Block]:
        """Return the blocks of the results for printing, and lines on the chip of the model and on the run directory."""
        return [*self.results.to_blocks(), _describe_chip(self.model), f"run: {self.run.path}"]


def _describe_chip(model: nn.Module) -> str:
    if not analog_layers(model):
        return "model: digital"
    if find_unprogrammed(model):
        return "model: no chip is programmed; lionheart.program_(result.model) programs one"
    return "model: programmed on a simulated chip"


def open_finished(run_dir: Path | str) -> RunDirectory:
    """Return the run directory of a finished mapping run.

    Raises:
        ArtifactError: `run_dir` contains no mapping run, or the run has not finished.
    """
    run = RunDirectory.open(run_dir)
    run.require_job("map")
    if not run.has("results.json"):
        raise ArtifactError(
            f"{run.path}: the run has not finished", hint=f"finish the run with: lionheart map --resume {run.path}"
        )
    return run


def load_result(network: Task | nn.Module, run: RunDirectory, *, backend: str | None = None) -> MappingResult:
    """Return the result of a finished run, with a copy of the network that has the run's analog layers and weights.

    Args:
        network: Task with which the run was started, or the model of this task.
        run: Directory of the finished run.
        backend: Name of the simulator of the analog layers; None = the backend of the run.

    Raises:
        ArtifactError: ``results.json`` or the weights are damaged or belong to another network.
        ConfigError: The backend is unknown or does not support the tile settings of the run.
    """
    settings = MapSettings.from_json(run.description().settings)
    results = run.results()
    computing = backend or settings.backend
    computes = find_backend(computing)
    computes.check_tile(settings.tile)
    model = computes.convert_(
        copy_model(network.model if isinstance(network, Task) else network), results.mapping, settings.tile
    )
    load_weights(run.file("weights.safetensors"), model)
    tiles = {
        fqn: results.mapping.tile_of(fqn, settings.tile).replace(**changes) for fqn, changes in results.tiles.items()
    }
    if tiles and computing != DEFAULT_BACKEND:
        raise ConfigError(
            f"backend: got {computing!r}, expected {DEFAULT_BACKEND!r}, as the run has layers with different tile settings",
            hint=f"pass backend={DEFAULT_BACKEND!r}; other backends use the same tile settings for all layers",
        )
    set_tiles_(model, tiles)
    return MappingResult(results.mapping, ChipReminder.attach_(model), results.outcome, results, run)


def load_run(run_dir: Path | str, model: nn.Module, *, backend: str | None = None) -> MappingResult:
    """Load the result of a finished run. Only the digital network is needed, not the task or its data.

    Args:
        run_dir: Directory of the run.
        model: Digital network with which the run was started. The network is copied, and the weights of the copy are replaced.
        backend: Name of the simulator of the analog layers; None = the backend of the run.

    Returns:
        The result of the run. Its model has the trained weights and the analog layers, and is in ``eval()`` mode.

    Raises:
        ArtifactError: `run_dir` contains no finished run, a file is damaged, or the run belongs to another network.
        ConfigError: `model` is not a module, or the backend is unknown or does not support the tile settings of the run.
    """
    check_type(model, nn.Module, "load_run: model", hint="pass the network object itself, not its name or state_dict")
    run = open_finished(run_dir)
    try:
        result = load_result(model, run, backend=backend)
    except (ConfigError, ArtifactError) as error:
        known = {name for name, _ in model.named_modules()} | {name for name, _ in model.named_parameters()}
        missing = [fqn for fqn in run.results().mapping.analog if fqn not in known]
        if not missing or isinstance(error, ArtifactError):
            raise
        raise ArtifactError(
            f"{run.path}: the run belongs to another network: {type(model).__name__} has no layer {missing[0]!r}",
            hint="pass the digital network with which the run was started",
        ) from error
    return result

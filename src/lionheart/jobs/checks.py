"""Checks of a task before a job."""

from __future__ import annotations

from lionheart.data import BatchSource, count_samples
from lionheart.errors import ConfigError
from lionheart.evaluation import Subject, check_first_batches
from lionheart.jobs.backend import DEFAULT_BACKEND
from lionheart.jobs.samples import split_validation
from lionheart.jobs.settings import MapSettings
from lionheart.search import STRATEGIES
from lionheart.tasks import Task

_FEWEST = 2  # chips and samples of a confidence bound or a chip yield


def list_splits(task: Task) -> dict[str, BatchSource]:
    """Return the sources of batches of a task by the name of the split."""
    return {"train": task.train, "validation": task.validation, "test": task.test}


def check_task(task: Task, settings: MapSettings, *, has_loss: bool = True, has_training: bool = True) -> None:
    """Check the first batch of each split of a task with its network, metric and loss, before any file is written.

    Args:
        task: Task of the job.
        settings: Settings of the job.
        has_loss: Whether the job uses the loss of the task.
        has_training: Whether the job trains the network.

    Raises:
        ConfigError: The task cannot be used; the message names the argument of `Task` to change.
    """
    if has_training and settings.train.noise_warmup > 0 and settings.backend != DEFAULT_BACKEND:
        raise ConfigError(
            f"train.noise_warmup: got {settings.train.noise_warmup:g} with backend={settings.backend!r}, whose noise has one "
            "strength only",
            hint=f"set train.noise_warmup=0, or use backend={DEFAULT_BACKEND!r}",
        )
    loss, n_steps = task.loss if has_loss else None, settings.train.steps_per_epoch
    subject = Subject(task.model, task.metric, loss, has_training=has_training, n_steps=n_steps)
    check_first_batches(subject, list_splits(task))


def is_training(settings: MapSettings) -> bool:
    """Return whether a run may retrain the network or use the gradient of its loss. The strategy must exist."""
    search = settings.search
    return STRATEGIES.find(search.strategy).retrains or search.ranking == "hessian"


def check_confidence(task: Task, settings: MapSettings) -> None:
    """Check that there are enough chips and samples for a confidence bound, if the settings ask for one.

    Raises:
        ConfigError: There are fewer than 2 chips, or fewer than 2 validation samples for decisions or for the hold-out test.
    """
    search = settings.search
    asked = "search.confidence_level" if search.confidence_level is not None else "search.chip_yield"
    if search.confidence_level is None and search.chip_yield is None:
        return
    if min(search.n_chips, search.n_chips_final) < _FEWEST:
        raise ConfigError(
            f"{asked}: got n_chips={search.n_chips} and n_chips_final={search.n_chips_final}, expected at least "
            f"{_FEWEST} chips",
            hint=f"raise search.n_chips and search.n_chips_final, or set {asked} to None",
        )
    for kind, source in zip(("decisions", "the hold-out test"), split_validation(task, settings), strict=True):
        if source is not None and (n_samples := count_samples(source)) < _FEWEST:
            raise ConfigError(
                f"{asked}: got {n_samples} validation samples for {kind}, expected at least {_FEWEST}",
                hint=f"give more validation samples, or set {asked} to None",
            )

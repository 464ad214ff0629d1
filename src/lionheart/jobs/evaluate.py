"""Evaluation of a finished run: simulate its mapped network on other chips or at other times since programming."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path

from lionheart.data import take_samples
from lionheart.errors import ArtifactError, ConfigError, LionHeartWarning, check_type, suggest
from lionheart.evaluation import Subject, check_first_batches, evaluate_over_chips, naming_data
from lionheart.files import sha256_file
from lionheart.jobs.checks import list_splits
from lionheart.jobs.measurement.compiling import compiling
from lionheart.jobs.result import load_result
from lionheart.jobs.result import open_finished as open_finished
from lionheart.jobs.samples import calibration_pass
from lionheart.jobs.settings import MapSettings
from lionheart.jobs.times import choose_times
from lionheart.progress import SILENT, Progress
from lionheart.rng import RandomStreams
from lionheart.runs import Evaluation
from lionheart.tasks import Task

SPLITS = ("test", "validation")
TIMES = ("1s", "1h", "1d", "1mo", "1y")


def evaluate_run(
    task: Task,
    run_dir: Path | str,
    *,
    times: str | float | Iterable[str | float] | None = None,
    n_chips: int = 20,
    split: str = "test",
    n_samples: int | None = None,
    seed: int | None = None,
    backend: str | None = None,
    compiled: bool = False,
    progress: Progress = SILENT,
) -> Evaluation:
    """Evaluate the mapped network of a finished run on simulated chips, and write ``evaluation.json`` to the run directory.

    Args:
        task: Task with which the run was started.
        run_dir: Directory of a finished run.
        times: Times since programming: durations such as ``"1d"``, or seconds. None = 1 s, 1 h, 1 d, 1 mo and 1 y, without the
            times at which the device cannot be read.
        n_chips: Number of simulated chips.
        split: Samples on which the network is evaluated: ``test`` or ``validation``.
        n_samples: Number of samples, taken from the start of the split; None = all.
        seed: Seed from which the chips are simulated; None = the seed of the run. With the seed of the run, the chips are the
            chips on which the run's final results were measured.
        backend: Name of the simulator of the analog layers; None = the backend of the run.
        compiled: Whether to run forward passes under `torch.compile`. A short evaluation is not compiled, because compiling
            would take longer than the evaluation.
        progress: Receiver of progress bars and messages.

    Returns:
        The accuracy at each time since programming, and the settings of the evaluation.

    Raises:
        ConfigError: An argument is invalid, the backend is unknown, or the backend does not support the tile settings of the
            run.
        ArtifactError: The run is missing or unfinished, or belongs to another network.
    """
    check_type(task, Task, "task", hint="pass the task of the run")
    if n_chips < 1:
        raise ConfigError(
            f"n_chips: got {n_chips}, expected at least 1",
            hint="set the number of simulated chips, for example n_chips=20",
        )
    run = open_finished(run_dir)
    if split not in SPLITS:
        raise ConfigError(
            f"split: got {split!r}, expected 'test' or 'validation'", hint=suggest(split, SPLITS, label="splits")
        )
    settings = MapSettings.from_json(run.description().settings)
    moments = choose_times(times, TIMES, [settings.tile], "times", progress)
    result = load_result(task, run, backend=backend)
    root = settings.seed if seed is None else seed
    computing = backend or settings.backend
    batches = take_samples(task.test if split == "test" else task.validation, n_samples)

    def measure() -> Evaluation:
        with compiling(result.model, len(batches) * len(moments) * n_chips, enabled=compiled):
            found = evaluate_over_chips(
                result.model,
                batches,
                task.metric,
                times=moments,
                n_chips=n_chips,
                streams=RandomStreams(root).scope("test" if split == "test" else "validate"),
                confidence=settings.search.interval_coverage,
                progress=progress,
                label=f"{split} over time",
                run_calibration=calibration_pass(task),
            )
        return Evaluation(
            split=split,
            metric=task.metric,
            n_samples=n_samples,
            n_chips=n_chips,
            seed=root,
            backend=computing,
            confidence=settings.search.interval_coverage,
            accuracy_over_time=tuple(found),
        )

    subject = Subject(task.model, task.metric, has_training=False)
    check_first_batches(subject, {"train": task.train, split: list_splits(task)[split]})
    listed = ",".join(f"{t:g}" for t in moments)
    samples = "all" if n_samples is None else n_samples
    weights = sha256_file(run.file("weights.safetensors"))[:12]
    key = f"evaluated {split} at {listed} s, {n_chips} chips of seed {root}, {samples} samples, {computing}, {weights}"
    measured: list[Evaluation] = []

    def keep() -> Evaluation:
        measured.append(measure())
        return measured[0]

    try:
        with naming_data(list_splits(task)):
            evaluation = run.journal.once(key, Evaluation, keep)
    except ArtifactError as error:
        if not measured:
            raise
        warnings.warn(f"{error.message}; the results are shown, but not stored", LionHeartWarning, stacklevel=2)
        return measured[0]
    run.write_or_warn("evaluation.json", evaluation)
    return evaluation

"""Accuracy of a finished run over other chips or times."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lionheart.data import take_samples
from lionheart.errors import ConfigError, suggest
from lionheart.evaluation import evaluate_over_chips
from lionheart.files import sha256_file
from lionheart.jobs.measurement.chips import compiling
from lionheart.jobs.result import load_result
from lionheart.jobs.result import open_finished as open_finished
from lionheart.jobs.samples import calibration_pass
from lionheart.jobs.settings import MapSettings
from lionheart.progress import SILENT, Progress
from lionheart.rng import RandomStreams
from lionheart.runs import Evaluation
from lionheart.tasks import Task

SPLITS = ("test", "validation")


def evaluate_run(
    task: Task,
    run_dir: Path | str,
    *,
    times: Sequence[float],
    n_chips: int = 20,
    split: str = "test",
    n_samples: int | None = None,
    seed: int | None = None,
    backend: str | None = None,
    compiled: bool = False,
    progress: Progress = SILENT,
) -> Evaluation:
    """Evaluate the mapped network over fresh chips and times; write ``evaluation.json`` into the run directory.

    Args:
        task: Task of the run.
        run_dir: Directory of a finished run.
        times: Times since programming [s].
        n_chips: Number of simulated chips.
        split: ``test`` or ``validation``.
        n_samples: Number of samples, from the start of the split; None = all.
        seed: Seed of the chips; None = the seed of the run, which gives the chips of the run's own test results.
        backend: Backend that computes analog layers; None = the backend of the run.
        compiled: Whether forward passes run under `torch.compile`, if there are enough passes to repay the compilation.
        progress: Receiver of progress bars and messages.

    Returns:
        The accuracy at each time, with the settings of the evaluation.

    Raises:
        ConfigError: The split or the backend is unknown.
        ArtifactError: The run is missing or unfinished, or belongs to another network.
    """
    run = open_finished(run_dir)
    if split not in SPLITS:
        raise ConfigError(f"split: got {split!r}", hint=suggest(split, SPLITS, label="splits"))
    result = load_result(task, run, backend=backend)
    settings = MapSettings.from_json(run.description().settings)
    root = settings.seed if seed is None else seed
    computing = backend or settings.backend
    batches = take_samples(task.test if split == "test" else task.validation, n_samples)

    def measure() -> Evaluation:
        with compiling(result.model, len(batches) * len(times) * n_chips, enabled=compiled):
            found = evaluate_over_chips(
                result.model,
                batches,
                task.metric,
                times=times,
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

    moments = ",".join(f"{t:g}" for t in times)
    samples = "all" if n_samples is None else n_samples
    weights = sha256_file(run.file("weights.safetensors"))[:12]
    key = f"evaluated {split} at {moments} s, {n_chips} chips of seed {root}, {samples} samples, {computing}, {weights}"
    evaluation = run.journal.once(key, Evaluation, measure)
    run.write("evaluation.json", evaluation)
    return evaluation

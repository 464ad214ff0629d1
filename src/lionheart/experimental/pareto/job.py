"""Job that searches for the mappings on the Pareto front of accuracy against cost, without retraining the network."""

from __future__ import annotations

import uuid
from pathlib import Path

from lionheart.candidates import Candidate
from lionheart.errors import ConfigError, check_type
from lionheart.evaluation import naming_data
from lionheart.experimental.pareto.files import RESULTS, read_front
from lionheart.experimental.pareto.work import ParetoJob, ParetoResult
from lionheart.graph import LayerGraph
from lionheart.jobs.bound import check_bounds, choose_bounds
from lionheart.jobs.checks import list_splits
from lionheart.jobs.context import open_context, require_network
from lionheart.jobs.map import prepare_run
from lionheart.jobs.objective import check_objective
from lionheart.jobs.run_folder import choose_run_dir, describe_run, warn_of_environment, working_on_new
from lionheart.jobs.settings import MapSettings
from lionheart.jobs.times import check_decision_times
from lionheart.progress import SILENT, Progress
from lionheart.record import write_record
from lionheart.runs import RunDirectory, describe_environment
from lionheart.tasks import Task


def find_pareto_front(
    task: Task,
    settings: MapSettings | None = None,
    *,
    storage: str | None = None,
    run_dir: Path | str | None = None,
    command: str = "",
    progress: Progress = SILENT,
) -> ParetoResult:
    """Search for the mappings on the Pareto front of accuracy against cost, without retraining the network.

    A mapping states for each projection (weight matrix) whether it runs on analog tiles or digitally. All mappings are measured
    with the same samples and the same chip seeds, and these measurements determine the front. Mappings on the front are then
    measured again on newly programmed simulated chips and all validation samples. The results contain both measurements. For
    each accuracy bound in the settings, the results name the mapping with the lowest cost that meets the bound in both
    measurements. The test set is not used.

    Args:
        task: Task with model, data and metric.
        settings: Settings of the run; None for the preset ``quick``. The group ``pareto`` sets the objective, the bounds and
            the number of trials. The group ``search`` sets the time since programming, the numbers of chips and samples, the
            rules that select layers by name, and the tile limit. Time and energy are estimated for the first platform in the
            settings.
        storage: URL of the Optuna storage; None for a file in the run directory.
        run_dir: New directory for the run; None for a directory below ``./runs``.
        command: Command line to record in the run description.
        progress: Progress display.

    Returns:
        Results of the search. The same results are in the run directory. If the search is interrupted, the run directory
        contains the front of all mappings measured so far.

    Raises:
        ConfigError: A setting or the storage URL is invalid. No run directory is created.
        GraphError: The model cannot be traced. No run directory is created.
        ArtifactError: The run directory already contains a run or cannot be written, or the storage fails.
    """
    from lionheart.experimental.pareto.search import check_storage, hide_password

    settings = settings or MapSettings.preset()
    graph, candidates = _prepare(task, settings)
    settings = choose_bounds(settings, task.metric)
    check_bounds(task, settings)
    if storage is not None:
        check_storage(storage)  # before any file is created
    path = choose_run_dir(run_dir, f"{task.name}-pareto")
    description = describe_run(task, settings, hide_password(command)).replace(
        job="pareto",
        study=f"lionheart {task.name} {uuid.uuid4().hex[:12]}",
        storage=None if storage is None else hide_password(storage),
    )
    run = RunDirectory.create(path, description)
    with working_on_new(run, task):
        return ParetoJob(open_context(task, settings, graph, candidates, run, progress), run).work(storage)


def resume_pareto_front(
    task: Task, run_dir: Path | str, *, storage: str | None = None, progress: Progress = SILENT
) -> ParetoResult:
    """Resume the search of a stopped or killed run, or return the results of a finished run.

    Args:
        task: Task that the run was started with.
        run_dir: Directory of the run.
        storage: URL of the Optuna storage; None for the file in the run directory. If the run was started with a URL, the URL
            must be given again: a URL in a run directory is not opened, because it may name any file or server.
        progress: Progress display.

    Returns:
        Results of the search, including the measurements from before the interruption.

    Raises:
        ArtifactError: The run does not exist, or the run was started with another network than the network of `task`.
        ConfigError: The run was started with a storage URL, and `storage` is None.
    """
    run = RunDirectory.open(Path(run_dir))
    run.require_job("pareto")
    settings = MapSettings.from_json(run.description().settings)
    graph, candidates = _prepare(task, settings)
    settings = choose_bounds(settings, task.metric)
    if run.has(RESULTS) and any(entry["event"] == "finished" for entry in run.journal.events()):
        require_network(run, graph)
        return ParetoResult(read_front(run), run)
    url = run.description().storage
    if storage is None and url is not None:
        raise ConfigError(
            f"storage: the run was started with the Optuna storage {url!r}, which is not opened unless it is given again",
            hint="give the URL of the storage, with its password if it has one: --storage, or storage= in Python",
        )
    run.require_resumable()
    with run.lock(), naming_data(list_splits(task)):
        warn_of_environment(run, task.device)
        context = open_context(task, settings, graph, candidates, run, progress)
        run.journal.note("resumed", environment=write_record(describe_environment(task.device)))
        return ParetoJob(context, run).work(storage)


def _prepare(task: Task, settings: MapSettings) -> tuple[LayerGraph, tuple[Candidate, ...]]:
    check_type(
        settings, MapSettings, "settings", hint='for example MapSettings.preset("fast", pareto={"n_trials": 30})'
    )
    check_objective("pareto.objective", settings.pareto.objective, settings)
    check_decision_times(settings)
    return prepare_run(task, settings, has_training=False)

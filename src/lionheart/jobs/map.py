"""The mapping job: select the projections that run on analog tiles, under a bound on the accuracy drop."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import final

from torch import nn

from lionheart.analog import convert_to_digital_
from lionheart.candidates import Candidate, find_candidates
from lionheart.copies import copy_model
from lionheart.data import BatchSource
from lionheart.errors import ConfigError, check_type
from lionheart.evaluation import naming_data
from lionheart.graph import LayerGraph
from lionheart.jobs.backend import DEFAULT_BACKEND, find_backend
from lionheart.jobs.bound import choose_bound, find_max_drop, recall_max_drop
from lionheart.jobs.checks import check_confidence, check_task, is_training, list_splits
from lionheart.jobs.context import Context, open_context, require_network
from lionheart.jobs.measurement.chips import digital_accuracy
from lionheart.jobs.measurement.duration import estimate_duration
from lionheart.jobs.objective import check_objective, describe_wish, list_levels, make_objective
from lionheart.jobs.post.compensation import find_refresh_interval, tune_compensation
from lionheart.jobs.post.confirm import confirm_bound
from lionheart.jobs.problem import MappingProblem
from lionheart.jobs.ranking import check_ranking, rank_for_run
from lionheart.jobs.result import ChipReminder, MappingResult, load_result
from lionheart.jobs.run_folder import choose_run_dir, describe_run, warn_of_environment, working_on_new
from lionheart.jobs.settings import MapSettings
from lionheart.jobs.times import describe_limit, fit_times
from lionheart.mapping import LayerMapping
from lionheart.progress import SILENT, Progress
from lionheart.record import write_record
from lionheart.runs import (
    Baseline,
    DigitalBaseline,
    Results,
    RunDirectory,
    SearchOutcome,
    describe_environment,
)
from lionheart.runs.environment import find_environment_cautions
from lionheart.runs.summary import Caution
from lionheart.runs.untried import find_untried
from lionheart.search import STRATEGIES, SearchLoop, SearchResult, check_candidates
from lionheart.system import TilePlan, estimate_system, load_platform
from lionheart.tasks import Task
from lionheart.training import save_weights
from lionheart.units import format_count, format_duration, format_elapsed


def map_layers(
    task: Task,
    settings: MapSettings | None = None,
    *,
    backend: str | None = None,
    run_dir: Path | str | None = None,
    command: str = "",
    progress: Progress = SILENT,
) -> MappingResult:
    """Select the projections (weight matrices) of a network that run on analog tiles, under a bound on the accuracy drop.

    Args:
        task: Model, data and metric.
        settings: Settings of the run, e.g. the bound on the accuracy drop, the tile and the seed; None = the preset ``quick``.
        backend: Name of the simulator of the analog layers; None = the backend named in the settings.
        run_dir: Directory to create for the run; None = a new directory below ``./runs``. If the call fails before the search
            has recorded a decision, the directory is deleted.
        command: Command line that started the run, recorded in ``run.json``.
        progress: Receiver of progress bars and messages.

    Returns:
        The mapping, the retrained model and the results. The run directory contains the mapping, the weights and the results.

    Raises:
        ConfigError: The task or a setting is invalid.
        GraphError: The network cannot be traced.
        ArtifactError: `run_dir` already holds a run, or a file cannot be read or written.
    """
    settings = settings or MapSettings.preset()
    if backend is not None:
        settings = settings.replace(backend=backend)
    graph, candidates = prepare_run(task, settings)
    settings, notes = fit_times(settings)
    for note in notes:
        progress.note(note)
    settings = choose_bound(settings, task.metric)
    check_confidence(task, settings)
    max_drop = find_max_drop(task, settings)  # an error now, not in the new run directory, if it cannot be found
    run = RunDirectory.create(choose_run_dir(run_dir, task.name), describe_run(task, settings, command))
    with working_on_new(run, task):
        recall_max_drop(task, settings, run.journal, max_drop)
        return _MapJob(open_context(task, settings, graph, candidates, run, progress), run).work()


def resume_run(task: Task, run_dir: Path | str, *, finish: bool = False, progress: Progress = SILENT) -> MappingResult:
    """Continue a mapping run that was stopped or killed. If the run is already finished, load its result.

    Args:
        task: Task with which the run was started.
        run_dir: Directory of the run.
        finish: Whether to end the search now and to measure the final results of the best mapping so far.
        progress: Receiver of progress bars and messages.

    Returns:
        The mapping, the retrained model and the results. The run directory contains the mapping, the weights and the results.

    Raises:
        ArtifactError: `run_dir` holds no mapping run, the run belongs to another network, or the run was started with an older
            version of LionHeart whose runs cannot be resumed.
    """
    run = RunDirectory.open(run_dir)
    run.require_job("map")
    settings = MapSettings.from_json(run.description().settings)
    graph, candidates = prepare_run(task, settings)
    settings = choose_bound(settings, task.metric)
    if run.has("results.json"):  # needs no lock, so that a run on a disk without write permission can be read
        require_network(run, graph)
        run.drop_checkpoints()
        return load_result(task, run)
    run.require_resumable()
    with run.lock(), naming_data(list_splits(task)):
        if run.has("results.json"):  # another process has finished the run meanwhile
            return load_result(task, run)
        settings, _ = fit_times(settings, stored=True)
        warn_of_environment(run, task.device)
        context = open_context(task, settings, graph, candidates, run, progress)
        run.journal.note("resumed", environment=write_record(describe_environment(task.device)))
        return _MapJob(context, run, finish=finish).work()


def prepare_run(
    task: Task, settings: MapSettings, *, has_loss: bool = True, has_training: bool = True
) -> tuple[LayerGraph, tuple[Candidate, ...]]:
    """Check the task and the settings, trace the task's network, and list its projections (weight matrices).

    With this check, invalid input raises an error before the search starts.

    Args:
        task: Task of the job.
        settings: Settings of the job.
        has_loss: Whether the job uses the loss of the task.
        has_training: Whether the job trains the network if its strategy retrains.

    Returns:
        The layer graph, and all projections of the network, including projections that must stay digital.

    Raises:
        ConfigError: The task or a setting is invalid.
        GraphError: The network cannot be traced.
    """
    check_type(
        task, Task, "task", hint="pass lionheart.Task(model, train, validation, test), or lionheart.build_task(name)"
    )
    check_type(settings, MapSettings, "settings", hint='for example MapSettings.preset("fast", max_drop_pp=1)')
    has_training = has_training and is_training(settings)
    backend = find_backend(settings.backend)
    for level in list_levels(settings):
        backend.check_tile(level.apply(settings.tile))
    check_task(task, settings, has_loss=has_loss, has_training=has_training)
    graph = task.trace()
    search = settings.search
    candidates = find_candidates(graph, settings.tile, include=search.include, exclude=search.exclude)
    for name in settings.platforms:  # an operation without a cost is an error now, not after hours of search
        estimate_system(graph, LayerMapping.all_digital(graph), load_platform(name))
    check_objective("search.objective", search.objective, settings)
    check_ranking(settings)
    if search.tune_compensation and settings.backend != DEFAULT_BACKEND:
        raise ConfigError(
            f"search.tune_compensation=True needs backend={DEFAULT_BACKEND!r}, got backend={settings.backend!r}",
            hint=f"use search.tune_compensation=False or backend={DEFAULT_BACKEND!r}; other backends use "
            "the same tile settings for all layers",
        )
    if search.refresh_interval and settings.tile.reprogram_after is not None:
        raise ConfigError(
            "search.refresh_interval=True cannot be combined with tile.reprogram_after, which already sets the interval",
            hint="set search.refresh_interval=False or tile.reprogram_after=None",
        )
    check_candidates(search.strategy, [candidate for candidate in candidates if candidate.is_mappable])
    return graph, tuple(candidates)


@final
class _MapJob:
    """Execution of a mapping run. The journal stores each decision, so that the run can be killed and resumed at any time."""

    def __init__(self, context: Context, run: RunDirectory, *, finish: bool = False) -> None:
        self.context, self.run = context, run
        self._begin = time.perf_counter()
        self._note_start()
        self.model = copy_model(context.task.model)
        self.problem = MappingProblem(context, self.model, run, finish=finish)

    def work(self) -> MappingResult:
        """Run the search and the steps that follow, measure the final results, and return the result of the run.

        The results are also written to the run directory.
        """
        context, problem = self.context, self.problem
        baseline = self._measure_baseline()
        ranked = rank_for_run(context, problem)
        loop = self._make_loop(ranked)
        self._note_duration(ranked)
        try:
            STRATEGIES.find(context.settings.search.strategy).search(loop)
        except KeyboardInterrupt:
            mapping = problem.return_to_accepted()
            self._write_mapping(mapping)
            share = f"{100 * mapping.analog_mac_share(context.graph):.1f} % of the MACs analog"
            context.progress.note(
                f"search stopped; the best mapping so far, {share}, is in {self.run.file('mapping.json')}"
            )
            raise
        found = loop.result()
        context.progress.note(
            f"search ended ({found.outcome}) after {format_elapsed(self._search_s(found))}; measuring the final results"
        )
        results = self._post_process(found, loop, baseline)
        self._write_mapping(results.mapping)
        self.run.write("results.json", results)
        self.run.journal.note("finished", outcome=str(results.outcome))
        self.run.drop_checkpoints()
        model = ChipReminder.attach_(self.model)
        return MappingResult(results.mapping, model, results.outcome, self.run.results(), self.run)

    def _make_loop(self, ranked: list[Candidate]) -> SearchLoop:
        search = self.context.settings.search
        return SearchLoop(
            self.problem,
            ranked,
            LayerMapping.all_digital(self.context.graph),
            max_drop_pp=self.context.max_drop,
            objective=make_objective(self.context),
            early_stop=STRATEGIES.find(search.strategy).early_stop,
            levels=list_levels(self.context.settings),
        )

    def _measure_baseline(self) -> DigitalBaseline:
        """Return two accuracies of the digital network: on the samples used for decisions, and on those for final results.

        Both are sets of validation samples. Each accuracy is measured once per run and then read from the journal.
        """
        chips, context = self.problem.chips, self.context
        is_new = not context.journal.has("baseline")

        def measure() -> DigitalBaseline:
            decision = final = context.task.metric.score_set(chips.reference)
            if chips.final_validation is not chips.validation:
                label = "digital baseline, validation of the final results"
                final = self._digital_accuracy(context.task.model, chips.final_validation, label)
            return DigitalBaseline(decision=decision, validation=final)

        baseline = context.journal.once("baseline", DigitalBaseline, measure)
        if is_new:
            n = len(chips.reference)
            whole = chips.validation is context.task.validation
            samples = "validation samples" if whole else f"first {n} validation samples"
            shown = context.task.metric.format_value(baseline.decision)
            context.progress.note(f"digital baseline: {shown} on the {samples} used for decisions")
        return baseline

    def _post_process(self, found: SearchResult, loop: SearchLoop, baseline: DigitalBaseline) -> Results:
        context, problem = self.context, self.problem
        changes = tune_compensation(context, problem, found.mapping)
        mapping, tests, guarantee = confirm_bound(context, problem, loop, found)
        if found.mapping.analog and not mapping.analog:
            found = replace(found, outcome=SearchOutcome.INFEASIBLE)
        notes = loop.objective.explain(mapping, [candidate.node.fqn for candidate in loop.candidates])
        found = replace(found, mapping=mapping, notes=notes)
        refresh = find_refresh_interval(context, problem, mapping)
        tiles = {fqn: settings for fqn, settings in changes.items() if mapping.is_analog(fqn)}
        results = self._measure_final_figures(
            found, baseline, TilePlan.from_changes(context.settings.tile, tiles, mapping)
        )
        return results.replace(
            untried=find_untried(results, [candidate.node.fqn for candidate in context.mappable]),
            cautions=self.find_cautions(),
            tiles=tiles,
            refresh=refresh,
            holdout_tests=tests,
            guarantee=guarantee,
            rescaling=context.rescaling,
            elapsed_s=self._search_s(found),
            final_figures_s=time.perf_counter() - self._begin,
        )

    def _measure_final_figures(self, found: SearchResult, baseline: DigitalBaseline, plan: TilePlan) -> Results:
        context, chips = self.context, self.problem.chips
        task, graph, search, mapping = context.task, context.graph, context.settings.search, found.mapping
        validation = chips.validate()
        test = chips.test()
        baseline_test = self._digital_accuracy(task.model, chips.final_test, "digital baseline, test")
        retrained = convert_to_digital_(copy_model(self.model))
        retrained_test = self._digital_accuracy(retrained, chips.final_test, "retrained network, digital, test")
        partitions = context.partitions
        system = [
            estimate_system(graph, mapping, load_platform(name), partitions, tile=plan).summary()
            for name in context.settings.platforms
        ]
        return Results(
            outcome=found.outcome,
            metric=task.metric,
            max_drop_pp=context.max_drop,
            max_drop=search.max_drop,
            t_inference=search.t_inference,
            confidence=search.interval_coverage,
            mapping=mapping,
            analog_mac_share=mapping.analog_mac_share(graph),
            analog_weight_share=mapping.analog_weight_share(graph),
            objective=search.objective,
            n_tiles=sum(partitions[fqn].n_tiles for fqn in mapping.analog),
            max_tiles=search.max_tiles,
            notes=dict(found.notes),
            final_samples=search.final_samples,
            baseline=Baseline(validation_accuracy=baseline.validation, test_accuracy=baseline_test),
            validation=min(validation, key=lambda each: task.metric.rank(each.mean)),
            validation_over_time=tuple(validation),
            decisions=found.decisions,
            test_over_time=tuple(test),
            retrained_test_accuracy=retrained_test,
            n_steps=sum(decision.train.n_steps for decision in found.decisions),
            system=tuple(system),
        )

    def find_cautions(self) -> tuple[Caution, ...]:
        """Return the cautions that do not follow from the results: limits of the device, and where the run was resumed."""
        limits = [Caution(code="limited_times", text=text) for text in describe_limit(self.context.settings)]
        return (*limits, *find_environment_cautions(self.run.description(), self.run.journal.events()))

    def _digital_accuracy(self, model: nn.Module, batches: BatchSource, label: str) -> float:
        return digital_accuracy(model, batches, self.context.task, self.context.progress, label)

    def _search_s(self, found: SearchResult) -> float:
        """Return the total wall time of all decisions and other measurements of the run [s], including time before a resume."""
        return sum(decision.elapsed_s for decision in found.decisions) + self.problem.measuring_s()

    def _write_mapping(self, mapping: LayerMapping) -> None:
        metadata = {"task": self.context.task.name, "mapping": write_record(mapping)}
        save_weights(self.run.file("weights.safetensors"), self.model, metadata)
        mapping.save(self.run.file("mapping.json"))

    def _note_start(self) -> None:
        context, search = self.context, self.context.settings.search
        context.progress.note(
            f"{context.task.name}: {len(context.mappable)} candidates, {format_count(context.graph.macs)}MACs; bound "
            f"{context.task.metric.format_bound(context.max_drop, search.max_drop)} "
            f"at {format_duration(search.t_inference)}, {search.n_chips} chips per decision"
            f"{describe_wish(context.settings)}; run in {self.run.path}"
        )

    def _note_duration(self, ranked: list[Candidate]) -> None:
        """If the strategy is ``lionheart``, show a message with an upper limit on the duration of the remaining trials.

        This strategy makes one trial, with retraining and evaluation, for each projection in `ranked`.
        """
        n_left = len(ranked) - self.problem.n_decided
        if n_left and self.context.settings.search.strategy == "lionheart":
            self.problem.n_trials = len(ranked)
            everything = LayerMapping.from_analog(self.context.graph, [candidate.node.fqn for candidate in ranked])
            longest = format_elapsed(estimate_duration(self.context, self.problem.chips, everything, n_left))
            self.context.progress.note(f"{n_left} trials with retraining and evaluation: at most about {longest}")

"""The main job: an accuracy-constrained analog/digital mapping of a task's network."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from torch import nn

from lionheart.analog import convert_to_digital_, set_tiles_
from lionheart.candidates import Candidate, find_candidates, record_graph
from lionheart.errors import ArtifactError, ConfigError
from lionheart.graph import LayerGraph
from lionheart.jobs.backend import DEFAULT_BACKEND, find_backend
from lionheart.jobs.measurement.chips import digital_accuracy
from lionheart.jobs.measurement.ranking import check_ranking, rank_for_run
from lionheart.jobs.objective import PRICED, check_objective, make_objective
from lionheart.jobs.post.compensation import choose_corrections, find_reprogramming_age
from lionheart.jobs.post.holdout import certify_mapping
from lionheart.jobs.problem import MappingProblem
from lionheart.jobs.settings import MapSettings
from lionheart.mapping import LayerMapping
from lionheart.progress import SILENT, Progress
from lionheart.record import read_record, write_record
from lionheart.runs import RunDirectory, describe_environment
from lionheart.runs.directory import timestamp
from lionheart.search import SearchOutcome, SearchResult, check_candidates, find_strategy
from lionheart.system import estimate_system, load_platform
from lionheart.tasks import Task
from lionheart.training import load_weights, save_weights
from lionheart.units import format_count, format_duration, format_elapsed


@final
@dataclass(frozen=True)
class MappingResult:
    """What a run found.

    Args:
        mapping: Which projections go on tiles.
        model: Retrained, with analog layers in place, ready to be programmed; the task's own model is untouched.
        outcome: ``mapped``, ``infeasible`` (no layer could go analog) or ``budget`` (ended early with the best so far).
        results: Every figure as plain data, as in ``results.json``.
        run: The run directory.
    """

    mapping: LayerMapping
    model: nn.Module
    outcome: SearchOutcome
    results: Mapping[str, Any]
    run: RunDirectory


def map_layers(
    task: Task,
    settings: MapSettings | None = None,
    *,
    backend: str | None = None,
    run_dir: Path | str | None = None,
    command: str = "",
    progress: Progress = SILENT,
) -> MappingResult:
    """Map a task's network under an accuracy bound.

    Args:
        task: Model, data, metric.
        settings: Bound, tile, training, platforms, seed, backend; None takes the defaults.
        backend: What computes analog layers; None takes the settings'.
        run_dir: A new folder for the run; None makes one below ``./runs``.
        command: Written down so that the run can be repeated.
        progress: Where work shows itself.

    Returns:
        The mapping, the retrained model and all figures; the same is in the run directory.

    Raises:
        ConfigError, GraphError, ArtifactError: Bad input; nothing is left behind.
    """
    settings = settings or MapSettings()
    if backend is not None:
        settings = settings.replace(backend=backend)
    graph, candidates = prepare_run(task, settings)
    path = Path(run_dir) if run_dir is not None else default_run_dir(task.name)
    run = RunDirectory.create(path, describe_run(task, settings, command))
    with run.lock():
        run.write("graph.json", write_record(record_graph(graph, candidates)))
        return _search(task, graph, candidates, settings, run, progress)


def resume_run(task: Task, run_dir: Path | str, *, finish: bool = False, progress: Progress = SILENT) -> MappingResult:
    """Go on with a run that was stopped or killed; a finished run is loaded as it is.

    Args:
        task: The same task as before.
        run_dir: The run's folder.
        finish: Search no further: measure the final figures of the best mapping so far, as if the budget were spent.
        progress: Where work shows itself.

    Raises:
        ArtifactError: There is no run, or it belongs to another network.
    """
    run = RunDirectory.open(Path(run_dir))
    run.require_job("map")
    settings = MapSettings.from_json(run.description()["settings"])
    graph, candidates = prepare_run(task, settings)
    with run.lock():
        if not run.has("graph.json"):
            run.write("graph.json", write_record(record_graph(graph, candidates)))
        if run.read("graph.json").get("projections") != write_record(graph)["projections"]:
            raise ArtifactError(
                f"{run.path}: the run belongs to a network with other projections",
                hint="resume with the task it began with",
            )
        if run.has("results.json"):
            run.drop_checkpoints()
            return load_result(task, run)
        run.record("resumed", environment=describe_environment(task.device))
        return _search(task, graph, candidates, settings, run, progress, finish=finish)


def load_result(task: Task, run: RunDirectory, *, backend: str | None = None) -> MappingResult:
    """Return a finished run's result, with its weights in a copy of the task's model, on the run's or another `backend`.

    Raises:
        ArtifactError: ``results.json`` or the weights are damaged, or belong to another network.
    """
    settings = MapSettings.from_json(run.description()["settings"])
    results = run.read("results.json")
    where = run.file("results.json")
    mapping = read_record(LayerMapping, results.get("mapping"), f"{where}: mapping")
    outcome = results.get("outcome")
    if outcome not in list(SearchOutcome):
        raise ArtifactError(
            f"{where}: outcome: got {outcome!r}, expected one of {', '.join(SearchOutcome)}",
            hint="the file is damaged; restore it",
        )
    computes = find_backend(backend or settings.backend)
    computes.check_tile(settings.tile)
    model = computes.convert_(copy.deepcopy(task.model), mapping, settings.tile)
    load_weights(run.file("weights.safetensors"), model)
    tiles = {fqn: settings.tile.replace(**changes) for fqn, changes in results.get("tiles", {}).items()}
    computing = backend or settings.backend
    if tiles and computing != DEFAULT_BACKEND:
        raise ConfigError(
            f"backend: got {computing}, expected {DEFAULT_BACKEND}: the run gave layers tiles of their own",
            hint="evaluate it with the backend it was made with",
        )
    set_tiles_(model, tiles)
    return MappingResult(mapping, model, SearchOutcome(outcome), results, run)


def default_run_dir(name: str) -> Path:
    """Return a new folder name below ``./runs``."""
    base = Path("runs") / f"{name.replace('/', '-')}-{time.strftime('%Y%m%d-%H%M%S')}"
    return next(p for i in range(1000) if not (p := base if i == 0 else base.with_name(f"{base.name}-{i}")).exists())


def describe_run(task: Task, settings: MapSettings, command: str) -> dict[str, Any]:
    """Return what ``run.json`` keeps."""
    environment = describe_environment(task.device)
    return {
        "lionheart_version": environment["lionheart"],
        "created": timestamp(),
        "task": task.name,
        "measure": task.measure.to_json(),
        "seed": settings.seed,
        "command": command,
        "settings": settings.to_json(),
        "environment": environment,
    }


def prepare_run(task: Task, settings: MapSettings) -> tuple[LayerGraph, list[Candidate]]:
    """Trace the network and find its candidates; whatever would stop the run later raises now."""
    find_strategy(settings.search.strategy)
    find_backend(settings.backend).check_tile(settings.tile)
    graph = task.trace()
    search = settings.search
    candidates = find_candidates(graph, settings.tile, include=search.include, exclude=search.exclude)
    for name in settings.platforms:  # an operation without a price is an error now, not after hours of search
        estimate_system(graph, LayerMapping.all_digital(graph), load_platform(name))
    check_objective("search.objective", search.objective, settings)
    check_ranking(settings)
    if search.choose_corrections and settings.backend != DEFAULT_BACKEND:
        raise ConfigError(
            f"search.choose_corrections: got backend {settings.backend}, expected {DEFAULT_BACKEND}",
            hint="other simulators have one tile for all layers; leave it out, or use our own physics",
        )
    if search.find_reprogramming and settings.tile.reprogram_after is not None:
        raise ConfigError(
            "search.find_reprogramming: the tile says already when chips are programmed anew (reprogram_after)",
            hint="leave one of them out",
        )
    check_candidates(search.strategy, [candidate for candidate in candidates if candidate.is_mappable])
    if len(task.train_batches) == 0:
        raise ConfigError("task.train: got no batches, expected at least one", hint="check the training data")
    return graph, candidates


def _search(
    task: Task,
    graph: LayerGraph,
    candidates: list[Candidate],
    settings: MapSettings,
    run: RunDirectory,
    progress: Progress,
    *,
    finish: bool = False,
) -> MappingResult:
    begin = time.perf_counter()
    search = settings.search
    n_candidates = sum(candidate.is_mappable for candidate in candidates)
    progress.note(
        f"{task.name}: {n_candidates} candidates, {format_count(graph.macs)}MACs; bound "
        f"{search.max_drop_pp:g} {task.measure.drop_unit} "
        f"at {format_duration(search.t_inference)}, {search.n_chips} chips a decision{_describe_wish(settings)}; "
        f"run in {run.path}"
    )
    model = copy.deepcopy(task.model)
    problem = MappingProblem(task, model, LayerMapping.all_digital(graph), settings, run, progress, finish=finish)
    baseline = _baseline(task, problem, run)
    ranked = rank_for_run(candidates, graph, settings, problem)
    objective = make_objective(graph, candidates, settings)
    n_left = len(ranked) - len(problem.past_decisions())
    if n_left and search.strategy == "lionheart":
        problem.n_trials = len(ranked)
        everything = LayerMapping.from_analog(graph, [candidate.node.fqn for candidate in ranked])
        longest_s = problem.estimate_duration(everything, n_left)
        progress.note(f"{n_left} trials of retraining and evaluation: at most about {format_elapsed(longest_s)}")
    try:
        found = find_strategy(search.strategy)(
            problem,
            ranked,
            LayerMapping.all_digital(graph),
            max_drop_pp=search.max_drop_pp,
            objective=objective,
        )
    except KeyboardInterrupt:
        mapping = problem.return_to_accepted()
        _write_mapping(task, mapping, problem, run)
        share = f"{100 * mapping.analog_mac_share(graph):.1f} % of the MACs analog"
        progress.note(f"search stopped; the best mapping so far, {share}, is in {run.file('mapping.json')}")
        raise
    elapsed_s = sum(d.elapsed_s for d in found.decisions) + problem.measuring_s()
    progress.note(f"search ended ({found.outcome}) after {format_elapsed(elapsed_s)}; measuring the final figures")
    tiles = choose_corrections(problem, found.mapping, graph, run)
    mapping, tests = certify_mapping(problem, found, run)
    if found.mapping.analog and not mapping.analog:
        found = replace(found, outcome=SearchOutcome.INFEASIBLE)
    notes = objective.explain(mapping, [candidate.node.fqn for candidate in ranked])
    found = replace(found, mapping=mapping, notes=notes)
    reprogramming = find_reprogramming_age(problem, mapping, run)
    results = _final_figures(task, graph, problem, found, baseline)
    results["tiles"] = {fqn: changes for fqn, changes in tiles.items() if mapping.is_analog(fqn)}
    results["reprogramming"] = reprogramming
    results["certificate"] = tests
    results["elapsed_s"] = sum(d.elapsed_s for d in found.decisions) + problem.measuring_s()
    results["final_figures_s"] = time.perf_counter() - begin
    _write_mapping(task, found.mapping, problem, run)
    run.write("results.json", results)
    run.record("finished", outcome=str(found.outcome))
    run.drop_checkpoints()
    return MappingResult(found.mapping, model, found.outcome, run.read("results.json"), run)


def _describe_wish(settings: MapSettings) -> str:
    """Return what is made small and the limit of tiles, where they are not the default."""
    search = settings.search
    wish = "" if search.objective == "macs" else f"; least {search.objective}"
    wish += f" on {settings.platforms[0]}" if search.objective in PRICED else ""
    return wish if search.max_tiles is None else f"{wish}; at most {search.max_tiles} tiles"


def _write_mapping(task: Task, mapping: LayerMapping, problem: MappingProblem, run: RunDirectory) -> None:
    metadata = {"task": task.name, "mapping": write_record(mapping)}
    save_weights(run.file("weights.safetensors"), problem.model, metadata)
    mapping.save(run.file("mapping.json"))


def _baseline(task: Task, problem: MappingProblem, run: RunDirectory) -> dict[str, float]:
    """Return the digital accuracy on the samples that decide and those of the final figures; measured once for a run."""
    past = run.events("baseline")
    if past:
        return dict(past[0]["accuracy"])
    model, progress = task.model, problem.progress
    decision = float(problem.meter.reference.mean())
    final = decision
    if problem.meter.final_validation is not problem.meter.validation:
        label = "digital baseline, validation of the final figures"
        final = digital_accuracy(model, problem.meter.final_validation, task, progress, label)
    accuracy = {"decision": decision, "validation": final}
    run.record("baseline", accuracy=accuracy)
    progress.note(f"digital baseline: {task.measure.format_value(decision)} on the {_sample_note(problem)} that decide")
    return accuracy


def _sample_note(problem: MappingProblem) -> str:
    n = len(problem.meter.reference)
    return (
        "validation samples" if problem.meter.validation is problem.task.validation else f"first {n} validation samples"
    )


def _final_figures(
    task: Task, graph: LayerGraph, problem: MappingProblem, found: SearchResult, baseline: Mapping[str, float]
) -> dict[str, Any]:
    search, mapping = problem.settings.search, found.mapping
    over_time = [each.to_json() for each in problem.meter.validate()]
    validation = min(over_time, key=lambda each: each["mean"])
    drop_pp = 100 * (baseline["validation"] - validation["mean"])
    validation["drop_pp"] = round(drop_pp, 9)  # free of rounding dust: a drop of exactly the bound is within it
    test = [estimate.to_json() for estimate in problem.meter.test()]
    samples = problem.meter.final_test
    baseline_test = digital_accuracy(task.model, samples, task, problem.progress, "digital baseline, test")
    retrained = convert_to_digital_(copy.deepcopy(problem.model))
    retrained_test = digital_accuracy(retrained, samples, task, problem.progress, "retrained network, digital, test")
    tile = problem.settings.tile
    partitions = {c.node.fqn: c.partition for c in find_candidates(graph, tile)}
    system = [
        estimate_system(graph, mapping, load_platform(name), partitions, tile=tile).summary().to_json()
        for name in problem.settings.platforms
    ]
    return {
        "outcome": str(found.outcome),
        "measure": task.measure.to_json(),
        "max_drop_pp": search.max_drop_pp,
        "t_inference": search.t_inference,
        "confidence": search.confidence,
        "mapping": write_record(mapping),
        "analog_mac_share": mapping.analog_mac_share(graph),
        "analog_weight_share": mapping.analog_weight_share(graph),
        "objective": search.objective,
        "n_tiles": sum(partitions[fqn].n_tiles for fqn in mapping.analog),
        "max_tiles": search.max_tiles,
        "notes": dict(found.notes),
        "final_samples": search.final_samples,
        "baseline": {"validation_accuracy": baseline["validation"], "test_accuracy": baseline_test},
        "validation": validation,
        "validation_over_time": over_time,
        "decisions": [decision.to_json() for decision in found.decisions],
        "test_over_time": test,
        "test_digital_accuracy": retrained_test,
        "n_steps": sum(int(d.train["n_steps"]) for d in found.decisions),
        "system": system,
    }

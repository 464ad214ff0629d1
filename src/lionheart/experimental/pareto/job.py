"""The front of accuracy against analog MACs, time or energy, with the network's weights as they are."""

from __future__ import annotations

import copy
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, final

from lionheart.analog import calibrate_input_ranges_, seed_noise_
from lionheart.candidates import Candidate, record_graph
from lionheart.data import BatchSource, call_model, move_batch
from lionheart.errors import ArtifactError, ConfigError
from lionheart.evaluation import evaluate_over_chips
from lionheart.experimental.pareto.front import MeasuredMapping, best_within, nested_prefixes, non_dominated
from lionheart.graph import LayerGraph
from lionheart.jobs.backend import find_backend
from lionheart.jobs.map import default_run_dir, describe_run, prepare_run
from lionheart.jobs.measurement.chips import compiling, digital_accuracy
from lionheart.jobs.measurement.sensitivity import measure_loss_increase
from lionheart.jobs.objective import check_objective, find_system, make_objective
from lionheart.jobs.samples import calibration_pass, take_samples
from lionheart.jobs.settings import MapSettings
from lionheart.mapping import LayerMapping
from lionheart.progress import SILENT, Progress
from lionheart.record import read_record, write_record
from lionheart.rng import RandomStreams
from lionheart.runs import RunDirectory, describe_environment
from lionheart.search import order_by_sensitivity
from lionheart.tasks import Task
from lionheart.units import format_count, format_duration, format_elapsed

RESULTS = "pareto.json"
_STORAGE = "study.db"  # in the run directory, unless the user names another place
_ROUNDING_PP = 1e-9


@final
@dataclass(frozen=True)
class ParetoResult:
    """A front of mappings.

    Args:
        results: Everything measured, the front, and the best mapping for each bound, as in ``pareto.json``.
        run: The run directory.
    """

    results: Mapping[str, Any]
    run: RunDirectory

    def mapping_within(self, bound_pp: float) -> LayerMapping | None:
        """Return the front's best mapping within one of the settings' bounds; None if nothing is within it.

        Raises:
            ConfigError: The settings do not have this bound.
        """
        bounds = {row["max_drop_pp"]: row["number"] for row in self.results["bounds"]}
        if bound_pp not in bounds:
            raise ConfigError(f"bound: got {bound_pp:g} pp", hint=f"the run has {', '.join(f'{b:g}' for b in bounds)}")
        found = [row for row in self.results["mappings"] if row["number"] == bounds[bound_pp]]
        return read_record(LayerMapping, found[0]["mapping"], "mapping") if found else None


def find_pareto_front(
    task: Task,
    settings: MapSettings | None = None,
    *,
    storage: str | None = None,
    run_dir: Path | str | None = None,
    command: str = "",
    progress: Progress = SILENT,
) -> ParetoResult:
    """Measure mappings on the way to the front of accuracy against cost, without retraining.

    Every mapping is measured with the same samples and the same seeds of chips, and the front is chosen by these. Its members
    are measured once more, on fresh chips and all of validation; both figures are in the results, and the mapping of a bound
    must be within it by both. Test is not touched.

    Args:
        task: Model, data, metric.
        settings: ``pareto`` says what is weighed against accuracy and how long; of ``search`` count time, chips, samples, rules
            of names and the limit of tiles; the first platform prices.
        storage: Where Optuna keeps the study, as an URL; None = a file in the run directory.
        run_dir: A new folder for the run; None makes one below ``./runs``.
        command: Written down so that the run can be repeated.
        progress: Where work shows itself.

    Returns:
        The results; the same is in the run directory, and the front so far is there when this is stopped.

    Raises:
        ConfigError, GraphError, ArtifactError: Bad input; nothing is left behind.
    """
    from lionheart.experimental.pareto.search import hide_password, open_storage

    settings = settings or MapSettings()
    graph, candidates = _prepare(task, settings)
    if storage is not None:
        with open_storage(storage):
            pass  # a wrong one is an error before anything is made
    path = Path(run_dir) if run_dir is not None else default_run_dir(f"{task.name}-pareto")
    description = describe_run(task, settings, hide_password(command))
    description |= {
        "job": "pareto",
        "study": f"lionheart {task.name} {uuid.uuid4().hex[:12]}",
        "storage": None if storage is None else hide_password(storage),
    }
    run = RunDirectory.create(path, description)
    with run.lock():
        run.write("graph.json", write_record(record_graph(graph, candidates)))
        return _ParetoJob(task, graph, candidates, settings, run, progress).work(storage)


def resume_pareto_front(
    task: Task, run_dir: Path | str, *, storage: str | None = None, progress: Progress = SILENT
) -> ParetoResult:
    """Go on with a run that was stopped or killed; a finished run is loaded as it is.

    Args:
        task: The same task as before.
        run_dir: The run's folder.
        storage: Where the study is kept, or from now on; None = where it was. Its password is never written down, so an URL
            that had one must be given again.
        progress: Where work shows itself.

    Raises:
        ArtifactError: There is no such run, or it belongs to another network.
    """
    run = RunDirectory.open(Path(run_dir))
    run.require_job("pareto")
    settings = MapSettings.from_json(run.description()["settings"])
    url = storage or run.description().get("storage")
    if storage is None and url is not None and "***" in url:
        raise ConfigError(
            f"storage: the password of {url} was not written down", hint="give the whole URL again with --storage"
        )
    graph, candidates = _prepare(task, settings)
    with run.lock():
        if not run.has("graph.json"):
            run.write("graph.json", write_record(record_graph(graph, candidates)))
        if run.read("graph.json").get("projections") != write_record(graph)["projections"]:
            raise ArtifactError(
                f"{run.path}: the run belongs to a network with other projections",
                hint="resume with the task it began with",
            )
        if run.events("finished") and run.has(RESULTS):
            return ParetoResult(run.read(RESULTS), run)
        run.record("resumed", environment=describe_environment(task.device))
        return _ParetoJob(task, graph, candidates, settings, run, progress).work(url)


def _prepare(task: Task, settings: MapSettings) -> tuple[LayerGraph, list[Candidate]]:
    check_objective("pareto.objective", settings.pareto.objective, settings)
    return prepare_run(task, settings)


@final
class _ParetoJob:
    """One run on its way to a front. What was measured is in the journal, so it can be killed anywhere."""

    def __init__(
        self,
        task: Task,
        graph: LayerGraph,
        candidates: Sequence[Candidate],
        settings: MapSettings,
        run: RunDirectory,
        progress: Progress,
    ) -> None:
        self.task, self.graph, self.settings, self.run, self.progress = task, graph, settings, run, progress
        self.streams, self.backend = RandomStreams(settings.seed), find_backend(settings.backend)
        self.candidates = [each for each in candidates if each.is_mappable]
        self.objective = make_objective(graph, candidates, settings, settings.pareto.objective)
        self.n_allowed = self.objective.count_fitting([each.node.fqn for each in self.candidates])
        self.n_wanted = min(settings.pareto.n_trials, self.n_allowed)
        self.system = find_system(graph, candidates, settings)
        self.samples = take_samples(task.validation, settings.search.validation_samples)
        self.baseline: dict[str, float] = {}
        self._read_journal()

    def work(self, storage: str | None) -> ParetoResult:
        """Search and measure again; whatever ends this, what there is by then is written."""
        try:
            self._measure_baseline()
            self._search(storage or f"sqlite:///{self.run.file(_STORAGE)}")
            for each in non_dominated(self.measured):
                self._measure_again(each.mapping)
        except BaseException:
            self._read_journal()  # Ctrl-C may come between writing a measurement down and keeping it
            if self.baseline:
                self._write(complete=False)
            raise
        self._write(complete=True)
        self.run.record("finished")
        return ParetoResult(self.run.read(RESULTS), self.run)

    def _read_journal(self) -> None:
        self.measured = [_read_measured(event, self.graph) for event in self.run.events("measured")]
        self.fresh = {tuple(event["analog"]): event["accuracy"] for event in self.run.events("fresh")}

    # -- what is measured ----------------------------------------------------------------------------------------------

    def _measure_baseline(self) -> None:
        """Measure the digital network on the samples that decide and on all of validation; once for a run."""
        past = self.run.events("baseline")
        if past:
            self.baseline = dict(past[0]["accuracy"])
            return
        model, task = self.task.model, self.task
        decision = digital_accuracy(model, self.samples, task, self.progress, "digital baseline")
        whole = decision
        if self.samples is not task.validation:
            whole = digital_accuracy(model, task.validation, task, self.progress, "digital baseline, all of validation")
        self.run.record("baseline", accuracy={"decision": decision, "validation": whole})
        self.baseline = {"decision": decision, "validation": whole}

    def _search(self, storage: str) -> None:
        from lionheart.experimental.pareto.search import open_storage, search_front

        search = self.settings.search
        self.progress.note(
            f"{self.task.name}: {len(self.candidates)} candidates, {format_count(self.graph.macs)}MACs; "
            f"{self.task.measure.name} "
            f"{format_duration(search.t_inference)} after programming against {self.settings.pareto.objective}, "
            f"{self.n_wanted} mappings, {search.n_chips} chips each; run in {self.run.path}"
        )
        names = [each.node.fqn for each in self.candidates]
        with open_storage(storage) as opened:
            search_front(
                names,
                LayerMapping.all_digital(self.graph),
                evaluate=self._evaluate,
                cost=lambda mapping: float(self.objective.cost(mapping)),
                keep=self._keep,
                seeds=self._seeds(),
                n_trials=self.n_wanted,
                fit=self._fit,
                n_allowed=self.n_allowed,
                streams=self.streams.scope("pareto"),
                storage=opened,
                study_name=self.run.description()["study"],
                past=tuple(self.measured),
            )

    def _seeds(self) -> list[LayerMapping]:
        """Return the prefixes of the sensitivity order, of nothing and of everything; at most half of the trials."""
        n_trials = self.settings.pareto.n_trials
        order = [each.node.fqn for each in order_by_sensitivity(self.candidates, self._loss_increase(), self._gains)]
        prefixes = nested_prefixes(order, min(n_trials, max(2, n_trials // 2)))
        mappings = [self._fit(LayerMapping.from_analog(self.graph, prefix)) for prefix in prefixes]
        return list({mapping.analog: mapping for mapping in mappings}.values())

    @cached_property
    def _gains(self) -> dict[str, float]:
        """What each candidate alone on tiles saves."""
        return self.objective.gains(LayerMapping.all_digital(self.graph), [each.node.fqn for each in self.candidates])

    def _fit(self, mapping: LayerMapping) -> LayerMapping:
        """Return a mapping itself if there are tiles for it; else that of its projections that gain most for each tile."""
        if self.objective.fits(mapping.analog):
            return mapping
        return LayerMapping.from_analog(self.graph, self.objective.pack(mapping.analog, self._gains))

    def _loss_increase(self) -> dict[str, float]:
        past = self.run.events("loss_increase")
        if past:
            return dict(past[0]["loss_increase"])
        begin, fqns = time.perf_counter(), [each.node.fqn for each in self.candidates]
        rises = measure_loss_increase(
            self.task, self.samples, fqns, self.settings, self.streams, self.backend, self.progress
        )
        elapsed_s = time.perf_counter() - begin
        self.run.record("loss_increase", loss_increase=rises, elapsed_s=elapsed_s)
        self.progress.note(f"sensitivity of {len(fqns)} projections measured in {format_elapsed(elapsed_s)}")
        return rises

    def _evaluate(self, mapping: LayerMapping) -> dict[str, Any]:
        label = f"{len(mapping.analog)} of {len(self.candidates)} projections analog"
        return self._measure(mapping, self.samples, self.settings.search.n_chips, "chips", label)

    def _keep(self, found: MeasuredMapping) -> None:
        analog = found.mapping.analog
        self.run.record(
            "measured",
            number=found.number,
            analog=list(analog),
            accuracy=dict(found.accuracy),
            cost=found.cost,
            elapsed_s=found.elapsed_s,
        )
        self.measured.append(found)
        measure = self.task.measure
        self.progress.note(
            f"{len(self.measured):3d}/{self.n_wanted}  {len(analog)} analog, "
            f"{100 * found.mapping.analog_mac_share(self.graph):.1f} % of the MACs: {measure.name} "
            f"{measure.format_value(found.mean)}, "
            f"drop {found.drop_pp(self.baseline['decision']):+.2f}"
        )

    def _measure_again(self, mapping: LayerMapping) -> None:
        """Measure a member of the front on chips and samples that did not choose it; once for a run."""
        if mapping.analog not in self.fresh:
            n_chips, label = self.settings.search.n_chips_final, f"the front, {len(mapping.analog)} analog, fresh chips"
            accuracy = self._measure(mapping, self.task.validation, n_chips, "fresh", label)
            self.run.record("fresh", analog=list(mapping.analog), accuracy=accuracy)
            self.fresh[mapping.analog] = accuracy

    def _measure(
        self, mapping: LayerMapping, batches: BatchSource, n_chips: int, chips: str, label: str
    ) -> dict[str, Any]:
        """Measure a mapping from the task's own weights: nothing that was measured before has a say."""
        model = self.backend.convert_(copy.deepcopy(self.task.model), mapping, self.settings.tile)
        device, streams = next(model.parameters()).device, self.streams.scope("pareto")
        inputs = next(iter(self.task.train_batches.epoch(streams.generator("calibration"))))[0]
        seed_noise_(model, streams.generator("calibration", "noise", device=device))
        calibrate_input_ranges_(model, lambda net: call_model(net, move_batch(inputs, device)))
        with compiling(model, len(batches) * n_chips, enabled=self.settings.compile):
            return evaluate_over_chips(
                model,
                batches,
                self.task.metric,
                times=[self.settings.search.t_inference],
                n_chips=n_chips,
                streams=streams.scope(chips),
                confidence=self.settings.search.confidence,
                progress=self.progress,
                label=label,
                run_calibration=calibration_pass(self.task),
            )[0].to_json()

    # -- what it costs -------------------------------------------------------------------------------------------------

    def _system(self, mapping: LayerMapping) -> dict[str, Any]:
        """Return time and energy of one inference; None without a platform."""
        if self.system is None:
            return {"latency_s": None, "energy_j": None}
        cost = self.system.cost(mapping)
        return {"latency_s": cost.latency_s, "energy_j": cost.energy_j}

    # -- what is written -----------------------------------------------------------------------------------------------

    def _write(self, *, complete: bool) -> None:
        front = non_dominated(self.measured)
        search, pareto = self.settings.search, self.settings.pareto
        on_front = {each.number for each in front}
        bounds = [self._write_bound(bound, front) for bound in sorted(set(pareto.bounds_pp))]
        self.run.write(
            RESULTS,
            {
                "task": self.task.name,
                "measure": self.task.measure.to_json(),
                "complete": complete,
                "objective": pareto.objective,
                "max_tiles": search.max_tiles,
                "platform": None if self.system is None else self.system.platform.name,
                "t_inference": search.t_inference,
                "confidence": search.confidence,
                "n_chips": search.n_chips,
                "n_chips_final": search.n_chips_final,
                "validation_samples": getattr(self.samples, "n_samples", search.validation_samples),
                "n_trials": pareto.n_trials,
                "baseline": self.baseline,
                "n_projections": len(self.graph.nodes),
                "mappings": [self._describe(each, each.number in on_front) for each in self.measured],
                "front": [each.number for each in front],
                "bounds": bounds,
                "elapsed_s": sum(each.elapsed_s for each in self.measured)
                + sum(event["elapsed_s"] for event in self.run.events("loss_increase")),
            },
        )

    def _write_bound(self, bound: float, front: Sequence[MeasuredMapping]) -> dict[str, Any]:
        """Write the front's best mapping that is within a bound whenever it was measured to a file of its own."""
        name, baseline = f"mapping-{bound:g}pp.json", self.baseline["decision"]
        fresh = {each.number: self._describe_fresh(each.mapping) for each in front}
        holding = [
            each for each in front if (again := fresh[each.number]) is None or again["drop_pp"] <= bound + _ROUNDING_PP
        ]
        first, best = best_within(front, baseline, bound), best_within(holding, baseline, bound)
        if best is None:
            self.run.file(name).unlink(missing_ok=True)
        else:
            best.mapping.save(self.run.file(name))
        return {
            "max_drop_pp": bound,
            "number": None if best is None else best.number,
            "file": None if best is None else name,
            "is_confirmed": best is not None and fresh[best.number] is not None,
            "first_choice": None if first is None else first.number,
        }

    def _describe(self, measured: MeasuredMapping, on_front: bool) -> dict[str, Any]:
        mapping = measured.mapping
        return {
            "number": measured.number,
            "on_front": on_front,
            "mapping": write_record(mapping),
            "accuracy": measured.accuracy,
            "drop_pp": measured.drop_pp(self.baseline["decision"]),
            "fresh": self._describe_fresh(mapping),
            "cost": measured.cost,
            "analog_mac_share": mapping.analog_mac_share(self.graph),
            "analog_weight_share": mapping.analog_weight_share(self.graph),
            "n_analog": len(mapping.analog),
            "n_tiles": self.objective.count_tiles(mapping.analog),
            **self._system(mapping),
            "elapsed_s": measured.elapsed_s,
        }

    def _describe_fresh(self, mapping: LayerMapping) -> dict[str, Any] | None:
        accuracy = self.fresh.get(mapping.analog)
        return (
            None
            if accuracy is None
            else {**accuracy, "drop_pp": 100 * (self.baseline["validation"] - accuracy["mean"])}
        )


def _read_measured(event: Mapping[str, Any], graph: LayerGraph) -> MeasuredMapping:
    mapping = LayerMapping.from_analog(graph, event["analog"])
    return MeasuredMapping(event["number"], mapping, event["accuracy"], event["cost"], event["elapsed_s"])

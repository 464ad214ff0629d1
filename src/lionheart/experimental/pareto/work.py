"""One search for a Pareto front: measurements, journal and results. The module `job` starts and resumes the search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

from lionheart.copies import copy_model
from lionheart.data import BatchSource, take_samples
from lionheart.errors import ConfigError
from lionheart.evaluation import evaluate_over_chips
from lionheart.experimental.pareto.files import RESULTS, read_front
from lionheart.experimental.pareto.front import best_within, nested_prefixes, non_dominated
from lionheart.experimental.pareto.records import (
    BoundRow,
    FreshMeasurement,
    FrontResults,
    FrontRow,
    MeasuredMapping,
)
from lionheart.jobs.bound import find_bounds
from lionheart.jobs.context import Context
from lionheart.jobs.measurement.calibration import calibrate_on_training_batch_
from lionheart.jobs.measurement.chips import digital_accuracy
from lionheart.jobs.measurement.compiling import compiling
from lionheart.jobs.measurement.sensitivity import measure_loss_increase
from lionheart.jobs.objective import find_system, make_objective
from lionheart.jobs.samples import calibration_pass
from lionheart.mapping import LayerMapping
from lionheart.metrics import is_within
from lionheart.runs import Accuracy, DigitalBaseline, RunDirectory
from lionheart.search import order_by_sensitivity
from lionheart.units import format_count, format_duration, format_elapsed

_STORAGE = "study.db"  # in the run directory, unless the user gives another storage


@final
@dataclass(frozen=True)
class ParetoResult:
    """Results of a search for a Pareto front of mappings.

    Args:
        results: All measured mappings, the mappings on the front, and the mapping with the lowest cost for each bound of the
            accuracy drop, as in ``pareto.json``.
        run: Run directory of the search.
    """

    results: FrontResults
    run: RunDirectory

    def mapping_within(self, bound_pp: float) -> LayerMapping | None:
        """Return the mapping on the front that has the lowest cost and meets a bound of the accuracy drop.

        The mapping meets the bound in the search and on newly programmed simulated chips, if it was measured on such chips.
        Return None if no mapping on the front meets the bound.

        Args:
            bound_pp: Largest allowed drop, in the unit of the metric's drop (pp for an accuracy); one of the bounds of the run.

        Raises:
            ConfigError: `bound_pp` is not a bound in the settings of the run.
        """
        bounds = {row.max_drop_pp: row.number for row in self.results.bounds}
        if bound_pp not in bounds:
            unit = self.results.metric.drop_unit
            raise ConfigError(
                f"bound_pp: got {bound_pp:g} {unit}, expected a bound in the settings of the run",
                hint=f"give one of the bounds of the run [{unit}]: {', '.join(f'{b!r}' for b in bounds)}",
            )
        number = bounds[bound_pp]
        return None if number is None else self.results.rows[number].mapping


@final
class ParetoJob:
    """Searches for one Pareto front. Every measurement is recorded in the journal, so a killed search can be resumed."""

    def __init__(self, context: Context, run: RunDirectory) -> None:
        self.context, self.run, self.journal = context, run, context.journal
        self.objective = make_objective(context, context.settings.pareto.objective)
        self.names = [each.node.fqn for each in context.mappable]
        self.n_allowed = self.objective.count_fitting(self.names)
        self.n_wanted = min(context.settings.pareto.n_trials, self.n_allowed)
        self.system = find_system(context)
        self.samples = take_samples(context.task.validation, context.settings.search.validation_samples)
        self.baseline: DigitalBaseline | None = None
        self._read_journal()

    def work(self, storage: str | None) -> ParetoResult:
        """Search for the Pareto front, measure the mappings on the front again, and write and return the results.

        The second measurement uses newly programmed simulated chips and all validation samples. If the search is interrupted or
        fails, the results of the measurements so far are written.

        Args:
            storage: URL of the Optuna storage; None for a file in the run directory.
        """
        try:
            self.baseline = self.journal.once("baseline", DigitalBaseline, self._measure_baseline)
            self._search(storage or f"sqlite:///{self.run.file(_STORAGE)}", self.baseline)
            for each in non_dominated(self.measured, self.context.task.metric):
                self._measure_again(each.mapping)
        except BaseException:
            self._read_journal()  # Ctrl-C may arrive after a measurement is journalled and before it is kept
            if self.baseline is not None:
                self._write(self.baseline, complete=False)
            raise
        self._write(self.baseline, complete=True)
        self.journal.note("finished")
        return ParetoResult(read_front(self.run), self.run)

    def _read_journal(self) -> None:
        n_measured = self.journal.count("measured")
        self.measured = [self.journal.read(f"measured {number}", MeasuredMapping) for number in range(n_measured)]

    # -- measurements --------------------------------------------------------------------------------------------------

    def _measure_baseline(self) -> DigitalBaseline:
        """Return the accuracy of the digital network on the samples of the search, and on all validation samples."""
        task, progress = self.context.task, self.context.progress
        decision = whole = digital_accuracy(task.model, self.samples, task, progress, "digital baseline")
        if self.samples is not task.validation:
            label = "digital baseline, all of validation"
            whole = digital_accuracy(task.model, task.validation, task, progress, label)
        return DigitalBaseline(decision=decision, validation=whole)

    def _search(self, storage: str, baseline: DigitalBaseline) -> None:
        from lionheart.experimental.pareto.search import FrontProblem, open_storage, search_front

        context, search = self.context, self.context.settings.search
        context.progress.note(
            f"{context.task.name}: {len(self.names)} candidates, {format_count(context.graph.macs)}MACs; "
            f"{context.task.metric.name} "
            f"{format_duration(search.t_inference)} after programming against {context.settings.pareto.objective}, "
            f"{self.n_wanted} mappings, {search.n_chips} chips each; run in {self.run.path}"
        )
        with open_storage(storage) as opened:
            problem = FrontProblem(
                candidates=self.names,
                start=LayerMapping.all_digital(context.graph),
                evaluate=self._evaluate,
                cost=lambda mapping: float(self.objective.cost(mapping)),
                keep=lambda found: self._keep(found, baseline),
                seeds=self._seeds(),
                n_trials=self.n_wanted,
                fit=self._fit,
                n_allowed=self.n_allowed,
                rank=context.task.metric.rank,
            )
            search_front(
                problem,
                streams=context.streams.scope("pareto"),
                storage=opened,
                study_name=self.run.description().study or self.run.path.name,
                past=tuple(self.measured),
            )

    def _seeds(self) -> list[LayerMapping]:
        """Return the mappings that the search measures first.

        The number of these mappings is at most half of the number of trials, or two if there are only two or three trials. In
        each mapping, the least sensitive of the projections (weight matrices) that may run analog are analog. The sensitivity
        is the loss increase per saved cost. The number of analog projections ranges from 0 to all of these projections, or to
        as many as fit on the tiles.
        """
        graph, n_trials = self.context.graph, self.context.settings.pareto.n_trials
        ordered = order_by_sensitivity(self.context.mappable, self._loss_increase(), self._gains)
        prefixes = nested_prefixes([each.node.fqn for each in ordered], min(n_trials, max(2, n_trials // 2)))
        mappings = [self._fit(LayerMapping.from_analog(graph, prefix)) for prefix in prefixes]
        return list({mapping.analog: mapping for mapping in mappings}.values())

    @cached_property
    def _gains(self) -> dict[str, float]:
        """Cost that each projection (weight matrix) that may run analog saves if it alone is on tiles, by projection names."""
        return self.objective.gains(LayerMapping.all_digital(self.context.graph), self.names)

    def _fit(self, mapping: LayerMapping) -> LayerMapping:
        """Return `mapping` if its analog projections (weight matrices) fit on the available tiles.

        Otherwise, return a mapping in which only the analog projections that save most cost per tile are still analog.
        """
        if self.objective.fits(mapping.analog):
            return mapping
        return LayerMapping.from_analog(self.context.graph, self.objective.pack(mapping.analog, self._gains))

    def _loss_increase(self) -> dict[str, float]:
        is_new = not self.journal.has("sensitivity")
        rises: dict[str, float] = self.journal.once(
            "sensitivity", dict[str, float], lambda: measure_loss_increase(self.context, self.samples, self.names)
        )
        if is_new:
            took = format_elapsed(self.journal.elapsed_s("sensitivity"))
            self.context.progress.note(f"sensitivity of {len(self.names)} projections measured in {took}")
        return rises

    def _evaluate(self, mapping: LayerMapping) -> Accuracy:
        label = f"{len(mapping.analog)} of {len(self.names)} projections analog"
        return self._measure(mapping, self.samples, self.context.settings.search.n_chips, "chips", label)

    def _keep(self, found: MeasuredMapping, baseline: DigitalBaseline) -> None:
        self.journal.once(f"measured {len(self.measured)}", MeasuredMapping, lambda: found)
        self.measured.append(found)
        metric = self.context.task.metric
        self.context.progress.note(
            f"{len(self.measured):3d}/{self.n_wanted}  {len(found.mapping.analog)} analog, "
            f"{100 * found.mapping.analog_mac_share(self.context.graph):.1f} % of the MACs: {metric.name} "
            f"{metric.format_value(found.mean)}, "
            f"drop {metric.write_drop(metric.drop(baseline.decision, found.mean), sign=True)}"
        )

    def _measure_again(self, mapping: LayerMapping) -> Accuracy:
        """Return the accuracy of a mapping on the front on newly programmed simulated chips and all validation samples.

        The accuracy is recorded in the journal, so the mapping is not measured again when a run is resumed.
        """
        n_chips = self.context.settings.search.n_chips_final
        label = f"the front, {len(mapping.analog)} analog, fresh chips"
        return self.journal.once(
            _fresh(mapping),
            Accuracy,
            lambda: self._measure(mapping, self.context.task.validation, n_chips, "fresh", label),
        )

    def _measure(self, mapping: LayerMapping, batches: BatchSource, n_chips: int, chips: str, label: str) -> Accuracy:
        """Return the accuracy of a mapping, measured with an analog copy of the task's model.

        Every call starts from the weights of this model, so the accuracy does not depend on earlier measurements.

        Args:
            mapping: Placement of each projection (weight matrix).
            batches: Samples to measure on.
            n_chips: Number of simulated chips.
            chips: Name of the random streams of the chips. Chips with the same name have the same seeds.
            label: Label of the progress display.
        """
        task, settings = self.context.task, self.context.settings
        model = self.context.backend.convert_(copy_model(task.model), mapping, settings.tile)
        streams = self.context.streams.scope("pareto")
        calibrate_on_training_batch_(model, task, streams)
        n_passes = len(batches) * n_chips
        with compiling(model, n_passes, enabled=settings.compile, n_macs=self.context.count_macs(batches, n_passes)):
            return evaluate_over_chips(
                model,
                batches,
                task.metric,
                times=[settings.search.t_inference],
                n_chips=n_chips,
                streams=streams.scope(chips),
                confidence=settings.search.interval_coverage,
                progress=self.context.progress,
                label=label,
                run_calibration=calibration_pass(task),
            )[0]

    # -- output files --------------------------------------------------------------------------------------------------

    def _write(self, baseline: DigitalBaseline, *, complete: bool) -> None:
        front = non_dominated(self.measured, self.context.task.metric)
        context, search, pareto = self.context, self.context.settings.search, self.context.settings.pareto
        on_front = {each.number for each in front}
        given = find_bounds(context.task, context.settings, baseline.decision)
        bounds = [self._write_bound(bound, text, front, baseline) for bound, text in given]
        results = FrontResults(
            task=context.task.name,
            metric=context.task.metric,
            complete=complete,
            objective=pareto.objective,
            max_tiles=search.max_tiles,
            platform=None if self.system is None else self.system.platform.name,
            t_inference=search.t_inference,
            confidence=search.interval_coverage,
            n_chips=search.n_chips,
            n_chips_final=search.n_chips_final,
            validation_samples=getattr(self.samples, "n_samples", search.validation_samples),
            n_trials=pareto.n_trials,
            baseline=baseline,
            n_projections=len(context.graph.nodes),
            mappings=tuple(self._describe(each, each.number in on_front, baseline) for each in self.measured),
            front=tuple(each.number for each in front),
            bounds=tuple(bounds),
            elapsed_s=sum(each.elapsed_s for each in self.measured) + self.journal.elapsed_s("sensitivity"),
        )
        self.run.write(RESULTS, results)

    def _write_bound(
        self, bound: float, text: str | None, front: Sequence[MeasuredMapping], baseline: DigitalBaseline
    ) -> BoundRow:
        """Write the best mapping for a bound to a file in the run directory, and return the row of the bound in the results.

        The best mapping is the mapping on the front with the lowest cost that meets the bound in the search and, if it was
        measured again, on newly programmed simulated chips. If there is no such mapping, the file is deleted if it exists.
        """
        metric = self.context.task.metric
        name = f"mapping-{bound:g}{'' if metric.kind == 'plain' else 'pp'}.json"
        fresh = {each.number: self._describe_fresh(each.mapping, baseline) for each in front}
        holding = [each for each in front if (again := fresh[each.number]) is None or is_within(again.drop_pp, bound)]
        first, best = (best_within(each, baseline.decision, bound, metric) for each in (front, holding))
        if best is None:
            self.run.file(name).unlink(missing_ok=True)
        else:
            best.mapping.save(self.run.file(name))
        return BoundRow(
            max_drop_pp=bound,
            max_drop=text,
            number=None if best is None else best.number,
            file=None if best is None else name,
            is_confirmed=best is not None and fresh[best.number] is not None,
            first_choice=None if first is None else first.number,
        )

    def _describe(self, measured: MeasuredMapping, on_front: bool, baseline: DigitalBaseline) -> FrontRow:
        mapping, graph = measured.mapping, self.context.graph
        cost = None if self.system is None else self.system.cost(mapping)
        return FrontRow(
            number=measured.number,
            on_front=on_front,
            mapping=mapping,
            accuracy=measured.accuracy,
            drop_pp=self.context.task.metric.drop(baseline.decision, measured.mean),
            fresh=self._describe_fresh(mapping, baseline),
            cost=measured.cost,
            analog_mac_share=mapping.analog_mac_share(graph),
            analog_weight_share=mapping.analog_weight_share(graph),
            n_analog=len(mapping.analog),
            n_tiles=self.objective.count_tiles(mapping.analog),
            latency_s=None if cost is None else cost.latency_s,
            energy_j=None if cost is None else cost.energy_j,
            elapsed_s=measured.elapsed_s,
        )

    def _describe_fresh(self, mapping: LayerMapping, baseline: DigitalBaseline) -> FreshMeasurement | None:
        if not self.journal.has(_fresh(mapping)):
            return None
        accuracy = self.journal.read(_fresh(mapping), Accuracy)
        drop = self.context.task.metric.drop(baseline.validation, accuracy.mean)
        return FreshMeasurement(accuracy=accuracy, drop_pp=drop)


def _fresh(mapping: LayerMapping) -> str:
    """Return the key of the journal entry for the accuracy of a mapping on newly programmed simulated chips."""
    return f"fresh {','.join(mapping.analog)}"

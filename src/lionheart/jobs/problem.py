"""`MappingProblem`, which applies mappings to a model, retrains and evaluates the model, and keeps or reverts changes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar, final

from torch import nn

from lionheart.analog import analog_layers, set_tiles_
from lionheart.data import take_samples
from lionheart.deprecated import HOLDOUT_STREAM
from lionheart.devices import ReadPolicy, TileSpec
from lionheart.jobs.context import Context
from lionheart.jobs.measurement.calibration import (
    calibrate_on_training_batch_,
    compute_weight_limits,
    set_input_ranges_,
    set_weight_limits_,
)
from lionheart.jobs.measurement.chips import ChipEvaluator
from lionheart.jobs.measurement.duration import describe_time_left
from lionheart.jobs.measurement.hessian import HESSIAN_SAMPLES, Curvature, measure_curvature
from lionheart.jobs.measurement.sensitivity import measure_level_increases, measure_loss_increase
from lionheart.jobs.retraining import retrain
from lionheart.mapping import LayerMapping
from lionheart.record import read_record, write_record
from lionheart.runs import Accuracy, Decision, Drop, RunDirectory, TrainTrace
from lionheart.search import STRATEGIES, Trial
from lionheart.training import build_optimizer, load_training_state, read_metadata, save_training_state
from lionheart.units import format_elapsed

T = TypeVar("T")
#: Steps of the journal besides decisions.
_MEASUREMENTS = ("sensitivity", "levels", "curvature", "compensation", "age", "reliefs", "smaller")


@final
class MappingProblem:
    """The model that a search changes, with the model's optimiser and checkpoints.

    The process may be killed at any time. A new instance with the same run directory continues from the last checkpoint.

    Args:
        context: Context of the job.
        model: Model to map, changed in place.
        run: Run directory in which checkpoints are stored.
        finish: Whether to treat the budget of the run as spent from the start, so that the search ends at once.
    """

    def __init__(self, context: Context, model: nn.Module, run: RunDirectory, *, finish: bool = False) -> None:
        self.context, self.model, self.run = context, model, run
        self.optimizer = build_optimizer(model, context.settings.train)
        self.chips = ChipEvaluator(context, model)
        self.n_trials: int | None = None  # total number of trials in the search, if known
        self._new_times_s: list[float] = []  # durations of the trials since the start or a resume
        self._ranges: dict[tuple[str, ReadPolicy], float] = {}  # of layers with the current weights
        self._tiles: dict[str, TileSpec] = {}  # tiles of layers that differ from the run's tile
        self._limits = compute_weight_limits(context)  # limits of clipping of the layers
        self._n_decided = context.journal.count("decision")
        past = [self._decision(index) for index in range(self._n_decided)]
        self._elapsed_before = sum(decision.elapsed_s for decision in past) + self.measuring_s()
        self._epochs = sum(len(decision.train.losses) for decision in past)
        self._started, self._finish = time.perf_counter(), finish
        self._restore_accepted(LayerMapping.all_digital(context.graph))

    # -- operations of a search ----------------------------------------------------------------------------------------

    @property
    def n_decided(self) -> int:
        """Number of decisions that were recorded before the run was resumed; 0 in a new run."""
        return self._n_decided

    def decide_once(self, index: int, decide: Callable[[], Decision]) -> Decision:
        """Return the decision with number `index`: from the journal if it was recorded before a resume, else from `decide`.

        A new decision is recorded in the journal and shown as a progress message.
        """
        if index < self._n_decided:
            return self._decision(index)
        decision = self.context.journal.once(f"decision {index}", Decision, decide)
        self.run.checkpoint(_trial_name(index)).unlink(missing_ok=True)
        self._epochs += len(decision.train.losses)
        self._new_times_s.append(decision.elapsed_s)
        self._show(decision)
        return decision

    def try_mapping(self, mapping: LayerMapping, index: int, label: str, *, retrain: bool, early_stop: bool) -> Trial:
        """Apply a mapping to the model, optionally retrain all weights, and evaluate the model on new simulated chips.

        Input ranges are calibrated for layers that have none yet.

        Args:
            mapping: Mapping to apply.
            index: Number of the decision, counted from 0.
            label: Short description of the decision.
            retrain: Whether to retrain the model before the evaluation.
            early_stop: Whether the evaluation may end once the drop exceeds the bound with 95 % confidence.
        """
        begin = time.perf_counter()
        self._apply(mapping)
        trace = self._retrain(index, label) if retrain else TrainTrace()
        return self._trial(("decision", index), label, early_stop, trace, begin)

    def remeasure(self, mapping: LayerMapping, index: int, number: int, *, early_stop: bool) -> Trial:
        """Evaluate another mapping with the weights of the current trial, without retraining, on other simulated chips.

        Args:
            mapping: Mapping to apply.
            index: Number of the trial, equal to the number of its decision.
            number: Number of this evaluation within the trial, counted from 0.
            early_stop: Whether the evaluation may end once the drop exceeds the bound with 95 % confidence.
        """
        begin = time.perf_counter()
        self._apply(mapping)
        label = f"{len(mapping.analog)} projections analog"
        path = ("decision", index, "again", number)
        return self._trial(path, label, early_stop, TrainTrace(), begin)

    def commit(self, decision: Decision, mapping: LayerMapping) -> None:
        """Keep the weights of the last trial, apply `mapping` to the model, and write a checkpoint.

        Args:
            decision: Decision that accepts the trial.
            mapping: Mapping to apply and to keep.
        """
        if decision.train.losses:
            self._ranges = {}
        self._apply(mapping)
        self._save_accepted(mapping)

    def rollback(self, decision: Decision, mapping: LayerMapping) -> None:
        """Undo the last trial: restore the earlier weights and optimiser state, and apply the earlier mapping.

        Args:
            decision: Decision that rejects the trial.
            mapping: Current mapping, i.e. the mapping that was applied before the trial.
        """
        if decision.train.losses:
            self._ranges = {}
        self._convert(mapping)
        if decision.train.n_steps:
            load_training_state(self.run.checkpoint("accepted"), self.model, self.optimizer)
        else:  # no weight has changed: only analog layers that were added or removed have state to restore
            self.model.load_state_dict(self._analog_state, strict=False)

    def loss_increase(self, fqns: Sequence[str]) -> dict[str, float]:
        """For each named projection, return the measured loss increase with only this projection analog and no retraining.

        All increases are measured once per run and then read from the journal.
        """

        def measure() -> dict[str, float]:
            return measure_loss_increase(self.context, self.chips.validation, fqns)

        return self._measure_once("sensitivity", f"sensitivity of {len(fqns)} projections", dict[str, float], measure)

    def level_increases(self, fqns: Sequence[str], levels: Sequence[ReadPolicy]) -> list[dict[str, float]]:
        """For each read policy and projection, return the loss increase with only this projection analog, not retrained.

        All increases are measured once per run and then read from the journal.
        """

        def measure() -> list[dict[str, float]]:
            return measure_level_increases(self.context, self.chips.validation, fqns, levels)

        label = f"sensitivity of {len(fqns)} projections at {len(levels)} levels"
        return self._measure_once("levels", label, list[dict[str, float]], measure)

    def expected_loss_increase(self, fqns: Sequence[str]) -> dict[str, float]:
        """For each named projection, return the loss increase with only this projection analog, estimated from the Hessian.

        All estimates are computed once per run, with the task's digital network, and then read from the journal.
        """

        def measure() -> dict[str, Curvature]:
            return measure_curvature(self.context, take_samples(self.chips.validation, HESSIAN_SAMPLES), fqns)

        rows = self._measure_once("curvature", f"Hessian of {len(fqns)} projections", dict[str, Curvature], measure)
        return {fqn: row.expected_loss_increase for fqn, row in rows.items()}

    def is_out_of_budget(self) -> bool:
        """Return whether the run has spent its budget, i.e. the limit on retraining epochs or on minutes in the settings.

        The result is always True if this object was created with ``finish=True``.
        """
        return self._is_spent(0)

    def measuring_s(self) -> float:
        """Return the total wall time of all measurements of this run that are not part of a decision [s]."""
        return self.context.journal.elapsed_s(*_MEASUREMENTS)

    def _decision(self, index: int) -> Decision:
        """Return the decision with number `index`, counted from 0, from the journal."""
        return self.context.journal.read(f"decision {index}", Decision)

    def _measure_once(self, step: str, label: str, kind: type[T], measure: Callable[[], T]) -> T:
        """Return the result of a measurement from the journal; if it is missing, call `measure` and record the result.

        Args:
            step: Name of the measurement in the journal.
            label: Description of the measurement, shown in a progress message together with its duration.
            kind: Type of the result.
            measure: Function that makes the measurement and returns its result.
        """
        is_new = not self.context.journal.has(step)
        found = self.context.journal.once(step, kind, measure)
        if is_new:
            took = format_elapsed(self.context.journal.elapsed_s(step))
            self.context.progress.note(f"{label} measured in {took}")
        return found

    def _show(self, decision: Decision) -> None:
        metric, n_done = self.context.task.metric, decision.index + 1
        n_analog, n_projections = len(self._accepted.analog), len(self._accepted.placements)
        single = decision.fqn in self._accepted.placements
        outcome = "analog" if decision.accepted else "stays digital" if single else "undone"
        at_most = (
            f", at most {metric.write_drop(decision.drop_ucb_pp)}" if decision.drop_ucb_pp != decision.drop_pp else ""
        )
        self.context.progress.note(
            f"{n_done:3d}  {decision.fqn}: {outcome}; {metric.name} {metric.format_value(decision.accuracy.mean)}, "
            f"drop {metric.format_drop(decision.drop_pp, sign=True)}{at_most} (bound {self.context.max_drop:g})\n"
            f"     {n_analog} of {n_projections} analog{describe_time_left(self._new_times_s, self.n_trials, n_done)}"
            + (f"\n     {decision.note}" if decision.note else "")
        )

    # -- steps after the search ----------------------------------------------------------------------------------------

    def test_holdout(self, mapping: LayerMapping, number: int, confidence: float) -> tuple[Accuracy, Drop]:
        """Evaluate a mapping with the current weights on held-out samples and on chips that no decision has used.

        Args:
            mapping: Mapping to apply.
            number: Number of the hold-out test, counted from 0.
            confidence: Confidence level of the upper bound of the drop, 0 to 1.

        Returns:
            Accuracy and drop at one time since programming. Among the times at which the bound on the drop must hold, this time
            has the largest upper confidence bound of the drop.
        """
        self._apply(mapping)
        label = f"{len(mapping.analog)} projections analog, held-out samples"
        return self.chips.test_holdout((HOLDOUT_STREAM, number), label, confidence)

    def use_tiles(self, tiles: Mapping[str, TileSpec]) -> None:
        """Set the tile settings of all analog layers for all further evaluations.

        Args:
            tiles: Tile settings by layer name. Layers that are not named use the tile settings of the run.
        """
        self._tiles = dict(tiles)

    def measure_again(
        self,
        mapping: LayerMapping,
        path: tuple[str | int, ...],
        label: str,
        times: Sequence[float] | None = None,
    ) -> Drop:
        """Evaluate a mapping with the current weights on the validation samples used for decisions.

        The evaluation ends early if the drop exceeds the bound with 95 % confidence.

        Args:
            mapping: Mapping to apply.
            path: Name of the random stream, as a tuple, with which the chips are simulated.
            label: Label of the progress bar.
            times: Times since programming [s]; None = the times at which the bound must hold.

        Returns:
            The accuracy drop at the time at which its upper confidence bound is largest.
        """
        self._apply(mapping)
        return self.chips.decide(path, label, early_stop=True, times=times)[1]

    def restore(self, mapping: LayerMapping) -> None:
        """Apply `mapping` to the model; the weights stay. If no projection is analog, load the weights of the task's model."""
        self._apply(mapping)
        if not mapping.analog:
            self.model.load_state_dict(self.context.task.model.state_dict())
            self._ranges = {}

    # -- steps of a trial ----------------------------------------------------------------------------------------------

    def _convert(self, mapping: LayerMapping) -> None:
        """Convert the model by `mapping`, with the limits of clipping that follow from the weights of the task's model."""
        tile = self.context.settings.tile
        self.context.backend.convert_(self.model, mapping, tile)
        layers = {fqn: layer for fqn, layer in analog_layers(self.model).items() if fqn not in self._tiles}
        policies = {fqn: mapping.tile_of(fqn, tile) for fqn in layers}
        set_tiles_(self.model, {fqn: own for fqn, own in policies.items() if own != layers[fqn].tile})
        set_weight_limits_(self.model, self._limits)

    def _apply(self, mapping: LayerMapping) -> None:
        tile = self.context.settings.tile
        self._convert(mapping)
        self._calibrate()
        corrected = [fqn for fqn in analog_layers(self.model) if fqn in self._tiles]
        set_tiles_(self.model, {fqn: self._correct(mapping.tile_of(fqn, tile), self._tiles[fqn]) for fqn in corrected})

    @staticmethod
    def _correct(tile: TileSpec, chosen: TileSpec) -> TileSpec:
        """Return `tile`, which has the read policy of a mapping, with the digital corrections of `chosen`."""
        kept = {"column_calibration": chosen.column_calibration, "drift_compensation": chosen.drift_compensation}
        input_range = chosen.input_range if tile.input_range == "dynamic" else tile.input_range
        return tile.replace(**kept, input_range=input_range)

    def _trial(
        self, path: tuple[str | int, ...], label: str, early_stop: bool, trace: TrainTrace, begin: float
    ) -> Trial:
        """Evaluate the model, with its present weights and mapping, on the samples used for decisions, and return the trial.

        Args:
            path: Name of the random stream, as a tuple, with which the chips are simulated.
            label: Label of the progress bar.
            early_stop: Whether the evaluation may end once the drop exceeds the bound with 95 % confidence.
            trace: Record of the retraining of this trial.
            begin: Value of `time.perf_counter` at the start of the trial [s].
        """
        estimate, drop = self.chips.decide(path, label, early_stop=early_stop)
        return Trial(estimate, drop.drop_pp, drop.drop_ucb_pp, trace, time.perf_counter() - begin)

    def _calibrate(self) -> None:
        """Calibrate the input ranges of analog layers that have no input range yet.

        With the same weights, a layer always gets the same input range.
        """
        layers = analog_layers(self.model)
        new = {fqn: (fqn, ReadPolicy.of(layer.tile)) for fqn, layer in layers.items() if layer.analog_input_range == 0}
        unknown = [fqn for fqn, key in new.items() if key not in self._ranges]
        if unknown:
            task, streams = self.context.task, self.context.streams
            retrains = STRATEGIES.find(self.context.settings.search.strategy).retrains
            found = calibrate_on_training_batch_(
                self.model, task, streams, unknown, digitally=True, warn_of_clipping=retrains
            )
            self._ranges |= {new[fqn]: value for fqn, value in found.items()}
        ranges = {fqn: self._ranges[key] for fqn, key in new.items() if key in self._ranges}
        set_input_ranges_({fqn: layers[fqn] for fqn in new}, ranges)

    def _retrain(self, index: int, fqn: str) -> TrainTrace:
        self._ranges = {}  # they depend on the weights, which retraining changes
        return retrain(
            self.context,
            self.model,
            self.optimizer,
            index=index,
            checkpoint=self.run.checkpoint(_trial_name(index)),
            label=f"retraining with {fqn} analog",
            should_stop=lambda trace: self._is_spent(len(trace.losses)),
        )

    def _is_spent(self, epochs_in_trial: int) -> bool:
        search = self.context.settings.search
        if self._finish:
            return True
        if search.max_epochs is not None and self._epochs + epochs_in_trial >= search.max_epochs:
            return True
        elapsed_s = self._elapsed_before + time.perf_counter() - self._started
        return search.max_minutes is not None and elapsed_s >= 60 * search.max_minutes

    # -- state ---------------------------------------------------------------------------------------------------------

    def _save_accepted(self, mapping: LayerMapping) -> None:
        state = {"mapping": write_record(mapping)}
        save_training_state(self.run.checkpoint("accepted"), self.model, self.optimizer, state)
        self._keep_analog_state(mapping)

    def return_to_accepted(self) -> LayerMapping:
        """Restore the state of the last commit (mapping, weights and optimiser state), and return the mapping.

        A trial that is neither committed nor rolled back is discarded.
        """
        path = self.run.checkpoint("accepted")
        mapping, self._ranges = read_record(LayerMapping, read_metadata(path).get("mapping", {}), str(path)), {}
        self._convert(mapping)
        load_training_state(path, self.model, self.optimizer)
        self._keep_analog_state(mapping)
        return mapping

    def _restore_accepted(self, start: LayerMapping) -> None:
        if self.run.checkpoint("accepted").exists():
            self.return_to_accepted()
        else:
            self._save_accepted(start)

    def _keep_analog_state(self, mapping: LayerMapping) -> None:
        self._accepted = mapping
        self._analog_state = {n: t.clone() for n, t in self.model.state_dict().items() if ".analog_" in f".{n}"}


def _trial_name(index: int) -> str:
    return f"trial-{index:03d}"

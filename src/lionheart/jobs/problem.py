"""The network under search: tries a mapping by converting, retraining and evaluating; keeps or undoes it."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import torch
from torch import nn

from lionheart.analog import analog_layers, calibrate_input_ranges_, clip_weights_, seed_noise_, set_tiles_
from lionheart.data import call_model, move_batch
from lionheart.devices import TileSpec
from lionheart.evaluation import AccuracyEstimate, DropEstimate
from lionheart.jobs.backend import find_backend
from lionheart.jobs.measurement.chips import ChipMeter, compiling
from lionheart.jobs.measurement.sensitivity import HESSIAN_SAMPLES, measure_curvature, measure_loss_increase
from lionheart.jobs.samples import take_samples
from lionheart.jobs.settings import MapSettings
from lionheart.mapping import LayerMapping
from lionheart.progress import Progress
from lionheart.record import read_record, write_record
from lionheart.rng import RandomStreams
from lionheart.runs import RunDirectory
from lionheart.search import Decision, Trial
from lionheart.tasks import Task
from lionheart.training import (
    TaughtBatches,
    TrainTrace,
    build_optimizer,
    distillation_loss,
    load_training_state,
    read_metadata,
    save_training_state,
    train,
    training_autocast,
)
from lionheart.units import format_elapsed

_MEASUREMENTS = ("loss_increase", "curvature", "correction", "age")  # events of the journal


@final
class MappingProblem:
    """A task's model on its way to a mapping; everything it does can be killed and resumed.

    Args:
        task: Model, data, metric.
        model: Changed in place.
        start: The mapping before any decision.
        settings: Of the run.
        run: Where state is kept.
        progress: Where work shows itself.
        finish: Take the budget as spent.
    """

    def __init__(
        self,
        task: Task,
        model: nn.Module,
        start: LayerMapping,
        settings: MapSettings,
        run: RunDirectory,
        progress: Progress,
        *,
        finish: bool = False,
    ) -> None:
        self.task, self.model, self.settings, self.run, self.progress = task, model, settings, run, progress
        self.streams, self.backend = RandomStreams(settings.seed), find_backend(settings.backend)
        self.optimizer = build_optimizer(model, settings.train)
        self.device = next(model.parameters()).device
        self.meter = ChipMeter(task, model, settings, self.streams, progress)
        self.n_trials: int | None = None  # of the whole search, if it is known
        self._new_times_s: list[float] = []  # of trials since the start or a resume
        self._ranges: dict[str, float] = {}  # of layers with the present weights
        self._tiles: dict[str, TileSpec] = {}  # of layers that have their own
        self._past = [Decision(**event["decision"]) for event in run.events("decision")]
        self._elapsed_before = sum(decision.elapsed_s for decision in self._past) + self.measuring_s()
        self._epochs = sum(len(decision.train["losses"]) for decision in self._past)
        self._started, self._finish = time.perf_counter(), finish
        self._restore_accepted(start)

    # -- the verbs -----------------------------------------------------------------------------------------------------

    def try_mapping(
        self, mapping: LayerMapping, index: int, fqn: str, *, retrain: bool = True, hasty: bool = False
    ) -> Trial:
        """Apply a mapping, calibrate, retrain the whole network if asked to, evaluate over fresh chips."""
        begin = time.perf_counter()
        self._apply(mapping)
        trace = self._retrain(index, fqn) if retrain else TrainTrace(outcome="none")
        return self._trial(("decision", index), fqn, hasty, trace, begin)

    def remeasure(self, mapping: LayerMapping, index: int, number: int, *, hasty: bool = False) -> Trial:
        """Evaluate another mapping over other fresh chips, with the weights of the trial."""
        begin = time.perf_counter()
        self._apply(mapping)
        label = f"{len(mapping.analog)} projections analog"
        path = ("decision", index, "again", number)
        return self._trial(path, label, hasty, TrainTrace(outcome="none"), begin)

    def loss_increase(self, fqns: Sequence[str]) -> dict[str, float]:
        """Measure each projection alone on tiles, the task's network as it is; once for a run."""

        def measure() -> dict[str, float]:
            return measure_loss_increase(
                self.task, self.meter.validation, fqns, self.settings, self.streams, self.backend, self.progress
            )

        return self._measure_once("loss_increase", f"sensitivity of {len(fqns)} projections", measure)

    def expected_loss_increase(self, fqns: Sequence[str]) -> dict[str, float]:
        """Estimate the rise from the Hessian of each projection, the task's network as it is; once for a run."""

        def measure() -> dict[str, dict[str, float]]:
            batches = take_samples(self.meter.validation, HESSIAN_SAMPLES)
            found = measure_curvature(self.task, batches, fqns, self.settings, self.streams, self.progress)
            return {fqn: each.to_json() for fqn, each in found.items()}

        rows = self._measure_once("curvature", f"Hessian of {len(fqns)} projections", measure)
        return {fqn: float(row["expected_loss_increase"]) for fqn, row in rows.items()}

    def measuring_s(self) -> float:
        """Return how long measurements before and after the decisions took in this run [s]."""
        return sum(float(event["elapsed_s"]) for name in _MEASUREMENTS for event in self.run.events(name))

    def _measure_once(self, event: str, label: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return what the journal has of a measurement; measure and write it down if it has nothing."""
        past = self.run.events(event)
        if past:
            return dict(past[0][event])
        begin = time.perf_counter()
        found = measure()
        elapsed_s = time.perf_counter() - begin
        self.run.record(event, **{event: found}, elapsed_s=elapsed_s)
        self.progress.note(f"{label} measured in {format_elapsed(elapsed_s)}")
        return found

    def settle(self, decision: Decision, mapping: LayerMapping) -> None:
        """Keep or undo the trial, then write the decision down."""
        if decision.train.get("losses"):
            self._ranges = {}
        if decision.accepted:
            self._apply(mapping)
            self._save_accepted(mapping)
        else:
            self.backend.convert_(self.model, mapping, self.settings.tile)
            if decision.train["n_steps"]:
                load_training_state(self.run.checkpoint("accepted"), self.model, self.optimizer)
            else:  # no weight has moved: only analog layers that came or went have state to put back
                self.model.load_state_dict(self._analog_state, strict=False)
        self.run.record("decision", decision=decision.to_json())
        self.run.checkpoint(_trial_name(decision.index)).unlink(missing_ok=True)
        self._epochs += len(decision.train["losses"])
        measure, mean = self.task.measure, decision.accuracy["mean"]
        verdict = "analog" if decision.accepted else "stays digital" if decision.fqn in mapping.placements else "undone"
        bound = self.settings.search.max_drop_pp
        self._new_times_s.append(decision.elapsed_s)
        self.progress.note(
            f"{decision.index + 1:3d}  {decision.fqn}: {verdict}; {measure.name} {measure.format_value(mean)}, "
            f"drop {measure.format_drop(decision.drop_pp, sign=True)}{_with_limit(decision)} (bound {bound:g})\n"
            f"     {len(mapping.analog)} of {len(mapping.placements)} analog{self._time_left(decision.index + 1)}"
            + (f"\n     {decision.note}" if decision.note else "")
        )

    def _time_left(self, n_done: int) -> str:
        """Say how long the trials that are left may take, where their number is known."""
        if self.n_trials is None or n_done >= self.n_trials:
            return ""
        left_s = (self.n_trials - n_done) * statistics.fmean(self._new_times_s)
        return f"; {self.n_trials - n_done} left, about {format_elapsed(left_s)}"

    def is_out_of_budget(self) -> bool:
        """Return whether the budget of epochs or minutes is spent."""
        return self._is_spent(0)

    def past_decisions(self) -> Sequence[Decision]:
        """Return the decisions in the journal."""
        return self._past

    # -- final figures -------------------------------------------------------------------------------------------------

    def certify(self, mapping: LayerMapping, number: int, confidence: float) -> tuple[AccuracyEstimate, DropEstimate]:
        """Measure a mapping with the weights at hand on samples and chips that decided nothing; the worst time counts."""
        self._apply(mapping)
        label = f"{len(mapping.analog)} projections analog, held-out samples"
        return self.meter.certify(("certify", number), label, confidence)

    def use_tiles(self, tiles: Mapping[str, TileSpec]) -> None:
        """Give layers tiles of their own from now on; the others have the run's."""
        self._tiles = dict(tiles)

    def measure_again(
        self,
        mapping: LayerMapping,
        path: tuple[str | int, ...],
        label: str,
        times: Sequence[float] | None = None,
    ) -> DropEstimate:
        """Measure a mapping with the weights at hand at the times of the bound or others; hastily."""
        self._apply(mapping)
        return self.meter.decide(path, label, hasty=True, times=times)[1]

    def restore(self, mapping: LayerMapping) -> None:
        """Make `mapping` the model's, with the weights at hand; all digital takes the task's own weights again."""
        self._apply(mapping)
        if not mapping.analog:
            self.model.load_state_dict(self.task.model.state_dict())

    def estimate_duration(self, everything: LayerMapping, n_trials: int) -> float:
        """Return how long `n_trials` trials would take at most [s], from a few timed steps with `everything` analog."""
        twin = self.backend.convert_(copy.deepcopy(self.task.model), everything, self.settings.tile)
        inputs, targets = next(iter(self.task.train_batches.epoch(self.streams.generator("timing"))))
        inputs, targets = move_batch(inputs, self.device), move_batch(targets, self.device)
        calibrate_input_ranges_(twin, lambda model: call_model(model, inputs))
        training = self.settings.train
        n_steps = training.max_epochs * (training.steps_per_epoch or len(self.task.train_batches))

        def train_step() -> None:
            with training_autocast(training, self.device):
                loss: Any = self.task.loss(call_model(twin.train(), inputs), targets)
            loss.backward()

        @torch.no_grad()
        def evaluate_batch() -> None:
            call_model(twin.eval(), inputs)

        batch_size = len(targets) if hasattr(targets, "__len__") else 1
        n_samples = getattr(self.meter.validation, "n_samples", len(self.meter.validation) * batch_size)
        n_batches = self.settings.search.n_chips * n_samples / batch_size
        return n_trials * (n_steps * _median_time(train_step) + n_batches * _median_time(evaluate_batch))

    # -- parts of a trial ----------------------------------------------------------------------------------------------

    def _apply(self, mapping: LayerMapping) -> None:
        self.backend.convert_(self.model, mapping, self.settings.tile)
        self._calibrate()
        set_tiles_(self.model, {fqn: self._tiles[fqn] for fqn in analog_layers(self.model) if fqn in self._tiles})

    def _trial(self, path: tuple[str | int, ...], label: str, hasty: bool, trace: TrainTrace, begin: float) -> Trial:
        """Measure what is applied, on the samples that decide."""
        estimate, drop = self.meter.decide(path, label, hasty=hasty)
        accuracy = {**estimate.to_json(), "n_samples": estimate.n_samples}
        return Trial(accuracy, drop.drop_pp, drop.limit_pp, trace.to_json(), time.perf_counter() - begin)

    def _calibrate(self) -> None:
        """Give layers without an input range theirs; the same weights always give the same ranges."""
        layers = analog_layers(self.model)
        new = [fqn for fqn, layer in layers.items() if layer.analog_input_range == 0]
        unknown = [fqn for fqn in new if fqn not in self._ranges]
        if unknown:
            inputs = next(iter(self.task.train_batches.epoch(self.streams.generator("calibration"))))[0]
            seed_noise_(self.model, self.streams.generator("calibration", "noise", device=self.device))
            moved = move_batch(inputs, self.device)
            run: Callable[[nn.Module], Any] = lambda model: call_model(model, moved)  # noqa: E731
            self._ranges |= calibrate_input_ranges_(self.model, run, unknown, digitally=True)
        for fqn in new:
            layers[fqn].analog_input_range.detach().fill_(self._ranges[fqn])

    def _retrain(self, index: int, fqn: str) -> TrainTrace:
        streams = self.streams.scope("retraining", index)
        self._ranges = {}  # they belong to the weights before

        def seed_epoch(epoch: int) -> None:
            seed_noise_(self.model, streams.generator("noise", epoch, device=self.device))

        training = self.settings.train
        n_steps = training.max_epochs * (training.steps_per_epoch or len(self.task.train_batches))
        batches, loss = self.task.train_batches, self.task.loss
        if training.distillation > 0:
            teacher = copy.deepcopy(self.task.model)
            batches, loss = TaughtBatches(batches, teacher, training), distillation_loss(loss, training)
        with compiling(self.model, n_steps, enabled=self.settings.compile):
            return train(
                self.model,
                batches,
                loss,
                training,
                self.optimizer,
                streams=streams,
                before_epoch=seed_epoch,
                after_step=lambda: clip_weights_(self.model),
                should_stop=lambda trace: self._is_spent(len(trace.losses)),
                checkpoint=self.run.checkpoint(_trial_name(index)),
                progress=self.progress,
                label=f"retraining with {fqn} analog",
            )

    def _is_spent(self, epochs_in_trial: int) -> bool:
        search = self.settings.search
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
        self._keep_analog_state()

    def return_to_accepted(self) -> LayerMapping:
        """Undo a trial that is not settled; return the mapping that holds."""
        path = self.run.checkpoint("accepted")
        mapping = read_record(LayerMapping, read_metadata(path).get("mapping", {}), str(path))
        self.backend.convert_(self.model, mapping, self.settings.tile)
        load_training_state(path, self.model, self.optimizer)
        self._keep_analog_state()
        return mapping

    def _restore_accepted(self, start: LayerMapping) -> None:
        if self.run.checkpoint("accepted").exists():
            self.return_to_accepted()
        else:
            self._save_accepted(start)

    def _keep_analog_state(self) -> None:
        self._analog_state = {n: t.clone() for n, t in self.model.state_dict().items() if ".analog_" in f".{n}"}


def _median_time(work: Callable[[], None], repeats: int = 3) -> float:
    """Return the median wall time of `work` [s], after one run that does not count."""
    work()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def _with_limit(decision: Decision) -> str:
    if decision.limit_pp is None or decision.limit_pp == decision.drop_pp:
        return ""
    return f", at most {decision.limit_pp:.2f}"


def _trial_name(index: int) -> str:
    return f"trial-{index:03d}"

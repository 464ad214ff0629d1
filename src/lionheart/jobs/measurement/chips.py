"""Evaluation of the model under search on simulated chips: for decisions, for the hold-out test, and for the final results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import final

import torch
from torch import Tensor, nn

from lionheart.analog import compile_model_, uncompile_
from lionheart.data import BatchSource, take_samples
from lionheart.errors import ConfigError
from lionheart.evaluation import (
    estimate_drop,
    evaluate_accuracy,
    evaluate_over_chips,
    score_samples,
)
from lionheart.jobs.context import Context
from lionheart.jobs.samples import calibration_pass, split_validation
from lionheart.progress import Progress
from lionheart.runs import Accuracy, Drop
from lionheart.tasks import Task

_CLEAR = 0.95  # confidence of an early stop; at the bound itself a complete evaluation is wrong half of the time
_FEWEST_SAMPLES = 50  # smallest number of samples before an early stop
_WORTH_COMPILING = 1_000  # passes: each saves some 0.1 s of a small network, compiling takes a minute


@final
class ChipEvaluator:
    """Evaluates a model over simulated chips and compares it with the task's digital network.

    Args:
        context: Context of the job.
        model: Model under search, evaluated with its current weights and mapping.
    """

    def __init__(self, context: Context, model: nn.Module) -> None:
        task, settings = context.task, context.settings
        self.task, self.model, self.settings = task, model, settings
        self.streams, self.progress = context.streams, context.progress
        self.validation, self.held_out = split_validation(task.validation, settings)
        n_final = settings.search.final_samples
        self.final_validation = take_samples(task.validation, n_final)
        self.final_test = take_samples(task.test, n_final)

    @cached_property
    def reference(self) -> Tensor:
        """Per-sample scores of the digital network on the samples used for decisions."""
        return score_samples(self.task.model, self.validation, self.task.metric)

    @cached_property
    def held_out_reference(self) -> Tensor:
        """Per-sample scores of the digital network on the held-out samples."""
        return score_samples(self.task.model, self._held_out_samples(), self.task.metric)

    def decide(
        self, path: tuple[str | int, ...], label: str, *, early_stop: bool, times: Sequence[float] | None = None
    ) -> tuple[Accuracy, Drop]:
        """Evaluate on the samples used for decisions, at the worst time.

        With `early_stop` the evaluation ends as soon as the drop is clearly beyond the bound. Mappings within the bound are
        always evaluated in full: picking the best of many short evaluations is biased (winner's curse).

        Args:
            path: Path of the random stream of the chips.
            label: Label of the progress bar.
            early_stop: Whether the evaluation may end early.
            times: Times since programming [s]; None = the times of the bound.

        Returns:
            Accuracy and drop at the time with the largest drop.
        """
        search = self.settings.search
        is_enough = self._is_beyond if early_stop and search.n_chips > 1 else None
        return self._worst(
            self.validation, self.reference, search.n_chips, path, label, search.confidence_level, is_enough, times
        )

    def test_holdout(self, path: tuple[str | int, ...], label: str, confidence: float) -> tuple[Accuracy, Drop]:
        """Evaluate on samples and chips that no decision used, at the time of the bound with the largest drop."""
        n_chips = self.settings.search.n_chips_final
        return self._worst(self._held_out_samples(), self.held_out_reference, n_chips, path, label, confidence)

    def validate(self) -> list[Accuracy]:
        """Return the validation accuracy over chips that no decision used, at the times of the bound."""
        search = self.settings.search
        times, label = list(search.decision_times()), "validation, fresh chips"
        return self._evaluate(self.final_validation, times, search.n_chips_final, ("validate",), label)

    def test(self) -> list[Accuracy]:
        """Return the test accuracy over fresh chips at the report times and the times of the bound; call once."""
        search = self.settings.search
        times = sorted({*search.report_times, search.t_inference, *search.decision_times()})
        return self._evaluate(self.final_test, times, search.n_chips_final, ("test",), "test over time, fresh chips")

    def _evaluate(
        self,
        batches: BatchSource,
        times: list[float],
        n_chips: int,
        path: tuple[str | int, ...],
        label: str,
        is_enough: Callable[[list[Accuracy]], bool] | None = None,
    ) -> list[Accuracy]:
        with compiling(self.model, len(batches) * len(times) * n_chips, enabled=self.settings.compile):
            return evaluate_over_chips(
                self.model,
                batches,
                self.task.metric,
                times=times,
                n_chips=n_chips,
                streams=self.streams.scope(*path),
                confidence=self.settings.search.interval_coverage,
                progress=self.progress,
                label=label,
                run_calibration=calibration_pass(self.task),
                is_enough=is_enough,
            )

    def _worst(
        self,
        batches: BatchSource,
        reference: Tensor,
        n_chips: int,
        path: tuple[str | int, ...],
        label: str,
        confidence: float | None,
        is_enough: Callable[[list[Accuracy]], bool] | None = None,
        times: Sequence[float] | None = None,
    ) -> tuple[Accuracy, Drop]:
        """Return accuracy and drop at the time with the largest drop, or upper confidence bound of the drop."""
        search = self.settings.search
        found = self._evaluate(batches, list(times or search.decision_times()), n_chips, path, label, is_enough)
        reference = reference[: found[0].n_samples]
        drops = [drop_of(each, reference, confidence, search.chip_yield) for each in found]
        return max(zip(found, drops, strict=True), key=lambda pair: pair[1].drop_ucb_pp)

    def _held_out_samples(self) -> BatchSource:
        if self.held_out is None:
            raise ConfigError(
                "search.confidence_level: no validation samples are held out, which a hold-out test needs",
                hint="set search.confidence_level",
            )
        return self.held_out

    def _is_beyond(self, found: Sequence[Accuracy]) -> bool:
        """Return whether the samples so far show with confidence `_CLEAR` that the drop is beyond the bound."""
        reference = self.reference[: found[0].n_samples]
        if len(reference) < _FEWEST_SAMPLES:
            return False
        drops = [drop_of(each, reference, _CLEAR, None) for each in found]
        return max(2 * each.drop_pp - each.drop_ucb_pp for each in drops) > self.settings.search.max_drop_pp


@contextmanager
def compiling(model: nn.Module, n_passes: int, *, enabled: bool) -> Iterator[None]:
    """Run the passes inside the context under `torch.compile`, if `enabled` and if there are enough to repay compilation."""
    if not enabled or n_passes < _WORTH_COMPILING:
        yield
        return
    compile_model_(model)
    try:
        yield
    finally:
        uncompile_(model)


def drop_of(estimate: Accuracy, reference: Tensor, confidence: float | None, chip_yield: float | None) -> Drop:
    """Return the drop of `estimate` against the digital scores `reference` [pp], with its upper confidence bound."""
    if estimate.samples is None:
        raise ConfigError("drop: the estimate has no per-sample scores", hint="use an estimate of evaluate_over_chips")
    chips = torch.tensor(estimate.scores, dtype=torch.float64)
    return estimate_drop(chips, estimate.samples, reference, confidence=confidence, chip_yield=chip_yield)


def digital_accuracy(model: nn.Module, batches: BatchSource, task: Task, progress: Progress, label: str) -> float:
    """Return the accuracy of a model with its current weights; shows a progress bar."""
    with progress.bar(label, len(batches)) as bar:
        return evaluate_accuracy(model, batches, task.metric, on_batch=bar.advance)

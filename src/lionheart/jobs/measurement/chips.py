"""Evaluation of a model on simulated chips: for decisions of the search, for the hold-out test, and for final results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import final

import torch
from torch import Tensor, nn

from lionheart.data import BatchSource, take_samples
from lionheart.deprecated import HOLDOUT_STREAM
from lionheart.errors import ConfigError
from lionheart.evaluation import (
    Look,
    estimate_drop,
    estimate_set_drop,
    evaluate_accuracy,
    evaluate_over_chips,
    judge,
    merge_chips,
    score_samples,
)
from lionheart.jobs.context import Context
from lionheart.jobs.measurement.compiling import compiling
from lionheart.jobs.samples import calibration_pass, split_validation
from lionheart.metrics import Metric
from lionheart.progress import Progress
from lionheart.runs import Accuracy, Drop, HoldoutTest
from lionheart.tasks import Task

_CLEAR = 0.95  # confidence level of an early stop; close to the bound, even a full evaluation is wrong half of the time
_FEWEST_SAMPLES = 50  # smallest number of samples before an early stop
_FINAL = ("validate", "test")  # final results, which `evaluate_run` repeats for a mapping alone


@final
class ChipEvaluator:
    """Evaluates a model on simulated chips, and compares the accuracy with the accuracy of the task's digital network.

    Args:
        context: Context of the job.
        model: Model to evaluate. Each method uses the weights and the analog layers that the model has at the time of the call.
    """

    def __init__(self, context: Context, model: nn.Module) -> None:
        task, settings = context.task, context.settings
        self.context = context
        self.task, self.model, self.settings = task, model, settings
        self.streams, self.progress = context.streams, context.progress
        self.validation, self.held_out = split_validation(task, settings)
        self._is_paired = settings.search.guarantee is not None  # all mappings are measured on common chips
        n_final = settings.search.final_samples
        self.final_validation = take_samples(task.validation, n_final)
        self.final_test = take_samples(task.test, n_final)

    @cached_property
    def reference(self) -> Tensor:
        """Scores of the task's digital network on the validation samples used for decisions, ``(samples,)``.

        For a metric of scope ``set``, the statistics of the samples, ``(samples, statistics)``.
        """
        return score_samples(self.task.model, self.validation, self.task.metric)

    @cached_property
    def held_out_reference(self) -> Tensor:
        """Scores of the task's digital network on the validation samples for the hold-out test, ``(samples,)``."""
        return score_samples(self.task.model, self._held_out_samples(), self.task.metric)

    def decide(
        self, path: tuple[str | int, ...], label: str, *, early_stop: bool, times: Sequence[float] | None = None
    ) -> tuple[Accuracy, Drop]:
        """Evaluate the model on the samples used for decisions, and return accuracy and drop at the worst time.

        The evaluation can end early only if the accuracy drop is beyond the bound, `Context.max_drop`. A mapping within
        the bound is always evaluated on all samples, because selecting the best of many short evaluations would be biased
        (winner's curse).

        Args:
            path: Name of the random stream, as a tuple, with which the chips are simulated. With a `guarantee`, only the first
                part is used, so that all decisions have common chips.
            label: Label of the progress bar.
            early_stop: Whether to end the evaluation once the mean drop over chips exceeds the bound with 95 % confidence.
            times: Times since programming [s]; None = the times at which the bound must hold.

        Returns:
            Accuracy and drop at the time at which the upper confidence bound of the drop, `drop_ucb_pp`, is largest.
        """
        search = self.settings.search
        path = path[:1] if self._is_paired else path
        may_end = early_stop and search.n_chips > 1 and not self.task.metric.is_of_set
        is_enough = self._is_beyond if may_end else None
        return self._worst(
            self.validation, self.reference, search.n_chips, path, label, search.confidence_level, is_enough, times
        )

    def measure_part(self, path: tuple[str | int, ...], label: str, n_samples: int) -> list[Accuracy]:
        """Return the accuracy on some of the samples used for decisions, at each time at which the bound must hold.

        Args:
            path: Name of the random stream, as a tuple, with which the chips are simulated.
            label: Label of the progress bar.
            n_samples: Number of samples, from the first one.
        """
        search, some = self.settings.search, take_samples(self.validation, n_samples)
        return self._evaluate(some, list(search.decision_times()), search.n_chips, path, label)

    def test_holdout(self, path: tuple[str | int, ...], label: str, confidence: float) -> tuple[Accuracy, Drop]:
        """Evaluate the model on validation samples and simulated chips that no decision of the search has used.

        Args:
            path: Name of the random stream, as a tuple, with which the chips are simulated.
            label: Label of the progress bar.
            confidence: Confidence level of the upper bound of the drop, 0 to 1.

        Returns:
            Accuracy and drop at one time since programming. Among the times at which the bound on the drop must hold, this time
            has the largest upper confidence bound of the drop, `drop_ucb_pp`.
        """
        n_chips = self.settings.search.n_chips_final
        return self._worst(self._held_out_samples(), self.held_out_reference, n_chips, path, label, confidence)

    def confirm(self, label: str, looks: Sequence[Look]) -> HoldoutTest:
        """Test whether the drop is within the bound, on the validation samples and the chips that no decision has used.

        All tests of a run use the same samples and chips. The test goes on from look to look until one of them decides. At each
        look, the time since programming with the largest upper confidence bound of the drop counts.

        Args:
            label: Label of the progress bar.
            looks: Looks of the test, as returned by `plan_looks`.

        Returns:
            The result, with accuracy and drop at the last look that was taken. `analog` is empty.
        """
        batches, reference = self._held_out_samples(), self.held_out_reference
        times, whole = list(self.settings.search.decision_times()), [look for look in looks if look.share == 1]
        early = next((look for look in looks if look.share < 1), None)

        def is_beyond(found: Sequence[Accuracy]) -> bool:
            n_samples = found[0].n_samples or 0
            if early is None or n_samples < early.share * len(reference):
                return False
            return judge(self._worst_of(found, reference, None)[1], self.context.max_drop, early) is False

        found: list[Accuracy] = []
        for number, look in enumerate(whole):
            n_chips = look.n_chips - (found[0].n_chips if found else 0)
            path = (HOLDOUT_STREAM, "looks", number)
            stop = is_beyond if number == 0 and early is not None else None
            new = self._evaluate(batches, times, n_chips, path, label, stop)
            found = [self._merge(*pair) for pair in zip(found, new, strict=True)] if found else new
            accuracy, drop = self._worst_of(found, reference, 1 - look.error, guarded=True)
            outcome = judge(drop, self.context.max_drop, look, is_last=look is whole[-1])
            if (found[0].n_samples or 0) < len(reference):
                outcome = False
            if outcome is not None:
                break
        return HoldoutTest(analog=(), accuracy=accuracy, drop=drop, accepted=bool(outcome), n_looks=number + 1)

    def validate(self) -> list[Accuracy]:
        """Return the accuracy on the validation samples for final results, at each time at which the bound must hold.

        The accuracy is measured on newly simulated chips, which no decision of the search has used. The times are in ascending
        order.
        """
        search = self.settings.search
        times, label = list(search.decision_times()), "validation, fresh chips"
        return self._evaluate(self.final_validation, times, search.n_chips_final, ("validate",), label)

    def test(self) -> list[Accuracy]:
        """Return the accuracy on test samples and newly simulated chips, at several times since programming.

        The times are the settings `report_times` and `t_inference` and the times at which the bound on the accuracy drop must
        hold, in ascending order. This method is called once per run, for the final results.
        """
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
        n_passes = len(batches) * len(times) * n_chips
        with compiling(
            self.model, n_passes, enabled=self.settings.compile, n_macs=self.context.count_macs(batches, n_passes)
        ):
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
                by_layer=self._is_paired and path[0] not in _FINAL,
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
        """Evaluate the model on `n_chips` simulated chips at all `times`, and return accuracy and drop at the worst time.

        The worst time is the time at which the upper confidence bound of the drop, `drop_ucb_pp`, is largest.
        """
        search = self.settings.search
        found = self._evaluate(batches, list(times or search.decision_times()), n_chips, path, label, is_enough)
        return self._worst_of(found, reference, confidence)

    def _worst_of(
        self, found: Sequence[Accuracy], reference: Tensor, confidence: float | None, *, guarded: bool = False
    ) -> tuple[Accuracy, Drop]:
        """Return accuracy and drop at the time with the largest upper confidence bound of the drop."""
        reference, chip_yield = reference[: found[0].n_samples], self.settings.search.chip_yield
        drops = [drop_of(each, reference, confidence, chip_yield, self.task.metric, guarded=guarded) for each in found]
        return max(zip(found, drops, strict=True), key=lambda pair: pair[1].drop_ucb_pp)

    def _merge(self, first: Accuracy, second: Accuracy) -> Accuracy:
        return merge_chips(first, second, confidence=self.settings.search.interval_coverage, metric=self.task.metric)

    def _held_out_samples(self) -> BatchSource:
        if self.held_out is None:
            raise ConfigError(
                "search.guarantee: got None, but a hold-out test needs a guarantee or a confidence level",
                hint="set search.guarantee to a value between 0.5 and 1",
            )
        return self.held_out

    def _is_beyond(self, found: Sequence[Accuracy]) -> bool:
        """Return whether, at any time, the mean accuracy drop over chips exceeds the bound with 95 % confidence.

        The result is False while fewer than `_FEWEST_SAMPLES` samples are evaluated.

        Args:
            found: Accuracy at each time, on the samples evaluated so far.
        """
        reference = self.reference[: found[0].n_samples]
        if len(reference) < _FEWEST_SAMPLES:
            return False
        drops = [drop_of(each, reference, _CLEAR, None, self.task.metric) for each in found]
        return max(2 * each.drop_pp - each.drop_ucb_pp for each in drops) > self.context.max_drop


def drop_of(
    estimate: Accuracy,
    reference: Tensor,
    confidence: float | None,
    chip_yield: float | None,
    metric: Metric,
    *,
    guarded: bool = False,
) -> Drop:
    """Return the drop from the digital network to an analog network, and its upper confidence bound.

    Both are in the unit of the metric's drop (pp for an accuracy).

    Args:
        estimate: Accuracy of the analog network on simulated chips, as returned by `evaluate_over_chips`.
        reference: Scores of the digital network on the same samples, ``(samples,)``, or its statistics for a metric of scope
            ``set``, ``(samples, statistics)``.
        confidence: Confidence level of the upper bound, 0 to 1; None = the upper bound is equal to the estimated drop.
        chip_yield: Fraction of the chips, 0 to 1. The returned drop is the drop that this fraction of the chips does not
            exceed. None = the returned drop is the mean over chips.
        metric: Metric of the scores.
        guarded: Whether the upper bound also covers rare losses that no sample shows, as `estimate_drop` describes.

    Raises:
        ConfigError: `estimate` contains no per-sample scores, `reference` has another number of samples, or there are too few
            chips or samples for an upper bound.
    """
    chips = torch.tensor(estimate.scores, dtype=torch.float64)
    if metric.is_of_set:
        return estimate_set_drop(chips, metric.score_set(reference), metric, chip_yield=chip_yield)
    if estimate.samples is None:
        raise ConfigError(
            "estimate: got an accuracy whose per-sample scores are missing (estimate.samples is None)",
            hint="pass an estimate returned by evaluate_over_chips",
        )
    return estimate_drop(
        chips,
        estimate.samples,
        reference,
        confidence=confidence,
        chip_yield=chip_yield,
        metric=metric,
        guarded=guarded,
    )


def compare(before: Accuracy, after: Accuracy, metric: Metric) -> Drop:
    """Return the drop from one mapping to another that was measured on the same samples and on common chips.

    Args:
        before: Accuracy of the first mapping, with the scores of the samples.
        after: Accuracy of the second mapping.
        metric: Metric of the scores, of scope ``sample``.
    """
    first, second = (torch.tensor(each.scores, dtype=torch.float64) for each in (before, after))
    paired = second - first  # chip by chip
    return estimate_drop(paired, after.samples, before.samples, metric=metric)


def digital_accuracy(model: nn.Module, batches: BatchSource, task: Task, progress: Progress, label: str) -> float:
    """Return the accuracy of a digital model on `batches`, i.e. the mean score over samples.

    Args:
        model: Digital model to evaluate.
        batches: Samples on which the model is evaluated.
        task: Task whose metric computes the scores.
        progress: Receiver of the progress bar.
        label: Label of the progress bar.
    """
    with progress.bar(label, len(batches)) as bar:
        return evaluate_accuracy(model, batches, task.metric, on_batch=bar.advance)

"""The guarantee: confirm the mapping of a search, or a smaller one, on samples and chips that decided nothing.

Smaller mappings are planned on the samples used for decisions. The held-out samples only answer yes or no.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from scipy import stats

from lionheart.evaluation import Look, plan_looks
from lionheart.jobs.context import Context
from lionheart.jobs.measurement.chips import compare
from lionheart.jobs.post.holdout import run_holdout_tests
from lionheart.jobs.problem import MappingProblem
from lionheart.jobs.samples import explain_no_test
from lionheart.mapping import LayerMapping, Placement
from lionheart.metrics import is_within
from lionheart.runs import Drop, Guarantee, HoldoutTest
from lionheart.search import CheapestRelief, Relief, SearchLoop, SearchResult, Shrink, share_out

#: Shares of the error probability: of the first mapping tested, of all larger ones, and of smaller ones after a failure.
_FIRST, _LARGER, _SMALLER = 0.45, 0.4, 0.15
_MOST_FAILURES = 2  # larger mappings in a row that may fail
_MOST_SMALLER = 4  # smaller mappings that may fail
_STEP = 0.5  # distance of the drops of two planned mappings, in standard errors of a test and a decision
_STEP_WITHOUT_ERROR = 0.1  # the same in bounds, for a mapping that was measured without any error
_SAFETY = 1.5  # further distance of the first mapping tested from the bound, in these standard errors
_MOST_STEPS = 12  # planned mappings
_FARTHEST = 100.0  # largest excess asked for, in bounds
_FEWEST_SAMPLES = 500  # of the measurement of one relief
_WHOLE_RELIEFS = 12  # reliefs that are measured on all samples for decisions; more of them share as many evaluations
_STREAM = ("smaller",)  # the chips on which mappings are planned


@final
@dataclass(frozen=True)
class _Step:
    """A planned mapping with its drop on the samples used for decisions.

    Args:
        mapping: The mapping.
        drop: Its drop.
        is_original: Whether the network has the weights of the task's model; otherwise those that the search found.
    """

    mapping: LayerMapping
    drop: Drop
    is_original: bool


@final
@dataclass(frozen=True)
class _Plan:
    """Planned mappings in ascending order of drop and descending order of cost.

    Args:
        steps: The mappings, at least one.
        shrink: Function with which they were found.
        excess: Largest excess that was asked for, in the unit of the drop.
        first: Index of the mapping to test first: the largest one that is likely to pass, else the smallest one.
        is_likely: Whether this mapping is likely to pass.
    """

    steps: tuple[_Step, ...]
    shrink: Shrink
    excess: float
    first: int
    is_likely: bool


def confirm_bound(
    context: Context, problem: MappingProblem, loop: SearchLoop, found: SearchResult
) -> tuple[LayerMapping, tuple[HoldoutTest, ...], Guarantee | None]:
    """Confirm the mapping of a search on held-out samples and fresh chips, and return the largest mapping that passes.

    With `search.confidence_level`, the tests of `run_holdout_tests` are made, and without both settings none.

    With `search.guarantee`, a sequence of mappings is planned first, from the mapping of the search to smaller ones whose
    estimated drop is further below the bound. If none of them is likely to pass with retrained weights, the sequence is planned
    with the weights of the task's model. Then the largest one that is likely to pass is tested, and if it passes, the next
    larger ones until two in a row fail. Each mapping has its own share of the error probability, to which that of the mapping
    before it is added if this one has passed (the fallback procedure): a test that passes costs nothing. If the first mapping
    fails, up to four smaller ones are tested with the rest of the error probability, half of what is left for each. If all of
    them fail, the result is the digital network with its original weights.

    Args:
        context: Context of the job.
        problem: Model with the weights that the search found. On return, the returned mapping is applied to the model.
        loop: Loop of the search, with the objective and the strategy's function for smaller mappings.
        found: Result of the search.

    Returns:
        The mapping, the tests in the order in which they were made, and whether the bound is confirmed; None without a
        guarantee.

    Source:
        Wiens, Pharmaceutical Statistics 2 (2003) 211, and Wiens and Dmitrienko, Journal of Biopharmaceutical Statistics 15
        (2005) 929, on the fallback procedure; docs/adr/0039-the-bound-by-default.md.
    """
    level = context.settings.search.guarantee
    if level is None:
        return (*run_holdout_tests(context, problem, found), None)
    if not found.mapping.analog:
        return found.mapping, (), Guarantee(probability=level, confirmed=True)
    if problem.chips.held_out is None:
        reason = explain_no_test(context.task, context.settings)
        context.progress.note(f"bound not confirmed: {reason}")
        return found.mapping, (), Guarantee(probability=level, confirmed=False, reason=reason)
    return _Confirmation(context, problem, loop).run(found, level)


@final
class _Confirmation:
    """The plan and the tests of one run."""

    def __init__(self, context: Context, problem: MappingProblem, loop: SearchLoop) -> None:
        self.context, self.problem, self.loop = context, problem, loop
        self.tests: list[HoldoutTest] = []
        self._is_original = False  # weights in the model

    def run(self, found: SearchResult, level: float) -> tuple[LayerMapping, tuple[HoldoutTest, ...], Guarantee]:
        error = 1 - level
        last = plan_looks((_FIRST + _LARGER) * error, self.context.settings.search.n_chips_final)[-1]
        plan = self._plan(found.mapping, last, is_original=False)
        if not plan.is_likely and any(each.accepted and each.train.n_steps for each in found.decisions):
            other = self._plan(found.mapping, last, is_original=True)
            plan = other if other.is_likely else plan
        passed, test = self._test_larger(plan.steps[plan.first :], error)
        if passed is None:
            passed, test = self._test_smaller(found.mapping, plan, _SMALLER * error)
        top = plan.steps[-1]
        if passed is None:
            self.problem.restore(LayerMapping(dict.fromkeys(found.mapping.placements, Placement.DIGITAL)))
        else:
            self._apply(passed, top.is_original)
        mapping = passed or LayerMapping(dict.fromkeys(found.mapping.placements, Placement.DIGITAL))
        guarantee = Guarantee(
            probability=level,
            confirmed=True,
            margin_pp=self._margin(top.drop, last),
            n_tests=len(self.tests),
            original_weights=top.is_original and passed is not None,
        )
        return mapping, tuple(self.tests), guarantee if test is None else _describe_test(guarantee, test)

    def _apply(self, mapping: LayerMapping, is_original: bool) -> None:
        """Apply a mapping with at least one analog projection to the model, with the original or the found weights."""
        if is_original != self._is_original:
            if is_original:
                self.problem.restore(LayerMapping(dict.fromkeys(mapping.placements, Placement.DIGITAL)))
            else:
                self.problem.return_to_accepted()
            self._is_original = is_original
        self.problem.restore(mapping)

    # -- plan on the samples used for decisions ------------------------------------------------------------------------

    def _plan(self, mapping: LayerMapping, last: Look, *, is_original: bool) -> _Plan:
        """Return mappings from the given one to smaller ones, until one is likely to pass."""
        top = _Step(mapping, self._measure(mapping, 0, is_original), is_original)
        shrink = self.loop.shrink or CheapestRelief(self._estimate_reliefs(top))
        steps, excess = [top], max(top.drop.drop_pp - self.context.max_drop, 0.0)
        distance = _STEP * self._error(top.drop, last) or _STEP_WITHOUT_ERROR * self.context.max_drop
        for _ in range(_MOST_STEPS):
            if self._is_likely(steps[-1], last):
                break
            excess += distance
            smaller = shrink(mapping, excess)
            if smaller is None or not smaller.analog:
                break
            if smaller != steps[-1].mapping:
                steps.append(_Step(smaller, self._measure(smaller, len(steps), is_original), is_original))
        ordered: list[_Step] = []
        for step in sorted(steps, key=lambda step: step.drop.drop_pp):
            if not ordered or self._cost(step) < self._cost(ordered[-1]):
                ordered.append(step)
        likely = [index for index, step in enumerate(ordered) if self._is_likely(step, last)]
        return _Plan(tuple(ordered), shrink, excess, max(likely, default=0), bool(likely))

    def _cost(self, step: _Step) -> tuple[float, float]:
        return self.loop.cost_of(step.mapping)

    def _measure(self, mapping: LayerMapping, number: int, is_original: bool) -> Drop:
        def measure() -> Drop:
            self._apply(mapping, is_original)
            return self.problem.chips.decide(_STREAM, f"smaller mapping {number}", early_stop=False)[1]

        return self.context.journal.once(f"smaller {_write_weights(is_original)}{number}", Drop, measure)

    def _errors(self, drop: Drop, last: Look) -> tuple[float, float]:
        """Return the standard errors of a drop in the last look of a test, as predicted, and on the samples for decisions."""
        chips, by_samples = self.problem.chips, drop.sample_error_pp or 0.0
        n_chips, n_deciding = self.context.settings.search.n_chips, len(chips.reference)
        in_test = math.hypot(
            drop.chip_error_pp * math.sqrt(n_chips / last.n_chips),
            by_samples * math.sqrt(n_deciding / len(chips.held_out_reference)),
        )
        return in_test, math.hypot(drop.chip_error_pp, by_samples)

    def _error(self, drop: Drop, last: Look) -> float:
        return math.hypot(*self._errors(drop, last))

    def _margin(self, drop: Drop, last: Look) -> float:
        """Return the distance below the bound at which a mapping with errors like those of `drop` passes its last look."""
        return float(stats.norm.isf(last.error)) * self._errors(drop, last)[0]

    def _is_likely(self, step: _Step, last: Look) -> bool:
        """Return whether a mapping is likely to pass its test (with 93 % for normal errors of both estimates)."""
        worst = step.drop.drop_pp + self._margin(step.drop, last) + _SAFETY * self._error(step.drop, last)
        return is_within(worst, self.context.max_drop)

    def _estimate_reliefs(self, top: _Step) -> list[Relief]:
        """Return for each analog projection of a mapping what it gives back if only this projection becomes digital."""
        objective, mapping = self.loop.objective, top.mapping
        costs = objective.gains(mapping, mapping.analog)
        drops = share_out(top.drop.drop_pp, self._find_weights(mapping), self._measure_reliefs(top))
        return [Relief(fqn, -costs[fqn], drop) for fqn, drop in drops.items()]

    def _find_weights(self, mapping: LayerMapping) -> dict[str, float]:
        """Return the loss increases that the search measured for the analog projections; 1 for each if it measured none."""
        journal = self.context.journal
        rises = journal.read("sensitivity", dict[str, float]) if journal.has("sensitivity") else {}
        known = {fqn: max(rises.get(fqn, 0.0), 0.0) for fqn in mapping.analog}
        return known if min(known.values()) > 0 else dict.fromkeys(mapping.analog, 1.0)

    def _measure_reliefs(self, top: _Step) -> dict[str, tuple[float, float]]:
        """Return for each analog projection the decrease of the drop without it, and its standard error.

        It is measured on samples used for decisions, in the metric of the task, and on common chips.
        """
        chips, metric, mapping = self.problem.chips, self.context.task.metric, top.mapping
        n_samples, n_layers = len(chips.reference), len(mapping.analog)
        n_used = min(n_samples, max(_WHOLE_RELIEFS * n_samples // max(n_layers, _WHOLE_RELIEFS), _FEWEST_SAMPLES))
        label = f"reliefs of {n_layers} projections"

        def measure() -> dict[str, tuple[float, float]]:
            self._apply(mapping, top.is_original)
            whole = chips.measure_part(_STREAM, label, n_used)
            worst = min(range(len(whole)), key=lambda index: metric.rank(whole[index].mean))
            reliefs = {}
            for fqn in mapping.analog if n_layers > 1 else ():
                self._apply(mapping.with_placement(fqn, Placement.DIGITAL), top.is_original)
                part = chips.measure_part(_STREAM, label, n_used)[worst]
                change = compare(part, whole[worst], metric)
                reliefs[fqn] = (change.drop_pp, math.hypot(change.chip_error_pp, change.sample_error_pp or 0.0))
            return reliefs

        step = f"reliefs {_write_weights(top.is_original)}".rstrip()
        return self.context.journal.once(step, dict[str, tuple[float, float]], measure)

    # -- tests on held-out samples -------------------------------------------------------------------------------------

    def _test(self, mapping: LayerMapping, error: float, is_original: bool) -> HoldoutTest:
        context, number = self.context, len(self.tests)

        def evaluate() -> HoldoutTest:
            self._apply(mapping, is_original)
            looks = plan_looks(error, context.settings.search.n_chips_final)
            label = f"{len(mapping.analog)} projections analog, held-out samples"
            return self.problem.chips.confirm(label, looks).replace(analog=mapping.analog)

        is_new = not context.journal.has(f"holdout {number}")
        test = context.journal.once(f"holdout {number}", HoldoutTest, evaluate)
        self.tests.append(test)
        if is_new:
            metric, outcome = context.task.metric, "keep" if test.accepted else "may break"
            drop, most = metric.format_drop(test.drop.drop_pp, sign=True), metric.write_drop(test.drop.drop_ucb_pp)
            context.progress.note(
                f"held-out samples: {len(test.analog)} projections {outcome} the bound; drop {drop}, at most {most} "
                f"(bound {context.max_drop:g}); {test.accuracy.n_chips} chips"
            )
        return test

    def _test_larger(self, steps: Sequence[_Step], error: float) -> tuple[LayerMapping | None, HoldoutTest | None]:
        """Test the first mapping and, if it passes, larger ones. Return the largest one that passes, and its test.

        Args:
            steps: Mappings in descending order of cost.
            error: Error probability of the whole run.
        """
        n_larger = len(steps) - 1
        shares = [_FIRST, *([_LARGER / n_larger] * n_larger)] if n_larger else [_FIRST + _LARGER]
        passed, last, carried, n_failed = None, None, 0.0, 0
        for step, share in zip(steps, shares, strict=True):
            test = self._test(step.mapping, (carried + share) * error, step.is_original)
            carried, n_failed = (carried + share, 0) if test.accepted else (0.0, n_failed + 1)
            if test.accepted:
                passed, last = step.mapping, test
            if passed is None or n_failed == _MOST_FAILURES:
                break
        return passed, last

    def _test_smaller(
        self, mapping: LayerMapping, plan: _Plan, error: float
    ) -> tuple[LayerMapping | None, HoldoutTest | None]:
        """Test smaller mappings: the planned ones, then those that the shrink function gives for ever larger excesses."""
        tried = [step.mapping for step in reversed(plan.steps[: plan.first])]
        known, excess = [step.mapping for step in plan.steps], plan.excess
        while len(tried) < _MOST_SMALLER:
            excess = 1.5 * excess or self.context.max_drop
            smaller = plan.shrink(mapping, excess)
            if smaller is None or not smaller.analog or excess > _FARTHEST * self.context.max_drop:
                break
            if smaller not in known:
                known.append(smaller)
                tried.append(smaller)
        for smaller in tried[:_MOST_SMALLER]:
            error /= 2
            test = self._test(smaller, error, plan.steps[0].is_original)
            if test.accepted:
                return smaller, test
        return None, None


def _write_weights(is_original: bool) -> str:
    return "original " if is_original else ""


def _describe_test(guarantee: Guarantee, test: HoldoutTest) -> Guarantee:
    """Return a guarantee with the chips, samples and drop of the test that its mapping passed."""
    return guarantee.replace(
        n_chips=test.accuracy.n_chips,
        n_samples=test.accuracy.n_samples or 0,
        drop_pp=test.drop.drop_pp,
        drop_ucb_pp=test.drop.drop_ucb_pp,
    )

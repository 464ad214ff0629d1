"""The hold-out test: samples and chips that decided nothing confirm the mapping, or it shrinks until they do."""

from __future__ import annotations

from functools import partial

from lionheart.jobs.context import Context
from lionheart.jobs.problem import MappingProblem
from lionheart.mapping import LayerMapping, Placement
from lionheart.metrics import is_within
from lionheart.runs import Decision, HoldoutTest
from lionheart.search import SearchResult


def run_holdout_tests(
    context: Context, problem: MappingProblem, found: SearchResult
) -> tuple[LayerMapping, tuple[HoldoutTest, ...]]:
    """Return the largest mapping on the way back from the one found that keeps the bound on held-out samples.

    The search has chosen what looked good on the samples that decided, so those flatter it. Held-out samples know nothing of
    the search. The mapping found is tested first; while a test fails, the projections that went analog last go back, one,
    two, four and so on. Test ``k`` may err with half of the doubt that test ``k - 1`` had, so that all together err with
    no more than one minus the confidence level. All digital with the original weights is the end, and cannot break the bound.

    Args:
        context: Of the job.
        problem: With the weights of the mapping found.
        found: By the search.

    Returns:
        The mapping, which the problem's model has now, and the tests.
    """
    search = context.settings.search
    if search.confidence_level is None:
        return found.mapping, ()
    order, mapping = order_of_acceptance(found.decisions, found.mapping), found.mapping
    tests: list[HoldoutTest] = []
    doubt = 1 - search.confidence_level
    while mapping.analog:
        doubt /= 2
        number = len(tests)
        is_new = not context.journal.has(f"holdout {number}")
        measure = partial(_test, problem, mapping, number, 1 - doubt, search.max_drop_pp)
        test = context.journal.once(f"holdout {number}", HoldoutTest, measure)
        tests.append(test)
        if is_new:
            _show(context, test)
        if test.accepted:
            break
        for fqn in order[-(2**number) :]:
            mapping = mapping.with_placement(fqn, Placement.DIGITAL)
        order = order[: -(2**number)]
    problem.restore(mapping)
    return mapping, tuple(tests)


def _test(
    problem: MappingProblem, mapping: LayerMapping, number: int, confidence: float, max_drop_pp: float
) -> HoldoutTest:
    accuracy, drop = problem.test_holdout(mapping, number, confidence)
    accepted = is_within(drop.drop_ucb_pp, max_drop_pp)
    return HoldoutTest(analog=mapping.analog, accuracy=accuracy, drop=drop, accepted=accepted)


def _show(context: Context, test: HoldoutTest) -> None:
    drop = context.task.metric.format_drop(test.drop.drop_pp, sign=True)
    context.progress.note(
        f"held-out samples: {len(test.analog)} projections {'keep' if test.accepted else 'may break'} the bound; "
        f"drop {drop}, at most {test.drop.drop_ucb_pp:.2f} (bound {context.settings.search.max_drop_pp:g})"
    )


def order_of_acceptance(decisions: tuple[Decision, ...], mapping: LayerMapping) -> list[str]:
    """Return the analog projections in the order in which they went analog for good."""
    before: list[str] = []
    for decision in decisions:
        if decision.accepted:
            now = [decision.fqn] if decision.analog is None else list(decision.analog)
            kept = [fqn for fqn in before if decision.analog is None or fqn in now]
            before = kept + [fqn for fqn in now if fqn not in kept]
    return [fqn for fqn in before if mapping.is_analog(fqn)]

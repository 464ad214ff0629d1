"""The hold-out test: test a mapping on samples and chips that no decision has used.

If the test fails, projections (weight matrices) become digital again until a test passes.
"""

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
    """Test the mapping on held-out samples, and make projections digital again until the drop is within the bound.

    The search selects a mapping by its drop on the samples used for decisions, so this drop is biased towards small values. The
    held-out samples and their chips are independent of the search. The mapping returned by the search is tested first. After
    each failed test, the projections that became analog last become digital again: one after the first test, two after the
    second, then four and so on. Each test has half the permitted error probability of the test before. The probability that any
    test accepts a mapping whose drop is beyond the bound is therefore at most one minus the confidence level. If no mapping
    passes, the result is the digital network with its original weights.

    Args:
        context: Context of the job. If its settings contain no confidence level, no test is made.
        problem: Model with the weights that the search found. On return, the returned mapping is applied to the model.
        found: Result of the search.

    Returns:
        A mapping and the tests. The mapping is the mapping that passed, or the all-digital mapping if none passed, or the
        mapping in `found` if no test was made. The tests are in the order in which they were made.
    """
    search = context.settings.search
    if search.confidence_level is None:
        return found.mapping, ()
    order, mapping = order_of_acceptance(found.decisions, found.mapping), found.mapping
    tests: list[HoldoutTest] = []
    error_probability = 1 - search.confidence_level
    while mapping.analog:
        error_probability /= 2
        number = len(tests)
        is_new = not context.journal.has(f"holdout {number}")
        measure = partial(_test, problem, mapping, number, 1 - error_probability, context.max_drop)
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
    problem: MappingProblem, mapping: LayerMapping, number: int, confidence: float, max_drop: float
) -> HoldoutTest:
    accuracy, drop = problem.test_holdout(mapping, number, confidence)
    accepted = is_within(drop.drop_ucb_pp, max_drop)
    return HoldoutTest(analog=mapping.analog, accuracy=accuracy, drop=drop, accepted=accepted)


def _show(context: Context, test: HoldoutTest) -> None:
    metric = context.task.metric
    drop = metric.format_drop(test.drop.drop_pp, sign=True)
    context.progress.note(
        f"held-out samples: {len(test.analog)} projections {'keep' if test.accepted else 'may break'} the bound; "
        f"drop {drop}, at most {metric.write_drop(test.drop.drop_ucb_pp)} (bound {context.max_drop:g})"
    )


def order_of_acceptance(decisions: tuple[Decision, ...], mapping: LayerMapping) -> list[str]:
    """Return the names of the projections that are analog in `mapping`, in the order in which they last became analog.

    The projection that became analog first is the first element.
    """
    before: list[str] = []
    for decision in decisions:
        if decision.accepted:
            now = [decision.fqn] if decision.analog is None else list(decision.analog)
            kept = [fqn for fqn in before if decision.analog is None or fqn in now]
            before = kept + [fqn for fqn in now if fqn not in kept]
    return [fqn for fqn in before if mapping.is_analog(fqn)]

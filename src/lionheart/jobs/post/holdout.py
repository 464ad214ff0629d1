"""The last word on a promise: samples and chips that decided nothing confirm the mapping, or it shrinks until they do."""

from __future__ import annotations

from typing import Any

from lionheart.jobs.problem import MappingProblem
from lionheart.mapping import LayerMapping, Placement
from lionheart.runs import RunDirectory
from lionheart.search import Decision, SearchResult


def certify_mapping(problem: MappingProblem, found: SearchResult, run: RunDirectory) -> tuple[LayerMapping, list[Any]]:
    """Return the largest mapping on the way back from the one found that keeps the bound on held-out samples.

    The search has chosen what looked good on the samples that decided, so those flatter it. Held-out samples know nothing of
    the search. The mapping found is tested first; while a test fails, the projections that went analog last go back, one,
    two, four and so on. Test ``k`` may err with half of the doubt that test ``k - 1`` had, so that all together err with
    no more than ``1 - promise``. All digital with the original weights is the end, and cannot break the bound.

    Args:
        problem: With the weights of the mapping found.
        found: By the search.
        run: Where tests are journalled; those made before a resume are not made again.

    Returns:
        The mapping, which the problem's model has now, and the tests as plain data.
    """
    search = problem.settings.search
    if search.promise is None:
        return found.mapping, []
    order, mapping = order_of_acceptance(found.decisions, found.mapping), found.mapping
    tests = [event["test"] for event in run.events("certified")]
    number, doubt = 0, 1 - search.promise
    while mapping.analog:
        doubt /= 2
        if number < len(tests):
            test = tests[number]
        else:
            estimate, drop = problem.certify(mapping, number, 1 - doubt)
            test = {
                "analog": list(mapping.analog),
                "accuracy": estimate.to_json(),
                **drop.to_json(),
                "accepted": drop.limit_pp <= search.max_drop_pp,
            }
            tests.append(test)
            run.record("certified", test=test)
            verdict = "keep" if test["accepted"] else "may break"
            problem.progress.note(
                f"held-out samples: {len(mapping.analog)} projections {verdict} the bound; "
                f"drop {problem.task.measure.format_drop(drop.drop_pp, sign=True)}, "
                f"at most {drop.limit_pp:.2f} (bound {search.max_drop_pp:g})"
            )
        if test["accepted"]:
            break
        for fqn in order[-(2**number) :]:
            mapping = mapping.with_placement(fqn, Placement.DIGITAL)
        order = order[: -(2**number)]
        number += 1
    problem.restore(mapping)
    return mapping, tests


def order_of_acceptance(decisions: tuple[Decision, ...], mapping: LayerMapping) -> list[str]:
    """Return the analog projections in the order in which they went analog for good."""
    before: list[str] = []
    for decision in decisions:
        if decision.accepted:
            now = [decision.fqn] if decision.analog is None else list(decision.analog)
            kept = [fqn for fqn in before if decision.analog is None or fqn in now]
            before = kept + [fqn for fqn in now if fqn not in kept]
    return [fqn for fqn in before if mapping.is_analog(fqn)]

"""The LionHeart paper's search: one candidate after another, each tried once, retrained, kept or undone."""

from __future__ import annotations

from collections.abc import Sequence

from lionheart.candidates import Candidate
from lionheart.mapping import LayerMapping, Placement
from lionheart.search.problem import Problem, SearchResult
from lionheart.search.registry import register_strategy
from lionheart.search.steps import Steps


@register_strategy("lionheart")
def search_greedily(
    problem: Problem, candidates: Sequence[Candidate], start: LayerMapping, *, max_drop_pp: float
) -> SearchResult:
    """Turn candidates analog in the given order as long as the drop stays within the bound.

    Every trial keeps the layers accepted before it, and its drop is counted against the digital network, not against the last
    trial. A rejected candidate stays digital for good.

    Source:
        Lammie et al., IEEE TETC 2025, arXiv:2401.09420v3, Algorithm 1.
    """
    steps = Steps(problem, start, max_drop_pp=max_drop_pp)
    for candidate in candidates:
        if not steps.can_go_on():
            break
        fqn = candidate.node.fqn
        steps.attempt(steps.mapping.with_placement(fqn, Placement.ANALOG), fqn, macs=candidate.node.macs)
    return steps.result()

"""The greedy search of the LionHeart paper: try each projection once as analog, with retraining, and accept or reject it."""

from __future__ import annotations

from lionheart.mapping import Placement
from lionheart.search.loop import SearchLoop
from lionheart.search.registry import register_strategy


@register_strategy("lionheart")
def search(loop: SearchLoop) -> None:
    """Try the candidates one by one in the run's ranking order; keep a candidate analog if the drop is within the bound.

    Candidates are projections that may become analog. In each trial, the candidates accepted so far are analog too. The drop is
    measured against the digital network, not against the previous trial. A rejected candidate stays digital and is not tried
    again.

    Two rules are not in the paper. First, a candidate is skipped without a trial if it does not fit on the remaining tiles or
    would not lower the cost. Second, a trial also moves accepted projections back to the digital core if they have become
    cheaper there, e.g. because other projections no longer use the cache.

    Source:
        Lammie et al., IEEE TETC 2025, arXiv:2401.09420v3, Algorithm 1.
    """
    passed: list[str] = []
    for candidate in loop.candidates:
        fqn = candidate.node.fqn
        reasons = loop.objective.explain(loop.mapping, [fqn])
        if reasons:
            passed += [f"passed over: {fqn} {reason}" for reason in reasons.values()]
            continue
        if not loop.can_go_on():
            break
        mapping = loop.objective.drop_unprofitable(loop.mapping.with_placement(fqn, Placement.ANALOG))
        returned = [f"back on the core: {name}" for name in loop.mapping.analog if not mapping.is_analog(name)]
        loop.attempt(mapping, fqn, macs=candidate.node.macs, note="; ".join([*passed, *returned]))
        passed = []

"""The greedy search of the LionHeart paper: each candidate is tried once, with retraining, and accepted or rejected."""

from __future__ import annotations

from lionheart.mapping import Placement
from lionheart.search.loop import SearchLoop
from lionheart.search.registry import register_strategy


@register_strategy("lionheart")
def search(loop: SearchLoop) -> None:
    """Turn candidates analog in the given order as long as the drop stays within the bound.

    Every trial keeps the projections accepted so far. Its drop is measured against the digital network, not against the last
    trial. A rejected candidate stays digital.

    Not in the paper: a candidate that does not fit on the tiles left, or that would cost more on tiles than on the core, is
    skipped without a trial. A trial may also move an accepted projection back to the core, if the other analog projections
    have freed enough cache for it to be cheaper there.

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

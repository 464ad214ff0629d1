"""Baseline strategy: all projections (weight matrices) that may become analog are analog."""

from __future__ import annotations

from collections.abc import Sequence

from lionheart.candidates import Candidate
from lionheart.search.loop import SearchLoop
from lionheart.search.objective import on_tiles
from lionheart.search.registry import register_strategy


@register_strategy("all-analog")
def search(loop: SearchLoop) -> None:
    """Map all candidates to tiles, retrain once, and accept the mapping whatever its accuracy drop.

    Candidates are projections that may become analog. If the candidates do not all fit on the tiles, those with the largest
    gain (saved cost) per tile are mapped.
    """
    map_at_once(loop, loop.candidates, "everything")


def map_at_once(loop: SearchLoop, wanted: Sequence[Candidate], label: str) -> None:
    """Map candidates to tiles in a single decision, retrain once, and accept the mapping whatever its accuracy drop.

    Args:
        loop: Loop of the search.
        wanted: Candidates (projections) to map. If they do not all fit on the tiles, those with the largest gain (saved cost)
            per tile are mapped.
        label: Label of the decision.
    """
    fqns = [each.node.fqn for each in wanted]
    chosen = loop.objective.pack(fqns, loop.objective.gains(loop.start, fqns))
    if chosen and loop.can_go_on():
        mapping = on_tiles(loop.start, chosen)
        macs = sum(each.node.macs for each in wanted if each.node.fqn in chosen)
        loop.attempt(mapping, label, macs=macs, always=True, note=loop.objective.note(fqns, mapping))

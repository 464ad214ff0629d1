"""The projections that a search never tried."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lionheart.runs.records import Results


def find_untried(results: Results, mappable: Sequence[str]) -> tuple[str, ...]:
    """Return the projections that may run analog and that the search never tried.

    The result is empty if a decision tried several projections together.

    Args:
        results: Results of the run.
        mappable: Names of the projections that may run analog, in the order of the network.
    """
    tried = {decision.fqn for decision in results.decisions}
    if any(fqn not in results.mapping.placements for fqn in tried):
        return ()
    return tuple(fqn for fqn in mappable if fqn not in tried and fqn not in results.notes)

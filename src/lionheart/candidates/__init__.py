"""Candidates: what may go analog, on which tiles, and why the rest may not.

Comes in: a `LayerGraph` and a `TileSpec`. Goes out: a `Candidate` for every projection, with its `TilePartition` or the reason
for its refusal, and their ranking. Must not know: physics, training, platforms.
"""

from lionheart.candidates.partition import TilePartition, partition_matrix, split_evenly
from lionheart.candidates.select import RANKINGS, Candidate, find_candidates, rank_candidates

__all__ = [
    "RANKINGS",
    "Candidate",
    "TilePartition",
    "find_candidates",
    "partition_matrix",
    "rank_candidates",
    "split_evenly",
]

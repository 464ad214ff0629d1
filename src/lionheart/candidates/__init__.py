"""Candidates: what may go analog, on which tiles, and why the rest may not.

Comes in: a `LayerGraph` and a `TileSpec`. Goes out: a `Candidate` for every projection, with its `TilePartition` or the reason
for its refusal, and their ranking; where the pieces of several layers go in crossbars, and which layers have room there.
Must not know: physics, training, platforms.
"""

from lionheart.candidates.fitting import TileFit, fit_tiles
from lionheart.candidates.packing import Packing, PlacedPiece, bound_crossbars, list_pieces, pack_tiles
from lionheart.candidates.partition import TilePartition, partition_graph, partition_matrix, split_evenly
from lionheart.candidates.select import RANKINGS, Candidate, find_candidates, rank_candidates

__all__ = [
    "RANKINGS",
    "Candidate",
    "Packing",
    "PlacedPiece",
    "TileFit",
    "TilePartition",
    "bound_crossbars",
    "find_candidates",
    "fit_tiles",
    "list_pieces",
    "pack_tiles",
    "partition_graph",
    "partition_matrix",
    "rank_candidates",
    "split_evenly",
]

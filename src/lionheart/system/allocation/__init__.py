"""Allocation: where the pieces of several layers go in crossbars, and which layers have room there.

Takes the `TilePartition` of each layer; returns a `Packing`, or a `TileFit` where tiles run out. Must not know: platforms.
"""

from lionheart.system.allocation.fitting import TileFit, fit_tiles
from lionheart.system.allocation.packing import Packing, PlacedPiece, bound_crossbars, list_pieces, pack_tiles

__all__ = ["Packing", "PlacedPiece", "TileFit", "bound_crossbars", "fit_tiles", "list_pieces", "pack_tiles"]

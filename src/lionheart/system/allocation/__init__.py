"""Allocation: the positions of several layers' pieces on crossbars, and the layers that fit on a limited number of them.

Input: the `TilePartition` of each layer. Output: a `Packing`, or a `TileFit` for a limited number of crossbars. This package
must not know platforms.
"""

from lionheart.system.allocation.fitting import TileFit, fit_tiles
from lionheart.system.allocation.packing import Packing, PlacedPiece, bound_crossbars, list_pieces, pack_tiles

__all__ = ["Packing", "PlacedPiece", "TileFit", "bound_crossbars", "fit_tiles", "list_pieces", "pack_tiles"]

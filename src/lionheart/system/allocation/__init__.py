"""Allocation of the weights of several layers to crossbars. The number of crossbars may be too small for all layers.

The input is the `TilePartition` of each layer, which divides a weight matrix into pieces. The output is a `Packing` (positions
of the pieces), or a `TileFit` for a limited number of crossbars. This package must not depend on platforms.
"""

from lionheart.system.allocation.fitting import TileFit, fit_tiles
from lionheart.system.allocation.packing import Packing, PlacedPiece, bound_crossbars, list_pieces, pack_tiles

__all__ = ["Packing", "PlacedPiece", "TileFit", "bound_crossbars", "fit_tiles", "list_pieces", "pack_tiles"]

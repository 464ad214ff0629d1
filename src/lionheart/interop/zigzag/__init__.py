"""Cross-check of the system model against ZigZag, for digital layers and for one matrix-vector multiplication of a tile.

docs/results/zigzag.md describes the comparison and lists the effects that each model omits. Importing this package raises a
`ConfigError` if ZigZag cannot be imported.
"""

from lionheart.errors import ConfigError

try:
    import zigzag.parser.upgraded_validator  # this module imports six
    import zigzag.stages.main  # noqa: F401
except ImportError as error:
    raise ConfigError(
        f"ZigZag cannot be imported: {error}",
        hint="pip install zigzag-dse==3.9.1 six, or install LionHeart with the extra [zigzag], which includes both packages",
    ) from error

from lionheart.interop.zigzag.compare import LayerComparison, TotalComparison, compare_with_zigzag
from lionheart.interop.zigzag.price import ArrayCost, ZigZagCost, price_array, price_with_zigzag

__all__ = [
    "ArrayCost",
    "LayerComparison",
    "TotalComparison",
    "ZigZagCost",
    "compare_with_zigzag",
    "price_array",
    "price_with_zigzag",
]

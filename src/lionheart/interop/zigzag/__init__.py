"""Comparison of LionHeart's system model, which estimates latency and energy, with the simulator ZigZag.

The comparison covers each projection (weight matrix) on the digital core, and one matrix-vector multiplication on an analog
tile. docs/results/zigzag.md describes the comparison and lists the effects that each of the two cost models omits. Importing
this package raises a `ConfigError` if ZigZag cannot be imported.
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

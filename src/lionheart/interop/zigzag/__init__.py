"""ZigZag as a cross-check of the system model: the digital layers and on one MVM of a tile.

docs/results/zigzag.md says what is compared and what each side leaves out. Importing this package without ZigZag is a
`ConfigError`.
"""

from lionheart.errors import ConfigError

try:
    import zigzag.parser.upgraded_validator  # the part that imports six
    import zigzag.stages.main  # noqa: F401
except ImportError as error:
    raise ConfigError(
        f"ZigZag cannot be imported: {error}",
        hint="pip install zigzag-dse==3.9.1 six (it needs six and does not say so); the extra [zigzag] has both",
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

"""ZigZag as a cross-check of the system model: the cost of the digital layers, and of one MVM of a tile.

docs/results/zigzag.md says what is compared and what each model leaves out. Importing this package without ZigZag raises a
`ConfigError`.
"""

from lionheart.errors import ConfigError

try:
    import zigzag.parser.upgraded_validator  # this module imports six
    import zigzag.stages.main  # noqa: F401
except ImportError as error:
    raise ConfigError(
        f"ZigZag cannot be imported: {error}",
        hint="pip install zigzag-dse==3.9.1 six (six is an undeclared dependency); the extra [zigzag] installs both",
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

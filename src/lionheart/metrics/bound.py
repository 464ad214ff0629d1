"""Bounds on the drop of a metric: absolute in the unit of the metric, or relative to the value of the digital network."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from lionheart.errors import ConfigError

if TYPE_CHECKING:
    from lionheart.metrics.metric import Metric

_NUMBER = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?nan|[+-]?inf)\s*(.*?)\s*", re.IGNORECASE)
_LONGEST = 100  # characters of a bound
_RELATIVE = ("% rel", "%rel", "% relative", "%relative")
_FORMS = "give a number in the unit of the metric (0.1 or '0.1 mm'), or a relative bound ('2 % rel')"


@final
@dataclass(frozen=True)
class Bound:
    """Bound on the drop of a metric, as a user gives it.

    Args:
        amount: Largest drop, > 0: in `unit`, or in percent of the value of the digital network if the bound is relative.
        unit: Unit of `amount`: empty = the unit of the metric's drop, ``"%"`` = percent, ``"% rel"`` = percent of the digital
            network's value, else the name of a unit.
    """

    amount: float
    unit: str = ""

    def __str__(self) -> str:
        """Return the bound as a user writes it, for example ``"2 % rel"``."""
        return f"{repr(self.amount).removesuffix('.0')} {self.unit}".rstrip()

    def is_relative(self, metric: Metric, where: str) -> bool:
        """Return whether the bound is relative to the value of the digital network in the given metric.

        Args:
            metric: Metric whose drop is bounded.
            where: Name of the setting, with which the error message begins.

        Raises:
            ConfigError: The unit is not that of the metric, or the metric is in percent and the bound may be meant either way.
        """
        if self.unit == "% rel" or (self.unit == "%" and metric.unit != "%"):
            if self.amount >= 100 and metric.higher_is_better:
                raise ConfigError(
                    f"{where}: got {str(self)!r}, expected less than 100 %, because the {metric.name} cannot drop further",
                    hint="give the largest share of the digital value that may be lost, for example '2 % rel'",
                )
            return True
        if self.unit == "%":
            plain = f"{self.amount:g}" if metric.drop_unit == "%" else f"'{self.amount:g} {metric.drop_unit}'"
            raise ConfigError(
                f"{where}: got {str(self)!r} for the {metric.name}, which itself is in percent; expected a clear unit",
                hint=f"write {plain} for a difference of values, or '{self.amount:g} % rel' for a share of the digital value",
            )
        if self.unit in ("", metric.drop_unit, metric.unit):
            return False
        raise ConfigError(
            f"{where}: got {str(self)!r}, but a drop of the {metric.name} has the unit {metric.drop_unit!r}",
            hint=f"write '{self.amount:g} {metric.drop_unit}', or a relative bound such as '2 % rel'",
        )

    def to_drop(self, metric: Metric, digital: float, where: str) -> float:
        """Return the largest drop in the unit of the metric's drop, for a relative bound.

        Args:
            metric: Metric whose drop is bounded.
            digital: Score of the digital network. It is not used for perplexity.
            where: Name of the setting, with which the error message begins.

        Raises:
            ConfigError: The value of the digital network is zero or not finite.
        """
        if metric.kind == "perplexity":
            return 100 * math.log1p(self.amount / 100)
        if digital == 0 or not math.isfinite(digital):
            raise ConfigError(
                f"{where}: got the relative bound {str(self)!r}, but the digital network's {metric.name} is "
                f"{metric.format_value(digital)}",
                hint=f"give an absolute bound in {metric.drop_unit}, for example max_drop=0.1",
            )
        return self.amount / 100 * abs(metric.drop_scale * digital)


def parse_bound(value: Any) -> Bound:
    """Return the bound that a number or a text describes.

    Args:
        value: Number in the unit of the metric's drop, or text: a number, a number with a unit (``"0.1 mm"``, ``"2 pp"``), or a
            share of the digital network's value (``"2 % rel"``, or ``"2 %"`` for a metric that is not itself in percent).

    Raises:
        ConfigError: `value` is no such number or text, or is not positive and finite.
    """
    if isinstance(value, Bound):
        return value
    found = _NUMBER.fullmatch(value) if isinstance(value, str) and len(value) <= _LONGEST else None
    if found is None and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise ConfigError(f"got {_shorten(value)}, expected a number or a number with a unit", hint=_FORMS)
    try:
        amount, unit = (float(value), "") if found is None else (float(found[1]), found[2])
    except OverflowError:  # a whole number beyond the range of floats
        amount, unit = math.inf, ""
    if not (math.isfinite(amount) and amount > 0):
        raise ConfigError(f"got {_shorten(value)}, expected a finite number above 0", hint=_FORMS)
    return Bound(amount, "% rel" if " ".join(unit.split()) in _RELATIVE else unit)


def read_bound(value: Any) -> float | str:
    """Return a bound in the form in which settings store it: a number, or a text with a unit such as ``"2 % rel"``.

    Raises:
        ConfigError: `value` is no bound; see `parse_bound`.
    """
    bound = parse_bound(value)
    return str(bound) if bound.unit else bound.amount


def _shorten(value: Any) -> str:
    shown = repr(value if not isinstance(value, int) or abs(value) < 10**60 else math.inf)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."

"""Metrics: how samples are scored, what the mean score is called, and how scores and drops are formatted.

The command line, the report and model cards all format numbers with this module.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import field
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, final

from pydantic import Field
from pydantic.dataclasses import dataclass

from lionheart.deprecated import find_renamed
from lionheart.errors import ConfigError
from lionheart.spec import with_config_errors

if TYPE_CHECKING:
    from torch import Tensor

Score = TypeVar("Score", float, "Tensor")
_LARGE, _SMALL = (
    1e4,
    10.0,
)  # perplexities from _LARGE on have three digits; those below _SMALL have an additional decimal
_ROUNDING_PP = 1e-9  # tolerance for rounding errors in a drop [pp]
_LARGEST_EXPONENT = 700.0  # exp overflows shortly above


def accuracy_scores(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return 1 for each sample whose largest output is its target, else 0.

    Args:
        outputs: Scores of all classes, ``(batch, classes)``.
        targets: Class indices, ``(batch,)``.

    Returns:
        Score of each sample, ``(batch,)`` float32.
    """
    return (outputs.argmax(dim=-1) == targets).float()


@final
@with_config_errors
@dataclass(frozen=True)
class Metric:
    """A quality metric: how samples are scored, what the mean score is called, and how it is formatted.

    Args:
        name: Name of the mean score, for example ``"accuracy"``, ``"F1"`` or ``"perplexity"``.
        drop_unit: Unit of a drop, which is 100 times a difference of mean scores.
        kind: ``share``: scores are from 0 to 1, and their mean is shown in percent. ``perplexity``: a score is the negative
            cross-entropy of a sample in nats, and ``exp(-mean)`` is shown. A drop then is in log-percent: it multiplies the
            perplexity by ``exp(drop / 100)``.
        compute: Function of ``(outputs, targets)`` that returns one score for each sample, shape ``(batch,)``. The function is
            not stored in files, so the metric of a stored result has None.

    Raises:
        ConfigError: An argument has a wrong type, or `kind` is unknown.
    """

    name: str = "accuracy"
    drop_unit: str = "pp"
    kind: Literal["share", "perplexity"] = "share"
    compute: Annotated[Callable[[Any, Any], Any] | None, Field(exclude=True)] = field(
        default=None, compare=False, repr=False
    )

    def __call__(self, outputs: Any, targets: Any) -> Tensor:
        """Return one score for each sample, shape ``(batch,)``.

        Raises:
            ConfigError: The metric has no function, because it comes from a file.
        """
        if self.compute is None:
            raise ConfigError(
                f"{self.name}: this metric has no function that scores samples",
                hint=f"give a function: Metric({self.name!r}, {self.drop_unit!r}, compute=my_scores)",
            )
        scores: Tensor = self.compute(outputs, targets)
        return scores

    def value_of(self, mean: float) -> float:
        """Return the value of the metric for a mean score: the mean itself, or the perplexity."""
        if self.kind == "share":
            return mean
        return math.exp(-mean) if -mean < _LARGEST_EXPONENT else math.inf

    def mean_of(self, value: float) -> float:
        """Return the mean score for a value of the metric, the inverse of `value_of`."""
        return -math.log(value) if self.kind == "perplexity" else value

    @property
    def title(self) -> str:
        """The name with a capital first letter."""
        return self.name[0].upper() + self.name[1:]

    @property
    def axis_unit(self) -> str:
        """Unit of `plot_value` for an axis label; empty for perplexity."""
        return "" if self.kind == "perplexity" else "%"

    @property
    def rises_with_drop(self) -> bool:
        """Whether the value of the metric increases when quality drops."""
        return self.kind == "perplexity"

    def plot_value(self, mean: float) -> float:
        """Return the value that figures show for a mean score: percent, or the perplexity."""
        return self.value_of(mean) if self.kind == "perplexity" else 100 * mean

    def format_value(self, mean: float, digits: int = 2) -> str:
        """Format the value of the metric for a mean score, ``0.851`` -> ``"85.10 %"``, ``-3.5`` -> ``"33.12"``."""
        return f"{self._write(mean, digits)} %" if self.kind == "share" else self._write(mean, digits)

    def format_interval(self, low: float, high: float, digits: int = 2) -> str:
        """Format an interval of mean scores, smaller value first, without unit: ``"[84.60, 85.60]"``."""
        ends = (high, low) if self.rises_with_drop else (low, high)
        return f"[{', '.join(self._write(end, digits) for end in ends)}]"

    def format_drop(self, drop: float, digits: int = 2, *, sign: bool = False) -> str:
        """Format a drop with its unit, ``"0.53 pp"``; with `sign` ``"+0.53 pp"``."""
        return f"{drop:{'+' if sign else ''}.{digits}f} {self.drop_unit}"

    def explain_drop(self) -> str:
        """Return an explanation of the drop in one or two sentences."""
        if self.kind == "perplexity":
            return (
                "Perplexity is e to the power of the mean cross-entropy of a token in nats. A drop of quality is 100 times the "
                f"rise of that mean: with a drop of 2 {self.drop_unit} the perplexity is e to the power of 0.02 times as high."
            )
        unit = "percentage points" if self.drop_unit == "pp" else self.drop_unit
        return f"Digital {self.name} minus analog {self.name}, in {unit}: from 87 % to 85 % is a drop of 2 {self.drop_unit}."

    def _write(self, mean: float, digits: int) -> str:
        value = self.plot_value(mean)
        if self.kind == "share":
            return f"{value:.{digits}f}"
        return f"{value:.3g}" if value >= _LARGE else f"{value:.{digits + (value < _SMALL)}f}"


ACCURACY = Metric(compute=accuracy_scores)
F1 = Metric("F1", "F1 points")
PERPLEXITY = Metric("perplexity", "log-%", "perplexity")


def drop_pp(baseline: Score, mean: Score) -> Score:
    """Return the drop of scores or mean scores against those of the digital network [pp, or the metric's drop unit].

    Args:
        baseline: Score of the digital network.
        mean: Score of the analog network.
    """
    return 100 * (baseline - mean)


def is_within(drop: float, bound: float) -> bool:
    """Return whether a drop is at most a bound, both in pp, with a tolerance for rounding errors."""
    return drop <= bound + _ROUNDING_PP


def __getattr__(name: str) -> Any:
    return find_renamed(__name__, name)

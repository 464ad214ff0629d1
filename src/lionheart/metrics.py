"""Quality metrics: functions that score samples, and the names, units and formats of mean scores and drops.

A drop is 100 times the difference ``digital - analog`` between the mean scores of the digital and the analog network.

The command line, the report and model cards format all scores and drops with this module.
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
from lionheart.logits import NO_TARGET, class_axis, find_logits
from lionheart.spec import with_config_errors

if TYPE_CHECKING:
    from torch import Tensor

Score = TypeVar("Score", float, "Tensor")
_LARGE, _SMALL = (
    1e4,
    10.0,
)  # perplexities of at least _LARGE have three significant digits; perplexities below _SMALL have one more decimal
_ROUNDING_PP = 1e-9  # tolerance for rounding errors in a drop [pp]
_LARGEST_EXPONENT = 700.0  # exp overflows shortly above


def accuracy_scores(outputs: Any, targets: Tensor) -> Tensor:
    """Return 1.0 for each sample in which the target class has the largest output, and 0.0 for all other samples.

    If each sample has several positions, such as tokens or pixels, the score is the share of correct positions. Positions with
    the target -100 are not counted.

    Args:
        outputs: Output of the network for each class, ``(batch, classes)``, ``(batch, ..., classes)`` or
            ``(batch, classes, ...)``, or an object that contains these logits (see `find_logits`).
        targets: Index of the correct class of each sample, ``(batch,)``, or of each position, ``(batch, ...)``.

    Returns:
        Score of each sample, ``(batch,)`` float32.

    Raises:
        ConfigError: The shapes or types do not fit, or all targets of a sample are -100.
    """
    logits = find_logits(outputs)
    axis = class_axis(logits, targets, "accuracy_scores")
    is_right: Tensor = (logits.argmax(dim=axis) == targets).float()
    if targets.ndim < 2:
        return is_right
    is_counted = (targets != NO_TARGET).flatten(1).sum(dim=1)
    if not bool((is_counted > 0).all()):
        raise ConfigError(
            f"accuracy_scores: got a sample whose targets are all {NO_TARGET}, expected at least one target to score",
            hint="leave samples without targets out of the data",
        )
    share: Tensor = is_right.flatten(1).sum(dim=1) / is_counted
    return share


@final
@with_config_errors
@dataclass(frozen=True)
class Metric:
    """A quality metric: a function that scores samples, and the name, unit and format of the mean score.

    Args:
        name: Name of the mean score, for example ``"accuracy"``, ``"F1"`` or ``"perplexity"``.
        drop_unit: Unit of a drop. A drop is 100 times the difference ``digital - analog`` between the mean scores of the
            digital and the analog network.
        kind: ``share``: each score is from 0 to 1, and the mean score is shown in percent. ``perplexity``: each score is the
            negative cross-entropy of a sample in nats, and the perplexity ``exp(-mean)`` is shown. A drop then has the
            unit log-percent and multiplies the perplexity by ``exp(drop / 100)``.
        compute: Function that receives ``(outputs, targets)`` and returns one score for each sample, shape ``(batch,)``. None
            for a metric that is read from a file, because files do not contain functions.

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
        """Return one score for each sample of a batch, shape ``(batch,)``.

        Args:
            outputs: Outputs of the network for the batch.
            targets: Targets of the batch.

        Raises:
            ConfigError: `compute` is None, as in a metric that is read from a file.
        """
        if self.compute is None:
            raise ConfigError(
                f"metric {self.name!r}: got compute=None, expected a function that scores samples",
                hint=f"pass a function of (outputs, targets) that returns one score for each sample: "
                f"Metric({self.name!r}, {self.drop_unit!r}, {self.kind!r}, compute=my_scores)",
            )
        scores: Tensor = self.compute(outputs, targets)
        return scores

    def value_of(self, mean: float) -> float:
        """Return the value of the metric for a mean score: the mean score itself, or the perplexity ``exp(-mean)``.

        If ``exp(-mean)`` would overflow, the value is infinity.
        """
        if self.kind == "share":
            return mean
        return math.exp(-mean) if -mean < _LARGEST_EXPONENT else math.inf

    def mean_of(self, value: float) -> float:
        """Return the mean score at which the metric has the given value. This is the inverse function of `value_of`."""
        return -math.log(value) if self.kind == "perplexity" else value

    @property
    def title(self) -> str:
        """Name of the metric with a capital first letter."""
        return self.name[0].upper() + self.name[1:]

    @property
    def axis_unit(self) -> str:
        """Unit of the values returned by `plot_value`, for an axis label: ``"%"``, or an empty string for perplexity."""
        return "" if self.kind == "perplexity" else "%"

    @property
    def rises_with_drop(self) -> bool:
        """Whether a network of lower quality has a higher value of the metric. True only for perplexity."""
        return self.kind == "perplexity"

    def plot_value(self, mean: float) -> float:
        """Return the number that plots show for a mean score: the mean score in percent, or the perplexity."""
        return self.value_of(mean) if self.kind == "perplexity" else 100 * mean

    def format_value(self, mean: float, digits: int = 2) -> str:
        """Return the value of the metric for a mean score as text with a unit.

        A mean score of ``0.851`` gives ``"85.10 %"``. For perplexity, a mean score of ``-3.5`` gives ``"33.12"``.

        Args:
            mean: Mean score.
            digits: Number of decimals. A perplexity below 10 has one more decimal; a perplexity of at least 10000 has three
                significant digits.
        """
        return f"{self._write(mean, digits)} %" if self.kind == "share" else self._write(mean, digits)

    def format_interval(self, low: float, high: float, digits: int = 2) -> str:
        """Return an interval of mean scores as text that contains values of the metric, for example ``"[84.60, 85.60]"``.

        The text has no unit, and the smaller value comes first.

        Args:
            low: Smaller mean score.
            high: Larger mean score.
            digits: Number of decimals, as for `format_value`.
        """
        ends = (high, low) if self.rises_with_drop else (low, high)
        return f"[{', '.join(self._write(end, digits) for end in ends)}]"

    def format_drop(self, drop: float, digits: int = 2, *, sign: bool = False) -> str:
        """Return a drop as text with its unit, for example ``"0.53 pp"``.

        Args:
            drop: Drop in the unit `drop_unit`.
            digits: Number of decimals.
            sign: Whether to write a plus sign before a positive drop: ``"+0.53 pp"``.
        """
        return f"{drop:{'+' if sign else ''}.{digits}f} {self.drop_unit}"

    def explain_drop(self) -> str:
        """Return one or two sentences that explain how a drop of this metric is defined."""
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
    """Return the drop, i.e. 100 times the difference ``baseline - mean`` between two scores [pp].

    If the metric defines another `drop_unit` than ``"pp"``, the drop is in that unit.

    Args:
        baseline: Score, or mean score, of the digital network.
        mean: Score, or mean score, of the analog network.
    """
    return 100 * (baseline - mean)


def is_within(drop: float, bound: float) -> bool:
    """Return whether a quality drop [pp] is at most the limit `bound` [pp], with a tolerance of 1e-9 pp for rounding errors."""
    return drop <= bound + _ROUNDING_PP


def __getattr__(name: str) -> Any:
    return find_renamed(__name__, name)

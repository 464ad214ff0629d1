"""What a task's scores mean, and how their mean and a drop of it are written: in one place, for terminal, report and cards."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import field
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, final

from pydantic import Field
from pydantic.dataclasses import dataclass

from lionheart.deprecated import find_renamed
from lionheart.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

Score = TypeVar("Score", float, "Tensor")
_LARGE, _SMALL = 1e4, 10.0  # perplexities from here on have three digits, those below there a decimal more
_ROUNDING_PP = 1e-9  # what sums of floating-point numbers may be off [pp]
_LARGEST_EXPONENT = 700.0  # exp of more is no number


def accuracy_scores(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return 1 for each sample whose largest output is its target, else 0; shape ``(batch,)``."""
    return (outputs.argmax(dim=-1) == targets).float()


@final
@dataclass(frozen=True)
class Metric:
    """A measure of quality: how samples are scored, what the mean score is called, and how it is written.

    Args:
        name: Name of the mean of the scores: ``"accuracy"``, ``"F1"``, ``"perplexity"``.
        drop_unit: Unit of 100 times a difference of means.
        kind: ``share``: scores are from 0 to 1 and their mean is written in percent. ``perplexity``: a score is minus the
            cross-entropy of a sample in nats, ``exp`` of minus the mean is written, and a drop is in log-percent: perplexity
            times ``exp(drop / 100)``.
        compute: Function of ``(outputs, targets)`` that returns one score for each sample, shape ``(batch,)``. Files do not
            store it, so the metric of a stored result has None.

    Raises:
        pydantic.ValidationError: A part is of another type, or `kind` is none of the two.
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
                hint=f"give it one: Metric({self.name!r}, {self.drop_unit!r}, compute=my_scores)",
            )
        scores: Tensor = self.compute(outputs, targets)
        return scores

    def value_of(self, mean: float) -> float:
        """Return what the measure's name stands for, given a mean of scores: the mean itself, or the perplexity."""
        if self.kind == "share":
            return mean
        return math.exp(-mean) if -mean < _LARGEST_EXPONENT else math.inf

    def mean_of(self, value: float) -> float:
        """Return the mean of scores that `value_of` gives `value` for."""
        return -math.log(value) if self.kind == "perplexity" else value

    @property
    def title(self) -> str:
        """The name at the beginning of a sentence."""
        return self.name[0].upper() + self.name[1:]

    @property
    def axis_unit(self) -> str:
        """What stands at the axis of `plot_value`; a perplexity has no unit."""
        return "" if self.kind == "perplexity" else "%"

    @property
    def rises_with_drop(self) -> bool:
        """Whether a drop of quality is a rise of the value."""
        return self.kind == "perplexity"

    def plot_value(self, mean: float) -> float:
        """Return what a figure shows for a mean of scores: percent, or the perplexity."""
        return self.value_of(mean) if self.kind == "perplexity" else 100 * mean

    def format_value(self, mean: float, digits: int = 2) -> str:
        """Write what a mean of scores stands for, ``0.851`` -> ``"85.10 %"``, ``-3.5`` -> ``"33.12"``."""
        return f"{self._write(mean, digits)} %" if self.kind == "share" else self._write(mean, digits)

    def format_interval(self, low: float, high: float, digits: int = 2) -> str:
        """Write the ends of an interval of means, smaller value first, without a unit: ``"[84.60, 85.60]"``."""
        ends = (high, low) if self.rises_with_drop else (low, high)
        return f"[{', '.join(self._write(end, digits) for end in ends)}]"

    def format_drop(self, drop: float, digits: int = 2, *, sign: bool = False) -> str:
        """Write 100 times a difference of means with its unit, ``"0.53 pp"``; with `sign` ``"+0.53 pp"``."""
        return f"{drop:{'+' if sign else ''}.{digits}f} {self.drop_unit}"

    def explain_drop(self) -> str:
        """Return what a drop is, in a sentence or two."""
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
    """Return by how much scores, or means of them, are below those of the digital network [pp, or the metric's own unit]."""
    return 100 * (baseline - mean)


def is_within(drop: float, bound: float) -> bool:
    """Return whether a drop keeps a bound, both in pp; a drop of exactly the bound does, whatever the last bit says."""
    return drop <= bound + _ROUNDING_PP


def __getattr__(name: str) -> Any:
    return find_renamed(__name__, name)

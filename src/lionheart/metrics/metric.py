"""The class `Metric`: name, unit, direction and scope of a metric, and the format of its values and drops."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import field
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, final

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer
from pydantic.dataclasses import dataclass

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
_ROUNDING = 1e-9  # tolerance for rounding errors in a drop, in the unit of the drop
_LARGEST_EXPONENT = 700.0  # exp overflows shortly above
_DROP_UNITS = {"share": "pp", "perplexity": "log-%"}


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
    """A quality metric: a function that scores samples or a whole set, and the unit and direction of the value.

    A metric of scope ``sample`` has one score for each sample, and its value on a set is the mean score. A metric of scope
    ``set`` has statistics of each sample, such as counts, and `finish` computes the score of the set from all of them.

    Args:
        name: Name of the value, for example ``"accuracy"``, ``"RMSE"`` or ``"perplexity"``.
        drop_unit: Unit of a drop. Empty = ``"pp"`` for a share, ``"log-%"`` for perplexity, else the unit or the name.
        kind: ``share``: scores are from 0 to 1, and values are shown in percent. A drop is 100 times the difference of two
            scores. ``perplexity``: scores are negative cross-entropies in nats, and the perplexity ``exp(-score)`` is
            shown. A drop then multiplies the perplexity by ``exp(drop / 100)``. ``plain``: scores, values and drops are in
            the unit of the metric, without a factor.
        compute: Function of ``(outputs, targets)``. For the scope ``sample``, it returns the scores, shape ``(batch,)``; for
            the scope ``set``, the statistics, shape ``(batch,)`` or ``(batch, statistics)``. None for a metric that is read
            from a file, because files do not contain functions.
        unit: Unit of the value, for example ``"mm"``; empty = none. Any unit but ``"%"`` makes a share a plain metric.
        higher_is_better: Whether a better network has a higher value. None = True, but False for perplexity.
        scope: ``sample`` or ``set``.
        finish: Function that receives the statistics of all samples, ``(samples, statistics)`` float64 on the CPU, and returns
            the score of the set. Required for the scope ``set``, and only allowed there.

    Raises:
        ConfigError: An argument has a wrong type, or the arguments contradict each other.
    """

    name: str = "accuracy"
    drop_unit: str = ""
    kind: Literal["share", "perplexity", "plain"] = "share"
    compute: Annotated[Callable[[Any, Any], Any] | None, Field(exclude=True)] = field(
        default=None, compare=False, repr=False
    )
    unit: str = ""
    higher_is_better: bool | None = None
    scope: Literal["sample", "set"] = "sample"
    finish: Annotated[Callable[[Any], Any] | None, Field(exclude=True)] = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        kind = "plain" if self.kind == "share" and self.unit not in ("", "%") else self.kind
        unit = "%" if kind == "share" else self.unit
        if kind == "perplexity" and (unit or self.higher_is_better):
            raise ConfigError(
                f"Metric {self.name!r}: got kind='perplexity' with unit={unit!r}, higher_is_better={self.higher_is_better}, "
                "but a perplexity has no unit and is better if it is lower",
                hint="omit unit and higher_is_better, or use kind='plain'",
            )
        if self.finish is not None and self.scope == "sample":
            raise ConfigError(
                f"Metric {self.name!r}: got finish with scope='sample', which averages the scores of the samples",
                hint="use scope='set' if finish computes the value from the statistics of all samples, or omit finish",
            )
        if self.compute is not None and self.finish is None and self.scope == "set":
            raise ConfigError(
                f"Metric {self.name!r}: got scope='set' without finish, expected a function of the statistics of all samples",
                hint="for example finish=lambda statistics: statistics.mean(0).sqrt() for a root of mean squares",
            )
        better = kind != "perplexity" if self.higher_is_better is None else self.higher_is_better
        chosen = {"kind": kind, "unit": unit, "higher_is_better": better}
        is_left = kind == "plain" and self.drop_unit in (*_DROP_UNITS.values(), self.name)  # by dataclasses.replace
        usual = _DROP_UNITS.get(kind, unit or self.name)
        chosen["drop_unit"] = self.drop_unit if self.drop_unit and not is_left else usual
        for name, value in chosen.items():
            object.__setattr__(self, name, value)

    @model_serializer(mode="wrap")
    def _leave_out_usual_values(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the fields that metrics of older files do not have, if they have their usual values."""
        usual = {
            "unit": "%" if self.kind == "share" else "",
            "higher_is_better": self.kind != "perplexity",
            "scope": "sample",
        }
        return {key: value for key, value in write(self).items() if key not in usual or value != usual[key]}

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> Any:
        """Return the JSON schema of the fields, which a serializer would hide."""
        return handler({key: value for key, value in schema.items() if key != "serialization"})

    def __call__(self, outputs: Any, targets: Any) -> Tensor:
        """Return the scores of a batch, shape ``(batch,)``, or its statistics if the metric has the scope ``set``.

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

    # -- scores --------------------------------------------------------------------------------------------------------

    @property
    def is_of_set(self) -> bool:
        """Whether the score belongs to a whole set of samples, and single samples have only statistics."""
        return self.scope == "set"

    @property
    def rises_with_drop(self) -> bool:
        """Whether a network of lower quality has a higher value of the metric, as for an error or for perplexity."""
        return not self.higher_is_better

    @property
    def _falls_with_score(self) -> bool:
        """Whether a lower score is better. The score of a perplexity is a negative cross-entropy, so a higher one is better."""
        return self.rises_with_drop and self.kind != "perplexity"

    def score_set(self, scores: Tensor) -> float:
        """Return the score of a set: the mean of the samples' scores, or the result of `finish` for the scope ``set``.

        Args:
            scores: Scores of all samples, ``(samples,)``, or their statistics, ``(samples, statistics)``.

        Raises:
            ConfigError: `finish` is missing or does not return one number.
        """
        if not self.is_of_set:
            return float(scores.mean())
        found: Any = None if self.finish is None else self.finish(scores)
        try:
            score = float(found)
        except (TypeError, ValueError, RuntimeError):
            shown = f"shape {tuple(found.shape)}" if hasattr(found, "shape") else type(found).__name__
            raise ConfigError(
                f"metric {self.name!r}: finish: got {shown}, expected one number for the whole set",
                hint="return a float or a tensor with one element from the statistics of all samples",
            ) from None
        if self.kind == "share" and not 0 <= score <= 1 and not math.isnan(score):
            raise ConfigError(
                f"metric {self.name!r}: finish: got {score:g}, expected a share from 0 to 1",
                hint="return value / 100 for a value in percent, or use kind='plain' for values that are not shares",
            )
        return score

    def drop(self, baseline: Score, score: Score) -> Score:
        """Return the drop from one score to another in the unit `drop_unit`. It is positive if the quality falls.

        Args:
            baseline: Score, or mean score, of the digital network.
            score: Score, or mean score, of the analog network.
        """
        lost = (score, baseline) if self._falls_with_score else (baseline, score)
        return lost[0] - lost[1] if self.kind == "plain" else drop_pp(*lost)

    def report_drop(self, baseline: float, score: float) -> float:
        """Return the drop like `drop`, rounded to 9 decimals if it is in pp or log-%, to remove floating-point residue."""
        found = self.drop(baseline, score)
        return found if self.kind == "plain" else round(found, 9)

    def score_after(self, baseline: float, drop: float) -> float:
        """Return the score that is worse than the score `baseline` by `drop`, which is in the unit `drop_unit`."""
        change = drop / self.drop_scale
        return baseline + change if self._falls_with_score else baseline - change

    @property
    def drop_scale(self) -> float:
        """Factor from a difference of scores to a drop in the unit `drop_unit`: 1 for a plain metric, else 100."""
        return 1 if self.kind == "plain" else 100

    @property
    def score_limits(self) -> tuple[float, float]:
        """Smallest and largest possible score: 0 and 1 for a share, at most 0 for perplexity, no limits for a plain metric."""
        if self.kind == "plain":
            return -math.inf, math.inf
        return (0.0, 1.0) if self.kind == "share" else (-math.inf, 0.0)

    def clip_interval(self, low: float, high: float) -> tuple[float, float]:
        """Return the part of an interval of scores that is within `score_limits`.

        An interval that lies outside of the limits as a whole is returned unchanged.
        """
        smallest, largest = self.score_limits
        return (low, high) if high < smallest or low > largest else (max(low, smallest), min(high, largest))

    def rank(self, score: float) -> float:
        """Return a number that is larger for a better score."""
        return -score if self._falls_with_score else score

    def worst(self, scores: Iterable[float]) -> float:
        """Return the score of lowest quality."""
        return min(scores, key=self.rank)

    def drops_between(self, baseline: float, low: float, high: float) -> tuple[float, float]:
        """Return the smaller and the larger drop from `baseline` to the two ends of an interval of scores."""
        smaller, larger = sorted((self.drop(baseline, high), self.drop(baseline, low)))
        return smaller, larger

    def value_of(self, mean: float) -> float:
        """Return the value of the metric for a mean score: the mean score itself, or the perplexity ``exp(-mean)``.

        If ``exp(-mean)`` would overflow, the value is infinity.
        """
        if self.kind != "perplexity":
            return mean
        return math.exp(-mean) if -mean < _LARGEST_EXPONENT else math.inf

    def mean_of(self, value: float) -> float:
        """Return the mean score at which the metric has the given value. This is the inverse function of `value_of`."""
        return -math.log(value) if self.kind == "perplexity" else value

    # -- text ----------------------------------------------------------------------------------------------------------

    @property
    def title(self) -> str:
        """Name of the metric with a capital first letter."""
        return self.name[0].upper() + self.name[1:]

    @property
    def axis_unit(self) -> str:
        """Unit of the values returned by `plot_value`, for an axis label: ``"%"`` for a share, else the unit of the metric."""
        return self.unit

    def plot_value(self, mean: float) -> float:
        """Return the number that plots show for a mean score: the mean score in percent, the perplexity, or the value."""
        return 100 * mean if self.kind == "share" else self.value_of(mean)

    def format_value(self, mean: float, digits: int = 2) -> str:
        """Return the value of the metric for a mean score as text with a unit.

        A mean score of ``0.851`` gives ``"85.10 %"``. For perplexity, a mean score of ``-3.5`` gives ``"33.12"``. A plain
        metric in mm gives ``"1.235 mm"`` for ``1.2346``.

        Args:
            mean: Mean score.
            digits: Number of decimals. A perplexity below 10 has one more decimal; a perplexity of at least 10000 has three
                significant digits. The value of a plain metric has two more significant digits than `digits`.
        """
        return f"{self._write(mean, digits)} {self.unit}".rstrip()

    def format_interval(self, low: float, high: float, digits: int = 2) -> str:
        """Return an interval of mean scores as text that contains values of the metric, for example ``"[84.60, 85.60]"``.

        The text has no unit, and the smaller value comes first. The interval is limited to possible values: an interval of an
        accuracy ends at 100 %.

        Args:
            low: Smaller mean score.
            high: Larger mean score.
            digits: Number of decimals, as for `format_value`.
        """
        low, high = self.clip_interval(low, high)
        ends = (high, low) if self.kind == "perplexity" else (low, high)
        return f"[{', '.join(self._write(end, digits) for end in ends)}]"

    def format_drop(self, drop: float, digits: int = 2, *, sign: bool = False) -> str:
        """Return a drop as text with its unit, for example ``"0.53 pp"``.

        Args:
            drop: Drop in the unit `drop_unit`.
            digits: Number of decimals; a plain metric has one more significant digit.
            sign: Whether to write a plus sign before a positive drop: ``"+0.53 pp"``.
        """
        return f"{self.write_drop(drop, digits, sign=sign)} {self.drop_unit}"

    def write_drop(self, drop: float, digits: int = 2, *, sign: bool = False) -> str:
        """Return a drop as text without its unit, as for `format_drop`."""
        form = f"#.{digits + 1}g" if self.kind == "plain" else f".{digits}f"
        return f"{drop:{'+' if sign else ''}{form}}".removesuffix(".")

    def format_spread(self, spread: float) -> str:
        """Return a difference of scores, such as a standard deviation, as text in the unit of a drop."""
        return self.format_drop(self.drop_scale * spread)

    def format_bound(self, bound: float, given: float | str | None = None) -> str:
        """Return a bound on the drop as text with its unit, for example ``"1 pp"``.

        Args:
            bound: Largest drop in the unit `drop_unit`.
            given: The bound as a user gave it. If it is relative, the text names it: ``"0.02 mm (2 % of the digital MAE)"``.
        """
        relative = None if not isinstance(given, str) or "%" not in given or given.endswith(self.drop_unit) else given
        share = "" if relative is None else f" ({relative.removesuffix(' rel')} of the digital {self.name})"
        return f"{bound:{'.4g' if share else 'g'}} {self.drop_unit}{share}"

    def explain_drop(self) -> str:
        """Return one or two sentences that explain how a drop of this metric is defined."""
        if self.kind == "perplexity":
            return (
                "Perplexity is e to the power of the mean cross-entropy of a token in nats. A drop of quality is 100 times the "
                f"rise of that mean: with a drop of 2 {self.drop_unit} the perplexity is e to the power of 0.02 times as high."
            )
        unit = "percentage points" if self.drop_unit == "pp" else self.drop_unit
        first, second = ("Analog", "digital") if self.rises_with_drop else ("Digital", "analog")
        formula = f"{first} {self.name} minus {second} {self.name}{'' if unit == self.name else f', in {unit}'}"
        if self.kind == "plain":
            return f"{formula}. {'Lower' if self.rises_with_drop else 'Higher'} values are better."
        change = "from 13 % to 15 %" if self.rises_with_drop else "from 87 % to 85 %"
        return f"{formula}: {change} is a drop of 2 {self.drop_unit}."

    def _write(self, mean: float, digits: int) -> str:
        value = self.plot_value(mean)
        if self.kind == "share":
            return f"{value:.{digits}f}"
        if self.kind == "plain":
            return f"{value:#.{digits + 2}g}".removesuffix(".")
        return f"{value:.3g}" if value >= _LARGE else f"{value:.{digits + (value < _SMALL)}f}"


ACCURACY = Metric(compute=accuracy_scores)
F1 = Metric("F1", "F1 points")
PERPLEXITY = Metric("perplexity", "log-%", "perplexity")


def drop_pp(baseline: Score, mean: Score) -> Score:
    """Return the drop, i.e. 100 times the difference ``baseline - mean`` between two scores [pp].

    The formula holds for metrics whose kind is not ``plain`` and whose higher scores are better; see `Metric.drop`.

    Args:
        baseline: Score, or mean score, of the digital network.
        mean: Score, or mean score, of the analog network.
    """
    return 100 * (baseline - mean)


def is_within(drop: float, bound: float) -> bool:
    """Return whether a quality drop is at most the limit `bound`, with a tolerance for rounding errors.

    Both are in the unit of the drop, for example [pp]. The tolerance is 1e-9, or a millionth of a bound below 1e-3.
    """
    return drop <= bound + min(_ROUNDING, 1e-6 * abs(bound))

"""Phrases about numbers, durations and results of a run, which the terminal, the summary and the report page share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from lionheart.metrics import ACCURACY, Metric
from lionheart.units import format_duration

if TYPE_CHECKING:
    from lionheart.runs import Accuracy, RefreshInterval
    from lionheart.runs.costs import PipelineRecord

_UNIT_NAMES = {"s": "second", "min": "minute", "h": "hour", "d": "day", "mo": "month", "y": "year"}


def format_percent(fraction: float, digits: int = 1) -> str:
    """Return a fraction as a percentage, for example ``"85.1 %"`` for ``0.851``.

    Args:
        fraction: Fraction, usually 0 to 1.
        digits: Number of decimal places.
    """
    return f"{100 * fraction:.{digits}f} %"


def format_interval(accuracy: Accuracy, metric: Metric = ACCURACY) -> str:
    """Return the confidence interval of a mean score as text, for example ``"[84.6, 85.6]"`` for an accuracy in percent."""
    return metric.format_interval(accuracy.low, accuracy.high, 1)


def format_accuracy(accuracy: Accuracy, metric: Metric = ACCURACY) -> str:
    """Return a mean score and its confidence interval as text, for example ``"85.1 % [84.6, 85.6]"`` for an accuracy."""
    return f"{metric.format_value(accuracy.mean, 1)} {format_interval(accuracy, metric)}"


def format_pp(drop_pp: float, bound_pp: float | None = None, metric: Metric = ACCURACY) -> str:
    """Return an accuracy drop as text with its unit.

    Args:
        drop_pp: Drop against the digital network, in the drop unit of `metric` (pp for an accuracy).
        bound_pp: Largest allowed drop, in the unit of `drop_pp`. The text has one to four decimal places, as few as are needed
            to distinguish the drop from this bound. If None, the text has one decimal place. For a plain metric, the text has
            three to seven significant digits.
        metric: Metric that defines the unit.
    """
    if metric.kind == "plain":
        digits = 2
        while (
            bound_pp is not None
            and drop_pp != bound_pp
            and digits < 6
            and _look_equal(drop_pp, bound_pp, metric, digits)
        ):
            digits += 1
        return metric.format_drop(drop_pp, digits).replace("-", "−", 1 if drop_pp < 0 else 0)
    digits = 1
    if bound_pp is not None and drop_pp != bound_pp:
        while digits < 4 and round(drop_pp, digits) == round(bound_pp, digits):
            digits += 1
    text = f"{drop_pp:.{digits}f}"
    return f"{text.replace('-', '−') if float(text) else text.lstrip('-')} {metric.drop_unit}"


def _look_equal(drop: float, bound: float, metric: Metric, digits: int) -> bool:
    return metric.write_drop(drop, digits) == metric.write_drop(bound, digits)


def describe_duration(seconds: float) -> str:
    """Return a duration [s] in words, for example ``"1 day"`` for ``86400``."""
    match = re.fullmatch(r"([0-9.e+-]+)([a-z]+)", format_duration(seconds))
    if match is None:
        return f"{seconds:g} seconds"
    return f"{match[1]} {_UNIT_NAMES[match[2]]}{'' if match[1] == '1' else 's'}"


def describe_gain(factor: float, more: str, less: str) -> str:
    """Return a gain factor in words.

    For example, ``describe_gain(0.5, "faster", "slower")`` returns ``"2.00× slower"``. The text is ``"the same"`` for a factor
    that rounds to 1.00, and a dash for a factor of 0 or less.

    Args:
        factor: Gain factor. A factor greater than 1 is an improvement.
        more: Word for an improvement, for example ``"faster"``.
        less: Word for a loss, for example ``"slower"``.
    """
    if factor <= 0:
        return "–"
    if 0.995 <= factor < 1.005:
        return "the same"
    ratio, word = (factor, more) if factor > 1 else (1 / factor, less)
    return f"{ratio:.3g}× {word}" if ratio >= 100 else f"{ratio:.{1 if ratio >= 10 else 2}f}× {word}"


def describe_tiles(n_tiles: int, max_tiles: int | None) -> str:
    """Return the number of tiles in use as text: ``"36 tiles"``, or ``"36 of 40 tiles"`` if the number is limited.

    Args:
        n_tiles: Number of tiles in use.
        max_tiles: Largest allowed number of tiles; None for no limit.
    """
    return f"{n_tiles} tile{'' if n_tiles == 1 else 's'}" if max_tiles is None else f"{n_tiles} of {max_tiles} tiles"


def describe_objective(objective: str, platform: str | None) -> str:
    """Return a sentence that names the quantity that the search minimised.

    The sentence is empty for the default objective, the number of digital MACs.

    Args:
        objective: ``"macs"``, ``"weights"``, ``"time"`` or ``"energy"``.
        platform: Name of the platform for which time and energy were estimated; None for no platform.
    """
    if objective == "macs":
        return ""
    wish = "the number of digital weights" if objective == "weights" else f"the {objective} of one inference"
    return f"The search minimised {wish}{f' on {platform}' if platform and objective != 'weights' else ''}."


def describe_compensation(tiles: Mapping[str, Mapping[str, str]], n_analog: int) -> str:
    """Return a sentence that lists the analog layers that meet the accuracy bound with fewer error corrections.

    A layer is listed if it needs fewer corrections than the tile settings of the run specify.

    The sentence is empty if there are no such layers.

    Args:
        tiles: For each name of a layer, the names and values of the tile settings that differ from the settings of the run.
        n_analog: Number of analog layers in the mapping.
    """
    layers: dict[tuple[str, str], list[str]] = {}
    for fqn, settings in tiles.items():
        for name, value in settings.items():
            layers.setdefault((name, value), []).append(fqn)
    if not layers:
        return ""
    parts = [
        f"{name.replace('_', ' ')} {value} for {len(fqns)} of {n_analog} ({', '.join(fqns)})"
        for (name, value), fqns in layers.items()
    ]
    return f"Layers that meet the bound with fewer corrections than the tile settings specify: {'; '.join(parts)}."


def describe_refresh(found: RefreshInterval | None, bound: str) -> str:
    """Return a sentence about the longest time since programming up to which simulated chips meet the accuracy bound.

    Args:
        found: Result of the search for this time. If None, the time was not requested, and the sentence is empty.
        bound: Largest allowed accuracy drop as text with its unit, for example ``"1 pp"``.
    """
    if found is None:
        return ""
    if found.holds_until_s is None:
        return f"On other chips, the bound of {bound} is exceeded even at the shortest time tried."
    age = describe_duration(found.holds_until_s)
    if found.holds_until_s == found.longest_s:
        return f"Chips meet the bound of {bound} for at least {age}, the longest time tried."
    return f"Chips meet the bound of {bound} for up to {age}; reprogram the tiles by then."


def describe_shared_tiles(pipeline: PipelineRecord) -> str:
    """Return sentences about the use of tiles in a simulated schedule.

    The sentences state the number of tiles, the number of layers that share tiles, the layers that stay digital because there
    are not enough tiles, and the layers that are reprogrammed for every inference.
    """
    wanted, packed, used = pipeline.n_tiles_wanted, pipeline.n_tiles_packed, pipeline.n_tiles
    limit = "" if pipeline.max_tiles is None else f" of {pipeline.max_tiles}"
    text = f"{used}{limit} tile{'' if used == 1 else 's'} in use; all analog layers need {wanted}"
    text += f", or {packed} if layers share tiles." if packed < wanted else "."
    sharing = {fqn for layers in pipeline.sharing for fqn in layers} - set(pipeline.reprogrammed)
    text += f" {len(sharing)} layers share tiles; layers in the same tile run one after the other." if sharing else ""
    if pipeline.without_tiles:
        text += f" Digital because there are not enough tiles: {', '.join(pipeline.without_tiles)}."
    if pipeline.reprogrammed:
        text += f" Reprogrammed for every inference: {', '.join(pipeline.reprogrammed)}."
    return text

"""Numbers, durations and settings as text for the report."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lionheart.metrics import ACCURACY, Metric
from lionheart.units import format_duration

if TYPE_CHECKING:
    from lionheart.runs import Accuracy, RefreshInterval
    from lionheart.runs.costs import PipelineRecord

_UNIT_NAMES = {"s": "second", "min": "minute", "h": "hour", "d": "day", "mo": "month", "y": "year"}
_BEFORE_UNIT = re.compile(r"(?<=[\d\]]) (?=(?:%|pp|log-%|F1|MACs|chips|[pnµmkMGT]?(?:s|J|Hz|W))(?![\w]))")


def format_percent(fraction: float, digits: int = 1) -> str:
    """Return a fraction as a percentage, ``0.851`` -> ``"85.1 %"``."""
    return f"{100 * fraction:.{digits}f} %"


def format_interval(accuracy: Accuracy, metric: Metric = ACCURACY) -> str:
    """Return the confidence interval of an accuracy in percent, ``"[84.6, 85.6]"``, or of another metric in its unit."""
    return metric.format_interval(accuracy.low, accuracy.high, 1)


def format_accuracy(accuracy: Accuracy, metric: Metric = ACCURACY) -> str:
    """Return an accuracy with its interval, ``"85.1 % [84.6, 85.6]"``, or another metric in its unit."""
    return f"{metric.format_value(accuracy.mean, 1)} {format_interval(accuracy, metric)}"


def format_pp(drop_pp: float, bound_pp: float | None = None, metric: Metric = ACCURACY) -> str:
    """Return a drop with the metric's unit, with enough digits (at most 4) to distinguish the drop from `bound_pp`."""
    digits = 1
    if bound_pp is not None and drop_pp != bound_pp:
        while digits < 4 and round(drop_pp, digits) == round(bound_pp, digits):
            digits += 1
    text = f"{drop_pp:.{digits}f}"
    return f"{text.replace('-', '−') if float(text) else text.lstrip('-')} {metric.drop_unit}"


def describe_duration(seconds: float) -> str:
    """Return a duration in words, ``86400`` -> ``"1 day"``."""
    match = re.fullmatch(r"([0-9.e+-]+)([a-z]+)", format_duration(seconds))
    if match is None:
        return f"{seconds:g} seconds"
    return f"{match[1]} {_UNIT_NAMES[match[2]]}{'' if match[1] == '1' else 's'}"


def describe_gain(factor: float, more: str, less: str) -> str:
    """Return a factor as an improvement or a loss, ``(0.5, "faster", "slower")`` -> ``"2.0× slower"``."""
    if factor <= 0:
        return "–"
    if 0.995 <= factor < 1.005:
        return "the same"
    ratio, word = (factor, more) if factor > 1 else (1 / factor, less)
    return f"{ratio:.3g}× {word}" if ratio >= 100 else f"{ratio:.{1 if ratio >= 10 else 2}f}× {word}"


def describe_setting(value: Any) -> str:
    """Return a setting as text: "yes" or "no" for booleans, commas between list items, "none" for None."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.8g}"
    if isinstance(value, list):
        return ", ".join(describe_setting(item) for item in value) or "none"
    return str(value)


def flatten_settings(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return nested settings as pairs of dotted name and text, without schema versions."""
    pairs: list[tuple[str, str]] = []
    for name, value in settings.items():
        if isinstance(value, dict):
            pairs += flatten_settings(value, f"{prefix}{name}.")
        elif name != "schema_version":
            pairs.append((f"{prefix}{name}", describe_setting(value)))
    return pairs


def tie_units(text: str) -> str:
    """Join each number and its unit with a no-break space."""
    return _BEFORE_UNIT.sub("\u00a0", text)


def describe_tiles(n_tiles: int, max_tiles: int | None) -> str:
    """Return the number of tiles used, with the limit if there is one: ``"36 tiles"``, ``"36 of 40 tiles"``."""
    return f"{n_tiles} tile{'' if n_tiles == 1 else 's'}" if max_tiles is None else f"{n_tiles} of {max_tiles} tiles"


def describe_objective(objective: str, platform: str | None) -> str:
    """Return one sentence on the objective of the search; empty for digital MACs, the default objective."""
    if objective == "macs":
        return ""
    wish = "the number of digital weights" if objective == "weights" else f"the {objective} of one inference"
    return f"The search minimised {wish}{f' on {platform}' if platform and objective != 'weights' else ''}."


def describe_compensation(tiles: Mapping[str, Mapping[str, str]], n_analog: int) -> str:
    """Return one sentence on the layers whose corrections differ from the run's tile; empty if there are none."""
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
    return f"Layers that meet the bound with fewer corrections than the tile setting: {'; '.join(parts)}."


def describe_refresh(found: RefreshInterval | None, bound_pp: float, metric: Metric = ACCURACY) -> str:
    """Return one sentence on the longest age at which chips meet the bound; empty if it was not requested."""
    if found is None:
        return ""
    bound = f"{bound_pp:g} {metric.drop_unit}"
    if found.holds_until_s is None:
        return f"On other chips the bound of {bound} is exceeded even at the first age."
    age = describe_duration(found.holds_until_s)
    if found.holds_until_s == found.longest_s:
        return f"Chips meet the bound of {bound} for at least {age}, the longest age tried."
    return f"Chips meet the bound of {bound} up to {age}; reprogram the tiles by then."


def describe_shared_tiles(pipeline: PipelineRecord) -> str:
    """Return sentences on the number of tiles, the layers that share tiles, and the layers without tiles."""
    wanted, packed, used = pipeline.n_tiles_wanted, pipeline.n_tiles_packed, pipeline.n_tiles
    limit = "" if pipeline.max_tiles is None else f" of {pipeline.max_tiles}"
    text = f"{used}{limit} tile{'' if used == 1 else 's'} in use; all analog layers need {wanted}"
    text += f", or {packed} with shared tiles." if packed < wanted else "."
    sharing = {fqn for layers in pipeline.sharing for fqn in layers} - set(pipeline.reprogrammed)
    text += f" {len(sharing)} layers share tiles; layers in one tile run one after the other." if sharing else ""
    if pipeline.without_tiles:
        text += f" Digital because the tiles do not suffice: {', '.join(pipeline.without_tiles)}."
    if pipeline.reprogrammed:
        text += f" Reprogrammed for every inference: {', '.join(pipeline.reprogrammed)}."
    return text

"""Section of the report page that compares time and energy of the mapped and the all-digital network on each platform."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from markupsafe import Markup

from lionheart.report.data import ReportData
from lionheart.report.figures import BarPart, draw_stacked_bar
from lionheart.report.sections._base import SECTIONS, Section
from lionheart.runs.costs import CostRecord, LayerCostRecord, PolicyCostRecord, SystemRecord
from lionheart.runs.tables import describe_policies
from lionheart.runs.text import describe_gain
from lionheart.units import format_si

_CORE_WORDS = {"core", "cores", "cpu", "digital"}
_TILE_WORDS = {
    "adc",
    "analog",
    "average",
    "convert",
    "crossbar",
    "dac",
    "dequeue",
    "partial",
    "process",
    "queue",
    "tile",
    "tiles",
}
_N_SHADES = 5
_SMALL_SHARE = 0.015


@final
@dataclass(frozen=True)
class _Quantity:
    """Time or energy: functions that read the value of this quantity from cost records, and words for a gain and a loss."""

    title: str
    unit: str
    total: Callable[[CostRecord], float]
    breakdown: Callable[[CostRecord], Mapping[str, float] | None]
    on_core: Callable[[LayerCostRecord], float]
    gain: Callable[[SystemRecord], float]
    words: tuple[str, str]


_TIME = _Quantity(
    "Time",
    "s",
    lambda cost: cost.latency_s,
    lambda cost: cost.time_breakdown_s,
    lambda layer: layer.digital_latency_s,
    lambda system: system.speedup,
    ("faster", "slower"),
)
_ENERGY = _Quantity(
    "Energy",
    "J",
    lambda cost: cost.energy_j,
    lambda cost: cost.energy_breakdown_j,
    lambda layer: layer.digital_energy_j,
    lambda system: system.energy_gain,
    ("less", "more"),
)


def describe(data: ReportData) -> dict[str, Any]:
    """Return the template values of this section.

    The values are, for each platform, the bars for time and energy, the costs of the layers, and the assumptions of the cost
    estimates.
    """
    systems = [_describe_system(system) for system in data.results.system]
    for before, after in itertools.pairwise(systems):
        after["same_notes_as"] = before["platform"] if after["notes"] == before["notes"] else ""
    return {"systems": systems}


def _describe_system(system: SystemRecord) -> dict[str, Any]:
    notes = (
        ("Counted", system.counted),
        ("Not counted", system.not_counted),
        ("Assumptions", system.assumptions),
    )
    return {
        "platform": system.platform,
        "clock": "" if system.clock_hz is None else format_si(system.clock_hz, "Hz"),
        "n_tiles": system.n_tiles,
        "quantities": [_describe_quantity(quantity, system) for quantity in (_TIME, _ENERGY)],
        "layers": _list_layer_costs(system.layers),
        "policies": describe_policies(system),
        "other_ops": [
            {"name": op.name, "latency": format_si(op.latency_s, "s"), "energy": format_si(op.energy_j, "J")}
            for op in system.other_ops or ()
            if not op.reason_free
        ],
        "free_ops": ", ".join(f"{op.name} ({op.reason_free})" for op in system.other_ops or () if op.reason_free),
        "notes": [(title, sentences) for title, sentences in notes if sentences],
        "same_notes_as": "",
    }


def _describe_quantity(quantity: _Quantity, system: SystemRecord) -> dict[str, Any]:
    sides = (("all digital", system.all_digital), ("mapped", system.mapped))
    full = max(quantity.total(cost) for _, cost in sides)
    shades = _choose_shades([quantity.breakdown(cost) or {} for _, cost in sides], full)
    bars = [_describe_bar(label, cost, quantity, shades, full) for label, cost in sides]
    has_rest = bool(shades) and any(bar["has_rest"] for bar in bars)
    return {
        "title": quantity.title,
        "gain": describe_gain(quantity.gain(system), *quantity.words),
        "bars": bars,
        "legend": [(_read_key(key), shade) for key, shade in shades.items()] + [("other", "rest")] * has_rest,
    }


def _choose_shades(breakdowns: list[Mapping[str, float]], full: float) -> dict[str, str]:
    """Return the CSS classes that set the colours of the large components of the time or energy, by names of components.

    A component has a shade of the colour for analog if its name contains a word for tiles and no word for cores, otherwise a
    shade of the colour for digital. A component has no entry if it is at most 1.5 % of `full` in every
    breakdown, or if five larger components use all shades of the colour. Components without an entry are drawn together as one
    segment.

    Args:
        breakdowns: Values of the components [s or J] by names of components, one mapping for each bar.
        full: Value that corresponds to the whole width of the drawing [s or J].
    """
    largest: dict[str, float] = {}
    for parts in breakdowns:
        for key, value in parts.items():
            largest[key] = max(value, largest.get(key, 0.0))
    shades = {}
    for hue, is_tile in (("digital", False), ("analog", True)):
        keys = [key for key in largest if _is_tile_view(key) is is_tile and largest[key] > _SMALL_SHARE * full]
        for index, key in enumerate(sorted(keys, key=lambda key: -largest[key])[:_N_SHADES]):
            shades[key] = f"{hue} shade-{index}"
    return shades


def _is_tile_view(key: str) -> bool:
    words = set(re.split(r"[^a-z]+", key.lower()))
    return bool(words & _TILE_WORDS) and not words & _CORE_WORDS


def _read_key(key: str) -> str:
    return key.replace("_", " ")


def _describe_bar(
    label: str, cost: CostRecord, quantity: _Quantity, shades: Mapping[str, str], full: float
) -> dict[str, Any]:
    total, breakdown, unit = quantity.total(cost), quantity.breakdown(cost) or {}, quantity.unit
    values = {key: breakdown.get(key, 0.0) for key in shades}
    known = sum(values.values())
    scale = total / known if known > total else 1.0
    parts = [
        BarPart(f"{_read_key(key)}: {format_si(value, unit)}", value * scale, shades[key])
        for key, value in values.items()
        if value > 0
    ]
    rest = total - known
    has_rest = rest > 0.001 * total
    if has_rest:
        parts.append(BarPart(f"{'other' if known else label}: {format_si(rest, unit)}", rest, "rest"))
    return {
        "label": label,
        "total": format_si(total, unit),
        "svg": draw_stacked_bar(parts, full=full),
        "has_rest": has_rest,
    }


def _list_layer_costs(layers: Sequence[LayerCostRecord]) -> list[dict[str, Any]]:
    longest, largest = (
        max([max(quantity.total(layer), quantity.on_core(layer)) for layer in layers], default=0.0)
        for quantity in (_TIME, _ENERGY)
    )
    return [
        {
            "fqn": layer.fqn,
            "placement": layer.placement,
            "n_tiles": layer.n_tiles or "–",
            "policy": _describe_policy(layer.policy),
            "latency": format_si(layer.latency_s, "s"),
            "digital_latency": format_si(layer.digital_latency_s, "s"),
            "time_bar": _draw_layer_bar(layer, _TIME, longest),
            "energy": format_si(layer.energy_j, "J"),
            "digital_energy": format_si(layer.digital_energy_j, "J"),
            "energy_bar": _draw_layer_bar(layer, _ENERGY, largest),
        }
        for layer in layers
    ]


def _describe_policy(policy: PolicyCostRecord | None) -> str:
    """Return a read policy and the time and energy that it adds, in few words; empty for the default policy."""
    if policy is None:
        return ""
    return f"{policy.policy}: +{format_si(policy.latency_s, 's', 2)}, +{format_si(policy.energy_j, 'J', 2)}"


def _draw_layer_bar(layer: LayerCostRecord, quantity: _Quantity, full: float) -> Markup:
    value, unit = quantity.total(layer), quantity.unit
    parts = [BarPart(f"{layer.placement}: {format_si(value, unit)}", value, layer.placement)]
    saved = quantity.on_core(layer) - value
    if saved > 0:
        parts.append(BarPart(f"saved: {format_si(saved, unit)}", saved, "saved"))
    return draw_stacked_bar(parts, full=full, height=10.0)


SECTIONS.add("cost", Section(30, describe))

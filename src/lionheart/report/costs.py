"""The section on time and energy: the mapped network against the all-digital one, for each platform."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any

from lionheart.report.data import RunFacts
from lionheart.report.figures import BarPart, draw_stacked_bar
from lionheart.report.text import describe_gain
from lionheart.units import format_si

_CORE_WORDS = {"core", "cores", "cpu", "digital"}
_TILE_WORDS = {"adc", "analog", "convert", "crossbar", "dac", "dequeue", "partial", "process", "queue", "tile", "tiles"}
_N_SHADES = 5
_SMALL_SHARE = 0.015
_QUANTITIES = (
    ("Time", "latency_s", "time_breakdown_s", "s", "speedup", "faster", "slower"),
    ("Energy", "energy_j", "energy_breakdown_j", "J", "energy_gain", "less", "more"),
)


def list_systems(facts: RunFacts) -> list[dict[str, Any]]:
    """Return, for each platform, the bars of time and energy, the layers, and what the numbers include."""
    systems = [_describe_system(system) for system in facts.results["system"] or []]
    for before, after in itertools.pairwise(systems):
        after["same_notes_as"] = before["platform"] if after["notes"] == before["notes"] else ""
    return systems


def _describe_system(system: Mapping[str, Any]) -> dict[str, Any]:
    quantities = []
    for title, total, breakdown, unit, gain, more, less in _QUANTITIES:
        full = max(system["all_digital"][total], system["mapped"][total])
        shades = _choose_shades([system[side][breakdown] or {} for side in ("all_digital", "mapped")], full)
        bars = [
            _describe_bar(label, system[side], total, breakdown, unit, shades, full)
            for label, side in (("all digital", "all_digital"), ("mapped", "mapped"))
        ]
        has_rest = bool(shades) and any(bar["has_rest"] for bar in bars)
        quantities.append(
            {
                "title": title,
                "gain": describe_gain(system[gain], more, less),
                "bars": bars,
                "legend": [(_read_key(key), shade) for key, shade in shades.items()] + [("other", "rest")] * has_rest,
            }
        )
    clock = system["clock_hz"]
    return {
        "platform": system["platform"],
        "clock": "" if clock is None else format_si(clock, "Hz"),
        "n_tiles": system["n_tiles"],
        "quantities": quantities,
        "layers": _list_layer_costs(system),
        "other_ops": _list_op_costs(system),
        "free_ops": _list_free_ops(system),
        "notes": [
            (title, system[key])
            for title, key in (("Counted", "counted"), ("Not counted", "not_counted"), ("Assumptions", "assumptions"))
            if system[key]
        ],
        "same_notes_as": "",
    }


def _choose_shades(breakdowns: list[Mapping[str, float]], full: float) -> dict[str, str]:
    """Give the parts worth seeing one colour each: shades of analog for the work with tiles, else shades of digital.

    Parts that are small in every breakdown get none; they are drawn together, as the rest.
    """
    largest: dict[str, float] = {}
    for parts in breakdowns:
        for key, value in parts.items():
            largest[key] = max(value, largest.get(key, 0.0))
    shades = {}
    for hue, is_tile in (("digital", False), ("analog", True)):
        keys = [key for key in largest if _is_tile_part(key) is is_tile and largest[key] > _SMALL_SHARE * full]
        for index, key in enumerate(sorted(keys, key=lambda key: -largest[key])[:_N_SHADES]):
            shades[key] = f"{hue} shade-{index}"
    return shades


def _is_tile_part(key: str) -> bool:
    words = set(re.split(r"[^a-z]+", key.lower()))
    return bool(words & _TILE_WORDS) and not words & _CORE_WORDS


def _read_key(key: str) -> str:
    return key.replace("_", " ")


def _describe_bar(
    label: str,
    cost: Mapping[str, Any],
    total: str,
    breakdown: str,
    unit: str,
    shades: Mapping[str, str],
    full: float,
) -> dict[str, Any]:
    values = {key: (cost[breakdown] or {}).get(key, 0.0) for key in shades}
    known = sum(values.values())
    scale = cost[total] / known if known > cost[total] else 1.0
    parts = [
        BarPart(f"{_read_key(key)}: {format_si(value, unit)}", value * scale, shades[key])
        for key, value in values.items()
        if value > 0
    ]
    rest = cost[total] - known
    has_rest = rest > 0.001 * cost[total]
    if has_rest:
        parts.append(BarPart(f"{'other' if known else label}: {format_si(rest, unit)}", rest, "rest"))
    return {
        "label": label,
        "total": format_si(cost[total], unit),
        "svg": draw_stacked_bar(parts, full=full),
        "has_rest": has_rest,
    }


def _list_layer_costs(system: Mapping[str, Any]) -> list[dict[str, Any]]:
    layers = system["layers"]
    longest = max([max(layer["latency_s"], layer["digital_latency_s"]) for layer in layers], default=0.0)
    largest = max([max(layer["energy_j"], layer["digital_energy_j"]) for layer in layers], default=0.0)
    return [
        {
            "fqn": layer["fqn"],
            "placement": layer["placement"],
            "n_tiles": layer["n_tiles"] or "–",
            "latency": format_si(layer["latency_s"], "s"),
            "digital_latency": format_si(layer["digital_latency_s"], "s"),
            "time_bar": _draw_layer_bar(layer, "latency_s", "digital_latency_s", "s", longest),
            "energy": format_si(layer["energy_j"], "J"),
            "digital_energy": format_si(layer["digital_energy_j"], "J"),
            "energy_bar": _draw_layer_bar(layer, "energy_j", "digital_energy_j", "J", largest),
        }
        for layer in layers
    ]


def _draw_layer_bar(layer: Mapping[str, Any], key: str, digital: str, unit: str, full: float) -> Any:
    parts = [BarPart(f"{layer['placement']}: {format_si(layer[key], unit)}", layer[key], layer["placement"])]
    saved = layer[digital] - layer[key]
    if saved > 0:
        parts.append(BarPart(f"saved: {format_si(saved, unit)}", saved, "saved"))
    return draw_stacked_bar(parts, full=full, height=10.0)


def _list_op_costs(system: Mapping[str, Any]) -> list[dict[str, str]]:
    return [
        {"name": op["name"], "latency": format_si(op["latency_s"], "s"), "energy": format_si(op["energy_j"], "J")}
        for op in system["other_ops"] or []
        if not op["reason_free"]
    ]


def _list_free_ops(system: Mapping[str, Any]) -> str:
    return ", ".join(f"{op['name']} ({op['reason_free']})" for op in system["other_ops"] or [] if op["reason_free"])

"""The shapes of the data a report reads, and the check that names every key that is missing or of the wrong type."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from lionheart.errors import ArtifactError


@final
@dataclass(frozen=True)
class Maybe:
    """A part that may be missing or null; it is read as None."""

    part: Any


@final
@dataclass(frozen=True)
class Each:
    """A list whose items all have one shape."""

    item: Any


@final
@dataclass(frozen=True)
class Values:
    """An object with free keys whose values all have one shape."""

    value: Any


@final
@dataclass(frozen=True)
class OneOf:
    """One of a few values."""

    choices: tuple[Any, ...]


_SPEC = Maybe(dict)
_VERSION = OneOf((1,))
_ACCURACY = {"mean": float, "low": Maybe(float), "high": Maybe(float), "std": Maybe(float), "n_chips": int}
_COST = {
    "latency_s": float,
    "energy_j": float,
    "time_breakdown_s": Maybe(Values(float)),
    "energy_breakdown_j": Maybe(Values(float)),
}

RUN = {
    "schema_version": _VERSION,
    "lionheart_version": str,
    "created": str,
    "task": str,
    "seed": int,
    "command": str,
    "search_spec": _SPEC,
    "tile_spec": _SPEC,
    "train_spec": _SPEC,
    "environment": _SPEC,
}

GRAPH = {
    "projections": Each(
        {
            "fqn": str,
            "kind": str,
            "rows": int,
            "cols": int,
            "groups": int,
            "n_mvms": int,
            "weights": int,
            "macs": int,
            "tied_to": Maybe(str),
        }
    ),
    "other_ops": Each({"name": str, "n_calls": int, "n_elements": int, "macs": int}),
    "totals": {"macs": int, "weights": int},
    "candidates": Each({"fqn": str, "mappable": bool, "reason": str, "n_tiles": int, "tile_utilisation": Maybe(float)}),
}

_DECISION = {
    "index": int,
    "fqn": str,
    "macs": int,
    "accepted": bool,
    "accuracy": Maybe(_ACCURACY),
    "drop_pp": Maybe(float),
    "train": Maybe({"losses": Each(float), "n_steps": int, "elapsed_s": float, "outcome": str}),
    "elapsed_s": float,
    "note": Maybe(str),
}

_SYSTEM = {
    "platform": str,
    "clock_hz": Maybe(float),
    "counted": Maybe(Each(str)),
    "not_counted": Maybe(Each(str)),
    "assumptions": Maybe(Each(str)),
    "all_digital": _COST,
    "mapped": _COST,
    "speedup": float,
    "energy_gain": float,
    "n_tiles": int,
    "layers": Each(
        {
            "fqn": str,
            "placement": OneOf(("analog", "digital")),
            "latency_s": float,
            "energy_j": float,
            "n_tiles": int,
            "digital_latency_s": float,
            "digital_energy_j": float,
        }
    ),
    "other_ops": Maybe(
        Each({"name": str, "latency_s": float, "energy_j": float, "reason_free": Maybe(str)}),
    ),
}

_SCHEDULE = {
    "latency_s": float,
    "interval_s": float,
    "energy_per_inference_j": float,
    "cores": Each({"layers": Each(str), "utilisation": float}),
    "events": Each({"core": int, "inference": int, "layer": str, "kind": str, "start_s": float, "end_s": float}),
}

_PIPELINE = {
    "platform": str,
    "n_cores": int,
    "n_inferences": int,
    "max_tiles": Maybe(int),
    "n_tiles": int,
    "n_tiles_wanted": int,
    "n_tiles_packed": int,
    "without_tiles": Each(str),
    "reprogrammed": Each(str),
    "sharing": Each(Each(str)),
    "latency_gain": float,
    "throughput_gain": float,
    "energy_gain": float,
    "all_digital": _SCHEDULE,
    "mapped": _SCHEDULE,
    "notes": Each(str),
}

RESULTS = {
    "schema_version": _VERSION,
    "outcome": OneOf(("mapped", "infeasible", "budget")),
    "measure": Maybe({"name": str, "drop_unit": str, "kind": OneOf(("share", "perplexity"))}),
    "max_drop_pp": float,
    "t_inference": float,
    "confidence": float,
    "mapping": {"schema_version": _VERSION, "placements": Values(OneOf(("analog", "digital")))},
    "analog_mac_share": float,
    "analog_weight_share": float,
    "objective": Maybe(str),
    "n_tiles": int,
    "max_tiles": Maybe(int),
    "notes": Maybe(Values(str)),
    "final_samples": Maybe(int),
    "baseline": {"validation_accuracy": float, "test_accuracy": Maybe(float)},
    "validation": Maybe({**_ACCURACY, "n_samples": Maybe(int), "drop_pp": float}),
    "certificate": Maybe(
        Each({"drop_pp": float, "limit_pp": float, "confidence": float, "accepted": bool, "accuracy": _ACCURACY})
    ),
    "tiles": Maybe(Values(Values(str))),
    "reprogramming": Maybe({"holds_until_s": Maybe(float), "longest_s": float}),
    "decisions": Each(_DECISION),
    "test_over_time": Maybe(Each({"t_inference": float, **_ACCURACY, "scores": Maybe(Each(float))})),
    "test_digital_accuracy": Maybe(float),
    "elapsed_s": Maybe(float),
    "n_steps": Maybe(int),
    "system": Maybe(Each(_SYSTEM)),
    "pipelines": Maybe(Each(_PIPELINE)),
}


def conform(data: Any, shape: Any, where: str) -> Any:
    """Return a copy of `data` in which every optional part that is missing is None; unknown keys are kept.

    Raises:
        ArtifactError: Keys are missing or of the wrong type; all of them are named.
    """
    faults: list[str] = []
    checked = _walk(data, shape, where, faults)
    if faults:
        raise ArtifactError("\n".join(faults), hint="is this data of a run written by this version of lionheart?")
    return checked


def _walk(data: Any, shape: Any, where: str, faults: list[str]) -> Any:
    if isinstance(shape, Maybe):
        return None if data is None else _walk(data, shape.part, where, faults)
    if isinstance(shape, OneOf):
        if isinstance(data, bool) or not isinstance(data, (str, int)) or data not in shape.choices:
            faults.append(f"{where}: got {data!r}, expected one of {', '.join(map(repr, shape.choices))}")
        return data
    if isinstance(shape, Each):
        if not isinstance(data, list):
            return _fault(data, "a list", where, faults)
        return [_walk(item, shape.item, f"{where}[{index}]", faults) for index, item in enumerate(data)]
    if isinstance(shape, type) and shape is not dict:
        return _walk_scalar(data, shape, where, faults)
    if not isinstance(data, dict):
        return _fault(data, "an object", where, faults)
    if isinstance(shape, Values):
        return {key: _walk(value, shape.value, f"{where}.{key}", faults) for key, value in data.items()}
    return data if shape is dict else _walk_object(data, shape, where, faults)


def _walk_object(data: Mapping[str, Any], shape: Mapping[str, Any], where: str, faults: list[str]) -> dict[str, Any]:
    checked = dict(data)
    for key, part in shape.items():
        if key in data or isinstance(part, Maybe):
            checked[key] = _walk(data.get(key), part, f"{where}.{key}", faults)
        else:
            faults.append(f"{where}.{key}: missing")
    return checked


def _walk_scalar(data: Any, kind: type, where: str, faults: list[str]) -> Any:
    names = {str: "a text", int: "a whole number", float: "a finite number", bool: "true or false"}
    accepted = (int, float) if kind is float else kind
    wrong = not isinstance(data, accepted) or (isinstance(data, bool) and kind is not bool)
    if wrong or (isinstance(data, float) and not math.isfinite(data)):
        return _fault(data, names[kind], where, faults)
    return data


def _fault(data: Any, expected: str, where: str, faults: list[str]) -> None:
    shown = repr(data) if data is None or isinstance(data, (bool, int, float)) else f"a {type(data).__name__}"
    faults.append(f"{where}: got {shown}, expected {expected}")

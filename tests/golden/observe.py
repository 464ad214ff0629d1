"""What a golden run keeps: explicit readers of every file of a run, with names of our own, and no float less than exact.

The library's own schema may change while its figures must not: then the look-ups here follow, and the hashes stay. Every
reader returns plain data: floats as `float.hex`, tensors as SHA-256, pairs where the order counts. Left out are wall times,
dates, versions, paths and the environment. This file imports nothing of the library.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

Data = Mapping[str, Any]

#: Our name of a journal's event -> the first word of the library's.
EVENTS = {
    "baseline": "baseline",
    "decision": "decision",
    "held-out test": "holdout",
    "correction": "compensation",
    "age": "age",
    "loss rises": "sensitivity",
    "curvatures": "curvature",
    "mapping measured": "measured",
    "mapping measured again": "fresh",
    "evaluation": "evaluated",
    "resumed": "resumed",
    "end": "finished",
}
_OUR_NAMES = {theirs: ours for ours, theirs in EVENTS.items()}

# ------------------------------------------------------------------------------------------------------------ plain data


def exact(number: float | None) -> str | None:
    """Return a number as text that keeps every bit; an int is the float of the same value."""
    return None if number is None else float(number).hex()


def exact_list(numbers: Iterable[float]) -> list[str | None]:
    return [exact(number) for number in numbers]


def exact_values(numbers: Data) -> dict[str, str | None]:
    return {name: exact(number) for name, number in numbers.items()}


def pairs(data: Data) -> list[list[Any]]:
    """Return a mapping whose order counts."""
    return [[key, value] for key, value in data.items()]


def digest(data: Any) -> str:
    """Return the SHA-256 of bytes, or of plain data."""
    if not isinstance(data, bytes):
        data = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
    return hashlib.sha256(data).hexdigest()


def tensor_digest(tensor: torch.Tensor) -> str:
    whole = tensor.detach().cpu().contiguous()
    return f"{whole.dtype} {list(whole.shape)} {digest(whole.reshape(-1).view(torch.uint8).numpy().tobytes())}"


def hash_jobs(observed: Mapping[str, Data]) -> dict[str, dict[str, str]]:
    """Return job -> part -> SHA-256."""
    return {job: {part: digest(data) for part, data in parts.items()} for job, parts in observed.items()}


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


# --------------------------------------------------------------------------------------------------------------- records


def measure(data: Data) -> Data:
    return {"name": data["name"], "unit of a drop": data["drop_unit"], "kind": data["kind"]}


def estimate(data: Data) -> dict[str, Any]:
    """A mean over chips at one time."""
    return {
        "age": exact(data["t_inference"]),
        "mean": exact(data["mean"]),
        "low": exact(data["low"]),
        "high": exact(data["high"]),
        "std": exact(data["std"]),
        "chips": data["n_chips"],
        "scores": exact_list(data["scores"]),
    }


def training(data: Data) -> Data:
    return {"losses": exact_list(data["losses"]), "steps": data["n_steps"], "end": data["outcome"]}


def decision(data: Data) -> Data:
    return {
        "number": data["index"],
        "name": data["fqn"],
        "work": exact(data["macs"]),
        "kept": data["accepted"],
        "accuracy": estimate(data["accuracy"]),
        "samples": data["accuracy"]["n_samples"],
        "drop": exact(data["drop_pp"]),
        "limit": exact(data["drop_ucb_pp"]),
        "training": training(data["train"]),
        "analog": None if data["analog"] is None else list(data["analog"]),
        "measured again": data["n_remeasured"],
    }


def decision_note(data: Data) -> list[Any]:
    return [data["index"], data.get("note", "")]


def drop_test(data: Data) -> Data:
    """A test on held-out samples."""
    return {
        "analog": list(data["analog"]),
        "accuracy": estimate(data["accuracy"]),
        "drop": exact(data["drop"]["drop_pp"]),
        "limit": exact(data["drop"]["drop_ucb_pp"]),
        "error of chips": exact(data["drop"]["chip_error_pp"]),
        "error of samples": exact(data["drop"]["sample_error_pp"]),
        "confidence": exact(data["drop"]["confidence"]),
        "yield": exact(data["drop"]["chip_yield"]),
        "kept": data["accepted"],
    }


def correction(data: Data) -> Data:
    return {
        "setting": data["setting"],
        "value": data["value"],
        "layers": list(data["layers"]),
        "kept": data["accepted"],
        "drop": exact(data["drop_pp"]),
        "limit": exact(data["drop_ucb_pp"]),
    }


def age(data: Data) -> Data:
    return {
        "age": exact(data["age_s"]),
        "drop": exact(data["drop_pp"]),
        "limit": exact(data["drop_ucb_pp"]),
        "within": data["within"],
    }


def reprogramming(data: Data | None) -> Data | None:
    if data is None:
        return None
    return {
        "holds until": exact(data["holds_until_s"]),
        "longest": exact(data["longest_s"]),
        "measured": [age(row) for row in data["measured"]],
    }


def curvature(data: Data) -> Data:
    return {
        "trace": exact(data["trace"]),
        "squared error": exact(data["squared_error"]),
        "loss rise": exact(data["expected_loss_increase"]),
    }


def mapping(data: Data) -> list[list[str]]:
    """The placements, in their order."""
    return pairs(data["placements"])


# ---------------------------------------------------------------------------------------------------------------- system


def cost(data: Data) -> dict[str, Any]:
    return {
        "time": exact(data["latency_s"]),
        "energy": exact(data["energy_j"]),
        "times": exact_values(data["time_breakdown_s"]),
        "energies": exact_values(data["energy_breakdown_j"]),
    }


def programming(data: Data | None) -> Data | None:
    if data is None:
        return None
    again = data["reprogramming"]
    return {
        "technology": data["technology"],
        "devices": data["n_devices"],
        "write": data["write"],
        "time": exact(data["time_s"]),
        "energy": exact(data["energy_j"]),
        "times": exact_values(data["time_breakdown_s"]),
        "energies": exact_values(data["energy_breakdown_j"]),
        "break-even time": exact(data["break_even_time"]),
        "break-even energy": exact(data["break_even_energy"]),
        "again": None
        if again is None
        else {
            "after": exact(again["reprogram_after"]),
            "power": exact(again["power_w"]),
            "share": exact(again["time_share"]),
            "inferences": exact(again["inferences_per_s"]),
        },
        "unknown": data["reason_unknown"],
    }


def system_layer(data: Data) -> Data:
    return {
        "name": data["fqn"],
        "placement": data["placement"],
        **cost(data),
        "tiles": data["n_tiles"],
        "digital time": exact(data["digital_latency_s"]),
        "digital energy": exact(data["digital_energy_j"]),
    }


def system_op(data: Data) -> Data:
    return {
        "name": data["name"],
        "time": exact(data["latency_s"]),
        "energy": exact(data["energy_j"]),
        "is free": bool(data["reason_free"]),
    }


def system(data: Data) -> Data:
    """The estimate on one platform."""
    return {
        "platform": data["platform"],
        "clock": exact(data["clock_hz"]),
        "digital": cost(data["all_digital"]),
        "mapped": cost(data["mapped"]),
        "speedup": exact(data["speedup"]),
        "energy gain": exact(data["energy_gain"]),
        "tiles": data["n_tiles"],
        "tiles missing": data["tiles_missing"],
        "programming": programming(data["programming"]),
        "layers": [system_layer(row) for row in data["layers"]],
        "other": [system_op(row) for row in data["other_ops"]],
    }


def system_words(data: Data) -> Data:
    return {
        "counted": list(data["counted"]),
        "not counted": list(data["not_counted"]),
        "assumptions": list(data["assumptions"]),
        "free": [[row["name"], row["reason_free"]] for row in data["other_ops"]],
    }


def schedule(data: Data) -> Data:
    return {
        "latency": exact(data["latency_s"]),
        "interval": exact(data["interval_s"]),
        "throughput": exact(data["throughput_per_s"]),
        "total": exact(data["total_s"]),
        "energy": exact(data["energy_per_inference_j"]),
        "energies": exact_values(data["energy_breakdown_j"]),
        "cores": [[list(row["layers"]), exact(row["utilisation"])] for row in data["cores"]],
        "events": [
            [
                each["core"],
                each["inference"],
                each["layer"],
                each["kind"],
                exact(each["start_s"]),
                exact(each["end_s"]),
            ]
            for each in data["events"]
        ],
    }


def cores(data: Data) -> Data:
    """The same on several cores."""
    return {
        "platform": data["platform"],
        "cores": data["n_cores"],
        "inferences": data["n_inferences"],
        "most tiles": data["max_tiles"],
        "tiles": data["n_tiles"],
        "tiles wanted": data["n_tiles_wanted"],
        "tiles packed": data["n_tiles_packed"],
        "without tiles": list(data["without_tiles"]),
        "reprogrammed": list(data["reprogrammed"]),
        "sharing": [list(row) for row in data["sharing"]],
        "latency gain": exact(data["latency_gain"]),
        "throughput gain": exact(data["throughput_gain"]),
        "energy gain": exact(data["energy_gain"]),
        "digital": schedule(data["all_digital"]),
        "mapped": schedule(data["mapped"]),
    }


def observe_systems(estimates: Iterable[Data]) -> dict[str, Any]:
    """What `estimate_run` returns and ``system.json`` keeps."""
    parts: dict[str, Any] = {}
    for each in estimates:
        parts[f"system {each['platform']}"] = system(each)
        parts["system words"] = [*parts.get("system words", []), system_words(each)]
        if each.get("pipeline") is not None:
            parts[f"cores {each['platform']}"] = cores(each["pipeline"])
            parts[f"cores words {each['platform']}"] = list(each["pipeline"]["notes"])
    return parts


def read_systems(folder: Path) -> list[Data]:
    return read(folder / "system.json")["system"]


# ---------------------------------------------------------------------------------------------------------- files of runs


def observe_weights(path: Path) -> dict[str, str]:
    """Tensor's name -> type, shape and SHA-256."""
    with safe_open(path, framework="pt") as stored:
        return {name: tensor_digest(stored.get_tensor(name)) for name in sorted(stored.keys())}


def observe_graph(folder: Path) -> Data:
    data = read(folder / "graph.json")
    projections = [
        {
            "name": row["fqn"],
            "kind": row["layer_type"],
            "shape": [row["rows"], row["cols"], row["groups"]],
            "products": row["n_mvms"],
            "calls": row["n_calls"],
            "inputs": row["n_inputs"],
            "outputs": row["n_outputs"],
            "bias": row["has_bias"],
            "weights": row["weights"],
            "macs": row["macs"],
        }
        for row in data["projections"]
    ]
    candidates = [
        {
            "name": row["fqn"],
            "mappable": row["mappable"],
            "by choice": row["by_choice"],
            "tiles": row["n_tiles"],
            "rows": list(row["row_sizes"]),
            "cols": list(row["col_sizes"]),
            "use": exact(row["tile_utilisation"]),
        }
        for row in data["candidates"]
    ]
    others = [
        [row["name"], row["n_calls"], row["n_elements"], row["n_operands"], row["macs"], row["flops"], row["n_bytes"]]
        for row in data["other_ops"]
    ]
    return {"projections": projections, "candidates": candidates, "others": others, "edges": data["edges"]}


def read_events(folder: Path, ours: str | None = None) -> list[Data]:
    """The journal's events with our name, or all."""
    path = folder / "journal.jsonl"
    if not path.exists():
        return []
    events = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            event = json.loads(line)
        except json.JSONDecodeError:  # cut by a kill
            continue
        if ours is None or _first_word(event) == EVENTS[ours]:
            events.append(event)
    return events


def _first_word(event: Data) -> str:
    return event["event"].partition(" ")[0]


_EVENT_READERS: dict[str, Callable[[Data], Any]] = {
    "baseline": lambda value: exact_values(value),
    "decision": lambda value: decision(value),
    "held-out test": lambda value: drop_test(value),
    "correction": lambda value: correction(value),
    "age": lambda value: age(value),
    "loss rises": lambda value: exact_values(value),
    "curvatures": lambda value: {fqn: curvature(row) for fqn, row in value.items()},
    "mapping measured": lambda value: measured_event(value),
    "mapping measured again": lambda value: estimate(value),
    "evaluation": lambda value: evaluation(value),
}


def observe_journal(folder: Path, *, resumes: bool = False) -> dict[str, Any]:
    """The order of events, and what they say; without those of a resume, which an unbroken run does not have."""
    parts: dict[str, Any] = {"journal": []}
    for event in read_events(folder):
        ours = _OUR_NAMES[_first_word(event)]
        if ours == "resumed" and not resumes:
            continue
        parts["journal"].append(ours)
        if ours not in ("resumed", "end"):
            found = _EVENT_READERS[ours](event["value"])
            if ours == "mapping measured again":  # its name says of which mapping
                found = [[fqn for fqn in event["event"].partition(" ")[2].split(",") if fqn], found]
            parts.setdefault(f"journal {ours}", []).append(found)
    return parts


def observe_map(folder: Path) -> dict[str, Any]:
    """Everything that a finished mapping leaves."""
    data = read(folder / "results.json")
    stored = mapping(read(folder / "mapping.json"))
    assert stored == mapping(data["mapping"])
    return {
        "network": observe_graph(folder),
        "outcome": data["outcome"],
        "wish": {
            "measure": measure(data["metric"]),
            "bound": exact(data["max_drop_pp"]),
            "age": exact(data["t_inference"]),
            "confidence": exact(data["confidence"]),
            "objective": data["objective"],
            "most tiles": data["max_tiles"],
            "samples": data["final_samples"],
        },
        "mapping": stored,
        "shares": {
            "macs": exact(data["analog_mac_share"]),
            "weights": exact(data["analog_weight_share"]),
            "tiles": data["n_tiles"],
        },
        "baseline": {
            "validation": exact(data["baseline"]["validation_accuracy"]),
            "test": exact(data["baseline"]["test_accuracy"]),
        },
        "validation": {**estimate(data["validation"]), "drop": exact(data["validation_drop_pp"])},
        "validation over time": [estimate(row) for row in data["validation_over_time"]],
        "decisions": [decision(row) for row in data["decisions"]],
        "decisions' notes": [decision_note(row) for row in data["decisions"]],
        "test over time": [estimate(row) for row in data["test_over_time"]],
        "test of the retrained network": exact(data["retrained_test_accuracy"]),
        "steps": data["n_steps"],
        "notes": pairs(data["notes"]),
        "tiles": pairs(data["tiles"]),
        "reprogramming": reprogramming(data["refresh"]),
        "certificate": [drop_test(row) for row in data["holdout_tests"]],
        **observe_systems(data["system"]),
        "weights": observe_weights(folder / "weights.safetensors"),
        **observe_journal(folder),
    }


def evaluation(data: Data) -> Data:
    return {
        "split": data["split"],
        "measure": measure(data["metric"]),
        "samples": data["n_samples"],
        "chips": data["n_chips"],
        "seed": data["seed"],
        "backend": data["backend"],
        "confidence": exact(data["confidence"]),
        "over time": [estimate(row) for row in data["accuracy_over_time"]],
    }


def observe_evaluation(folder: Path) -> dict[str, Any]:
    return {"evaluation": evaluation(read(folder / "evaluation.json"))}


# ---------------------------------------------------------------------------------------------------------------- pareto


def measured_event(data: Data) -> Data:
    return {
        "number": data["number"],
        "analog": [fqn for fqn, place in data["mapping"]["placements"].items() if place == "analog"],
        "accuracy": estimate(data["accuracy"]),
        "cost": exact(data["cost"]),
    }


def measured_mapping(data: Data) -> Data:
    fresh = data["fresh"]
    return {
        "number": data["number"],
        "on front": data["on_front"],
        "mapping": mapping(data["mapping"]),
        "accuracy": estimate(data["accuracy"]),
        "drop": exact(data["drop_pp"]),
        "again": None if fresh is None else {**estimate(fresh["accuracy"]), "drop": exact(fresh["drop_pp"])},
        "cost": exact(data["cost"]),
        "macs": exact(data["analog_mac_share"]),
        "weights": exact(data["analog_weight_share"]),
        "analog": data["n_analog"],
        "tiles": data["n_tiles"],
        "time": exact(data["latency_s"]),
        "energy": exact(data["energy_j"]),
    }


def bound(data: Data, folder: Path) -> Data:
    return {
        "bound": exact(data["max_drop_pp"]),
        "number": data["number"],
        "mapping": None if data["file"] is None else mapping(read(folder / data["file"])),
        "confirmed": data["is_confirmed"],
        "first choice": data["first_choice"],
    }


def observe_pareto(folder: Path) -> dict[str, Any]:
    """A front, whole or so far."""
    data = read(folder / "pareto.json")
    return {
        "network": observe_graph(folder),
        "wish": {
            "task": data["task"],
            "measure": measure(data["metric"]),
            "objective": data["objective"],
            "most tiles": data["max_tiles"],
            "platform": data["platform"],
            "age": exact(data["t_inference"]),
            "confidence": exact(data["confidence"]),
            "chips": data["n_chips"],
            "final chips": data["n_chips_final"],
            "samples": data["validation_samples"],
            "trials": data["n_trials"],
            "projections": data["n_projections"],
        },
        "complete": data["complete"],
        "baseline": exact_values(data["baseline"]),
        "mappings": [measured_mapping(row) for row in data["mappings"]],
        "front": list(data["front"]),
        "bounds": [bound(row, folder) for row in data["bounds"]],
        **observe_journal(folder),
    }


# --------------------------------------------------------------------------------------------------------------- profile


def profile_time(data: Data) -> Data:
    return {
        **estimate(data),
        "drop": exact(data["drop_pp"]),
        "drop low": exact(data["drop_low_pp"]),
        "drop high": exact(data["drop_high_pp"]),
        "change": exact_values(data["change"]),
    }


def profile_row(data: Data) -> Data:
    return {
        "name": data["fqn"],
        "kind": data["layer_type"],
        "rows": data["rows"],
        "cols": data["cols"],
        "macs": data["macs"],
        "tiles": data["n_tiles"],
        "over time": [profile_time(row) for row in data["over_time"]],
    }


#: Our name of a column of the profile's table -> the library's, and whether it is a float.
_COLUMNS = {
    "name": ("projection", False),
    "rows": ("rows", False),
    "cols": ("cols", False),
    "macs": ("macs", False),
    "age": ("t_s", True),
    "score": ("score", True),
    "drop": ("drop", True),
    "drop low": ("drop_low", True),
    "drop high": ("drop_high", True),
    "change": ("change", True),
    "chips": ("n_chips", False),
}


def profile_table(path: Path) -> list[Data]:
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    return [
        {ours: exact(row[name]) if is_float else row[name] for ours, (name, is_float) in _COLUMNS.items()}
        for row in rows
    ]


def observe_profile(path: Path) -> dict[str, Any]:
    """The JSON file of a profile and the table beside it."""
    data = read(path)
    return {
        "wish": {
            "task": data["task"],
            "measure": measure(data["metric"]),
            "ages": exact_list(data["times"]),
            "chips": data["n_chips"],
            "samples": data["n_samples"],
            "confidence": exact(data["confidence"]),
            "seed": data["seed"],
            "backend": data["backend"],
            "projections": data["n_projections"],
        },
        "complete": data["complete"],
        "digital": exact(data["digital"]),
        "projections": [profile_row(row) for row in data["projections"]],
        "table": profile_table(path.with_suffix(".csv")),
    }


# -------------------------------------------------------------------------------------------------------------- training


def observe_training(path: Path) -> dict[str, Any]:
    """The weights of a task's training and their card."""
    card = read(path.with_suffix(".json"))
    return {
        "card": {
            "task": card["task"],
            "command": card["command"],
            "seed": card["seed"],
            "batch": card["batch_size"],
            "device": card["device"],
            "arithmetic": card["arithmetic"],
            "parameters": card["n_parameters"],
            "macs": card["macs"],
            "losses": exact_list(card["training_loss"]),
            "measure": card["measure"],
            "validation": exact(card["validation_accuracy"]),
            "test": exact(card["test_accuracy"]),
            "continued": "started_from" in card,
        },
        "weights": observe_weights(path),
    }


# ---------------------------------------------------------------------------------------------------------------- export


def observe_folder(folder: Path) -> dict[str, Any]:
    """Every file of an exported program by the SHA-256 of its bytes."""
    return {path.name: digest(path.read_bytes()) for path in sorted(folder.iterdir()) if path.is_file()}

"""How sensitive a network is to each of its projections: what its measure loses when exactly one is on tiles."""

from __future__ import annotations

import copy
import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from lionheart.candidates import Candidate
from lionheart.data import BatchSource, move_batch
from lionheart.errors import ArtifactError, ConfigError
from lionheart.evaluation import AccuracyEstimate, estimate_mean, evaluate_over_chips, score_samples
from lionheart.files import read_json, require_mapping, write_json, write_text
from lionheart.jobs.backend import find_backend
from lionheart.jobs.map import prepare_run
from lionheart.jobs.measurement.sensitivity import each_alone
from lionheart.jobs.samples import calibration_pass, take_samples
from lionheart.jobs.settings import MapSettings
from lionheart.metrics import Measure
from lionheart.progress import SILENT, Progress
from lionheart.rng import RandomStreams
from lionheart.tasks import Task

#: What of a file must be as asked for, or its rows are of another profile.
_KEYS = ("task", "measure", "times", "n_chips", "n_samples", "confidence", "seed", "backend", "tile", "n_projections")


def profile_layers(
    task: Task,
    settings: MapSettings | None = None,
    *,
    times: Sequence[float],
    n_chips: int = 10,
    n_samples: int | None = None,
    out: Path | None = None,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Measure a task's network on validation samples with one projection at a time on tiles, not retrained, over fresh chips.

    All projections see the same samples and the same seeds of chips, at all times the same chips.

    Args:
        task: Its network is not changed.
        settings: Tile, backend, seed, confidence, and which projections; None takes the defaults.
        times: Seconds after programming.
        n_chips: Fresh chips for each projection.
        n_samples: First validation samples; None = all.
        out: A JSON file that is written after each projection, with a table beside it as ``.csv``. If it is there from the same
            settings, its rows are not measured again.
        progress: Where bars show themselves.

    Returns:
        Settings, the digital network's score, and a row for each projection, the largest drop at the first time first.

    Raises:
        ConfigError: There is no chip or no time, or a setting is impossible.
        ArtifactError: `out` is of other settings, or damaged.
    """
    settings = settings or MapSettings()
    if n_chips < 1 or not times:
        raise ConfigError(f"profile: got {n_chips} chips and {len(times)} times, expected one of each at least")
    candidates = [each for each in prepare_run(task, settings)[1] if each.is_mappable]
    model, batches = copy.deepcopy(task.model), take_samples(task.validation, n_samples)
    reference = score_samples(model, batches, task.metric)
    profile: dict[str, Any] = {
        "task": task.name,
        "measure": task.measure.to_json(),
        "times": list(times),
        "n_chips": n_chips,
        "n_samples": len(reference),
        "confidence": settings.search.confidence,
        "seed": settings.seed,
        "backend": settings.backend,
        "tile": settings.tile.to_json(),
        "n_projections": len(candidates),
        "digital": float(reference.mean()),
    }
    done = {row["fqn"]: row for row in _read_rows(profile, out)}
    _measure(task, model, batches, candidates, settings, profile, done, out, progress)
    return _finish(profile, done)


def _measure(
    task: Task,
    model: nn.Module,
    batches: BatchSource,
    candidates: Sequence[Candidate],
    settings: MapSettings,
    profile: Mapping[str, Any],
    done: dict[str, Any],
    out: Path | None,
    progress: Progress,
) -> None:
    """Add the rows that are missing in `done`."""
    by_name = {each.node.fqn: each for each in candidates}
    missing = [fqn for fqn in by_name if fqn not in done]
    streams, device = RandomStreams(settings.seed).scope("profile"), next(model.parameters()).device
    inputs = move_batch(next(iter(task.train_batches.epoch(streams.generator("inputs"))))[0], device)
    with progress.bar("one projection on tiles", len(by_name)) as bar:
        bar.advance(len(done))
        for fqn in each_alone(model, missing, settings.tile, find_backend(settings.backend), inputs):
            bar.describe(fqn)
            found = evaluate_over_chips(
                model,
                batches,
                task.metric,
                times=profile["times"],
                n_chips=profile["n_chips"],
                streams=streams.scope("chips"),
                confidence=profile["confidence"],
                run_calibration=calibration_pass(task),
            )
            done[fqn] = _describe(by_name[fqn], found, profile, task.measure)
            if out is not None:
                write_profile(_finish(profile, done), out)
            bar.advance()


def _describe(
    candidate: Candidate, found: Sequence[AccuracyEstimate], profile: Mapping[str, Any], measure: Measure
) -> dict[str, Any]:
    node, digital = candidate.node, profile["digital"]
    over_time = []
    for each in found:
        values = [measure.value_of(score) - measure.value_of(digital) for score in each.scores]
        change = estimate_mean(values, t_inference=each.t_inference, confidence=profile["confidence"])
        over_time.append(
            {
                **each.to_json(),
                "drop_pp": 100 * (digital - each.mean),
                "drop_low_pp": 100 * (digital - each.high),
                "drop_high_pp": 100 * (digital - each.low),
                "change": {"mean": change.mean, "low": change.low, "high": change.high},
            }
        )
    return {
        "fqn": node.fqn,
        "kind": str(node.kind),
        "rows": node.rows,
        "cols": node.cols,
        "macs": node.macs,
        "n_tiles": candidate.partition.n_tiles,
        "over_time": over_time,
    }


def _finish(profile: Mapping[str, Any], done: Mapping[str, Any]) -> dict[str, Any]:
    rows = sorted(done.values(), key=lambda row: -row["over_time"][0]["drop_pp"])
    return {**profile, "complete": len(rows) == profile["n_projections"], "projections": rows}


def write_profile(profile: Mapping[str, Any], out: Path) -> None:
    """Write a profile to a JSON file, and its rows to a CSV file beside it: one line for each projection and time."""
    write_json(out, dict(profile))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(
        ["projection", "rows", "cols", "macs", "t_s", "score", "drop", "drop_low", "drop_high", "change", "n_chips"]
    )
    for row in profile["projections"]:
        for each in row["over_time"]:
            drops = [each["drop_pp"], each["drop_low_pp"], each["drop_high_pp"]]
            values = [each["t_inference"], each["mean"], *drops, each["change"]["mean"], each["n_chips"]]
            writer.writerow([row["fqn"], row["rows"], row["cols"], row["macs"], *values])
    write_text(out.with_suffix(".csv"), buffer.getvalue())


def _read_rows(profile: Mapping[str, Any], out: Path | None) -> list[Any]:
    """Return the rows of a profile that was begun.

    Raises:
        ArtifactError: The file is of other settings, or no profile.
    """
    if out is None or not out.exists():
        return []
    stored = require_mapping(read_json(out), out)
    other = next((key for key in _KEYS if stored.get(key) != profile[key]), None)
    if other is not None or not isinstance(stored.get("projections"), list):
        what = f"another {other}" if other in stored else "no profile"
        raise ArtifactError(f"{out}: there is a file with {what}", hint="give another --out, or delete it")
    return list(stored["projections"])

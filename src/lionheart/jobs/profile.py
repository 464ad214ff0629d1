"""How sensitive a network is to each of its projections: what its metric loses when exactly one is on tiles."""

from __future__ import annotations

import copy
import csv
import io
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import AliasChoices, BeforeValidator, Field

from lionheart.candidates import Candidate
from lionheart.data import BatchSource, move_batch, take_samples
from lionheart.devices import TileSpec
from lionheart.errors import ArtifactError, ConfigError
from lionheart.evaluation import estimate_mean, evaluate_over_chips, score_samples
from lionheart.files import read_json, write_json, write_text
from lionheart.jobs.context import Context
from lionheart.jobs.map import prepare_run
from lionheart.jobs.measurement.sensitivity import each_alone
from lionheart.jobs.samples import calibration_pass
from lionheart.jobs.settings import MapSettings
from lionheart.metrics import Metric, drop_pp
from lionheart.progress import SILENT, Progress
from lionheart.record import Record
from lionheart.runs import Accuracy, Journal
from lionheart.tasks import Task


def _read_tile(data: Any) -> Any:
    return TileSpec.from_json(data) if isinstance(data, Mapping) else data


class Change(Record):
    """How far the metric's value is from that of the digital network."""

    mean: float = Field(description="mean over chips")
    low: float = Field(description="lower end of its interval")
    high: float = Field(description="upper end of its interval")


class ProfilePoint(Accuracy):
    """One projection on tiles at one time."""

    drop_pp: float = Field(description="drop [pp]")
    drop_low_pp: float = Field(description="lower end of its interval [pp]")
    drop_high_pp: float = Field(description="upper end of its interval [pp]")
    change: Change = Field(description="of the metric's value")


class ProfileRow(Record):
    """One projection alone on tiles."""

    fqn: str = Field(description="projection")
    layer_type: str = Field(description="layer type", validation_alias=AliasChoices("layer_type", "kind"))
    rows: int = Field(description="inputs")
    cols: int = Field(description="outputs")
    macs: int = Field(description="multiply-accumulates of an inference")
    n_tiles: int = Field(description="crossbars")
    over_time: tuple[ProfilePoint, ...] = Field(description="at each time")


class Profile(Record):
    """What each projection costs alone on tiles."""

    task: str = Field(description="name of the task")
    metric: Metric = Field(
        Metric(), description="what the scores mean", validation_alias=AliasChoices("metric", "measure")
    )
    times: tuple[float, ...] = Field(description="seconds after programming; the first orders the rows")
    n_chips: int = Field(description="fresh chips for each projection")
    n_samples: int = Field(description="validation samples")
    confidence: float = Field(description="of the intervals")
    seed: int = Field(description="root of all random streams")
    backend: str = Field(description="what computed the analog layers")
    tile: Annotated[TileSpec, BeforeValidator(_read_tile)] = Field(description="what each projection was put on")
    n_projections: int = Field(description="projections to measure")
    digital: float = Field(description="mean score of the digital network")
    complete: bool = Field(False, description="whether all projections are measured")
    projections: tuple[ProfileRow, ...] = Field((), description="the largest drop at the first time first")

    def with_rows(self, rows: Sequence[ProfileRow]) -> Profile:
        """Return the profile with rows, the largest drop at the first time first."""
        ordered = sorted(rows, key=lambda row: -row.over_time[0].drop_pp)
        return self.replace(complete=len(rows) == self.n_projections, projections=tuple(ordered))


def profile_layers(
    task: Task,
    settings: MapSettings | None = None,
    *,
    times: Sequence[float],
    n_chips: int = 10,
    n_samples: int | None = None,
    out: Path | None = None,
    progress: Progress = SILENT,
) -> Profile:
    """Measure a task's network on validation samples with one projection at a time on tiles, not retrained, over fresh chips.

    All projections see the same samples and the same seeds of chips, at all times the same chips.

    Args:
        task: Its network is not changed.
        settings: Tile, backend, seed, confidence, and which projections; None takes the defaults.
        times: Seconds after programming.
        n_chips: Fresh chips for each projection.
        n_samples: First validation samples; None = all.
        out: A JSON file that is written after each projection, with a table beside it as ``.csv`` and, until all are
            measured, a journal as ``.journal``. What these have of the same settings is not measured again.
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
    graph, candidates = prepare_run(task, settings)
    batches = take_samples(task.validation, n_samples)
    reference = score_samples(task.model, batches, task.metric)
    empty = Profile(
        task=task.name,
        metric=task.metric,
        times=tuple(times),
        n_chips=n_chips,
        n_samples=len(reference),
        confidence=settings.search.interval_coverage,
        seed=settings.seed,
        backend=settings.backend,
        tile=settings.tile,
        n_projections=sum(each.is_mappable for each in candidates),
        digital=float(reference.mean()),
    )
    if out is not None and out.exists() and (stored := _read_stored(empty, out)).complete:
        return stored
    journal = Journal(None if out is None else out.with_name(f"{out.name}.journal"))
    _require_same(journal.once("profile", Profile, lambda: empty), empty, journal.path)
    return _measure(Context(task, settings, graph, candidates, journal, progress), batches, empty, out)


def _measure(context: Context, batches: BatchSource, empty: Profile, out: Path | None) -> Profile:
    """Measure the projections that the journal does not have, and write the profile after each."""
    task, settings, journal = context.task, context.settings, context.journal
    model = copy.deepcopy(task.model)
    by_name = {each.node.fqn: each for each in context.mappable}
    done = {fqn: journal.read(_key(fqn), ProfileRow) for fqn in by_name if journal.has(_key(fqn))}
    missing = [fqn for fqn in by_name if fqn not in done]
    streams, device = context.streams.scope("profile"), next(model.parameters()).device
    inputs = move_batch(next(iter(task.train_batches.epoch(streams.generator("inputs"))))[0], device)

    def measure(candidate: Candidate) -> ProfileRow:
        found = evaluate_over_chips(
            model,
            batches,
            task.metric,
            times=empty.times,
            n_chips=empty.n_chips,
            streams=streams.scope("chips"),
            confidence=empty.confidence,
            run_calibration=calibration_pass(task),
        )
        return _describe(candidate, found, empty)

    with context.progress.bar("one projection on tiles", len(by_name)) as bar:
        bar.advance(len(done))
        for fqn in each_alone(model, missing, settings.tile, context.backend, inputs):
            bar.describe(fqn)
            done[fqn] = journal.once(_key(fqn), ProfileRow, partial(measure, by_name[fqn]))
            if out is not None:
                write_profile(empty.with_rows(list(done.values())), out)
            bar.advance()
    profile = empty.with_rows(list(done.values()))
    if out is not None:
        write_profile(profile, out)
        journal.remove()
    return profile


def _key(fqn: str) -> str:
    return f"projection {fqn}"


def _describe(candidate: Candidate, found: Sequence[Accuracy], profile: Profile) -> ProfileRow:
    node, digital, metric = candidate.node, profile.digital, profile.metric
    points = []
    for each in found:
        values = [metric.value_of(score) - metric.value_of(digital) for score in each.scores]
        change = estimate_mean(values, t_inference=each.t_inference, confidence=profile.confidence)
        points.append(
            ProfilePoint(
                **each.to_json(),
                drop_pp=drop_pp(digital, each.mean),
                drop_low_pp=drop_pp(digital, each.high),
                drop_high_pp=drop_pp(digital, each.low),
                change=Change(mean=change.mean, low=change.low, high=change.high),
            )
        )
    return ProfileRow(
        fqn=node.fqn,
        layer_type=node.layer_type,
        rows=node.rows,
        cols=node.cols,
        macs=node.macs,
        n_tiles=candidate.partition.n_tiles,
        over_time=tuple(points),
    )


def write_profile(profile: Profile, out: Path) -> None:
    """Write a profile to a JSON file, and its rows to a CSV file beside it: one line for each projection and time."""
    write_json(out, profile.to_json())
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(
        ["projection", "rows", "cols", "macs", "t_s", "score", "drop", "drop_low", "drop_high", "change", "n_chips"]
    )
    for row in profile.projections:
        for each in row.over_time:
            drops = [each.drop_pp, each.drop_low_pp, each.drop_high_pp]
            values = [each.t_inference, each.mean, *drops, each.change.mean, each.n_chips]
            writer.writerow([row.fqn, row.rows, row.cols, row.macs, *values])
    write_text(out.with_suffix(".csv"), buffer.getvalue())


def _read_stored(empty: Profile, out: Path) -> Profile:
    """Return the profile of a file.

    Raises:
        ArtifactError: It is of other settings, or no profile.
    """
    try:
        stored = Profile.from_json(read_json(out), str(out))
    except ArtifactError as error:
        hint = "give another --out, or delete it"
        raise ArtifactError(f"{out}: there is a file with no profile: {error.message}", hint=hint) from error
    _require_same(stored.replace(complete=False, projections=()), empty, out)
    return stored


def _require_same(stored: Profile, empty: Profile, path: Path | None) -> None:
    for name in type(empty).model_fields:
        if getattr(stored, name) != getattr(empty, name):
            raise ArtifactError(f"{path}: there is a file with another {name}", hint="give another --out, or delete it")

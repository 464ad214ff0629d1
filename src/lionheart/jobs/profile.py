"""Sensitivity profile: for each projection, how much the network's metric drops if only this projection runs on tiles."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import AliasChoices, BeforeValidator, Field

from lionheart.candidates import Candidate
from lionheart.copies import copy_model
from lionheart.data import BatchSource, device_of, move_batch, read_first, take_samples
from lionheart.devices import TileSpec
from lionheart.errors import ArtifactError, ConfigError
from lionheart.evaluation import estimate_mean, evaluate_over_chips, naming_data, score_samples
from lionheart.files import read_json, write_json, write_text
from lionheart.jobs.checks import list_splits
from lionheart.jobs.context import Context
from lionheart.jobs.map import prepare_run
from lionheart.jobs.measurement.sensitivity import each_alone
from lionheart.jobs.rescaling import rescale_task
from lionheart.jobs.samples import calibration_pass
from lionheart.jobs.settings import MapSettings
from lionheart.jobs.times import choose_times
from lionheart.metrics import Metric
from lionheart.progress import SILENT, Progress
from lionheart.record import Record
from lionheart.runs import Accuracy, Journal
from lionheart.tasks import Task


def _read_tile(data: Any) -> Any:
    return TileSpec.from_json(data) if isinstance(data, Mapping) else data


class Change(Record):
    """Value of a task's metric with one projection on tiles, minus the metric's value for the digital network.

    The change has the unit of the metric. The mean and the confidence interval are computed over simulated chips.
    """

    mean: float = Field(description="mean over chips")
    low: float = Field(description="lower end of the confidence interval")
    high: float = Field(description="upper end of the confidence interval")


class ProfilePoint(Accuracy):
    """Value of the task's metric at one time since programming, with only one projection (weight matrix) on tiles."""

    drop_pp: float = Field(description="drop against the digital network [pp]")
    drop_low_pp: float = Field(description="lower end of the confidence interval of the drop [pp]")
    drop_high_pp: float = Field(description="upper end of the confidence interval of the drop [pp]")
    change: Change = Field(description="change of the metric's value")


class ProfileRow(Record):
    """Drop of the metric with only one projection (weight matrix) on tiles, at each time, and the projection's size."""

    fqn: str = Field(description="name of the projection")
    layer_type: str = Field(description="layer type", validation_alias=AliasChoices("layer_type", "kind"))
    rows: int = Field(description="inputs of the projection (rows of the crossbar)")
    cols: int = Field(description="outputs of the projection (columns of the crossbar)")
    macs: int = Field(description="multiply-accumulates of one inference")
    n_tiles: int = Field(description="tiles that the projection needs")
    over_time: tuple[ProfilePoint, ...] = Field(description="metric at each time")


class Profile(Record):
    """Sensitivity profile: for each projection (weight matrix), the drop of the metric with only this projection on tiles."""

    task: str = Field(description="name of the task")
    metric: Metric = Field(
        Metric(), description="metric of the scores", validation_alias=AliasChoices("metric", "measure")
    )
    times: tuple[float, ...] = Field(
        description="times since programming [s]; the first determines the order of the rows"
    )
    n_chips: int = Field(description="simulated chips for each projection")
    n_samples: int = Field(description="validation samples")
    confidence: float = Field(description="coverage probability of the confidence intervals")
    seed: int = Field(description="seed of all random streams")
    backend: str = Field(description="backend that computed the analog layers")
    tile: Annotated[TileSpec, BeforeValidator(_read_tile)] = Field(description="tile of the analog layers")
    channel_rescaling: float | None = Field(
        None,
        description="strength of the channel rescaling of the network; left out without",
        exclude_if=lambda value: value is None,
    )
    n_projections: int = Field(description="number of projections to measure")
    digital: float = Field(description="mean score of the digital network")
    complete: bool = Field(False, description="whether all projections have been measured")
    projections: tuple[ProfileRow, ...] = Field(
        (), description="rows in decreasing order of the drop at the first time"
    )

    def with_rows(self, rows: Sequence[ProfileRow]) -> Profile:
        """Return a copy of the profile with the given rows, sorted by the drop at the first time in descending order."""
        ordered = sorted(rows, key=lambda row: -row.over_time[0].drop_pp)
        return self.replace(complete=len(rows) == self.n_projections, projections=tuple(ordered))


def profile_layers(
    task: Task,
    settings: MapSettings | None = None,
    *,
    times: str | float | Iterable[str | float] | None = None,
    n_chips: int = 10,
    n_samples: int | None = None,
    out: Path | None = None,
    progress: Progress = SILENT,
) -> Profile:
    """Measure how much a network's metric drops with only one projection (weight matrix) on tiles, for each projection.

    The network is evaluated on validation samples and simulated chips, without retraining. All projections and all times use
    the same samples and the same chip seeds.

    Args:
        task: Task whose network is measured. The network is not changed.
        settings: Settings, e.g. the tile, the backend, the seed and the projections to include; None = the preset
            ``quick``.
        times: Times since programming: durations such as ``"1d"``, or seconds. The first time determines the order of the rows.
            None = 1 day, or the nearest time at which the device can be read.
        n_chips: Number of simulated chips for each projection.
        n_samples: Number of validation samples to evaluate, starting from the first; None = all.
        out: JSON file for the profile; None = no file. The file is written after each projection, with a table in a ``.csv``
            file next to it. A ``.journal`` file exists until all projections are measured. If these files exist from an earlier
            call with the same settings, the projections measured in that call are not measured again.
        progress: Receiver of progress bars and messages.

    Returns:
        The settings, the score of the digital network, and one row for each projection. The row with the largest drop at the
        first time comes first.

    Raises:
        ConfigError: `n_chips` is below 1, `times` is empty or invalid, or a setting is invalid.
        ArtifactError: `out` or its journal was written with other settings, or is damaged.
    """
    settings = settings or MapSettings.preset()
    if n_chips < 1:
        raise ConfigError(
            f"n_chips: got {n_chips}, expected at least 1",
            hint="set the number of simulated chips, for example n_chips=10",
        )
    graph, candidates = prepare_run(task, settings, has_loss=False)
    moments = choose_times(times, ("1d",), [settings.tile], "times", progress)
    batches = take_samples(task.validation, n_samples)
    with naming_data(list_splits(task)):
        reference = score_samples(task.model, batches, task.metric)
    empty = Profile(
        task=task.name,
        metric=task.metric,
        times=tuple(moments),
        n_chips=n_chips,
        n_samples=len(reference),
        confidence=settings.search.interval_coverage,
        seed=settings.seed,
        backend=settings.backend,
        tile=settings.tile,
        channel_rescaling=settings.search.channel_rescaling,
        n_projections=sum(each.is_mappable for each in candidates),
        digital=task.metric.score_set(reference),
    )
    if out is not None and out.exists() and (stored := _read_stored(empty, out)).complete:
        return stored
    journal = Journal(None if out is None else out.with_name(f"{out.name}.journal"))
    _require_same(journal.once("profile", Profile, lambda: empty), empty, journal.path)
    try:
        with naming_data(list_splits(task)):
            rescaled, rescaling = rescale_task(task, settings, journal, progress)
            context = Context(rescaled, settings, graph, candidates, journal, progress, rescaling)
            return _measure(context, batches, empty, out)
    except Exception:
        if not any(journal.has(_key(each.node.fqn)) for each in candidates):
            journal.remove()  # a corrected call can use the same file
        raise


def _measure(context: Context, batches: BatchSource, empty: Profile, out: Path | None) -> Profile:
    """Measure each projection whose row is not in the journal yet, and return the complete profile.

    Args:
        context: Context of the job.
        batches: Validation samples to measure on.
        empty: Profile without rows, which contains the settings of the measurement.
        out: File to which the profile is written after each projection; None = no file.
    """
    task, settings, journal = context.task, context.settings, context.journal
    model = copy_model(task.model)
    by_name = {each.node.fqn: each for each in context.mappable}
    done = {fqn: journal.read(_key(fqn), ProfileRow) for fqn in by_name if journal.has(_key(fqn))}
    missing = [fqn for fqn in by_name if fqn not in done]
    streams, device = context.streams.scope("profile"), device_of(model)
    inputs = move_batch(read_first(task.train_batches, streams.generator("inputs"))[0], device)

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
    least, most = sorted(metric.value_of(score) - metric.value_of(digital) for score in metric.score_limits)
    points = []
    for each in found:
        values = [metric.value_of(score) - metric.value_of(digital) for score in each.scores]
        change = estimate_mean(values, t_inference=each.t_inference, confidence=profile.confidence)
        drop_low, drop_high = metric.drops_between(digital, each.low, each.high)
        points.append(
            ProfilePoint(
                **each.to_json(),
                drop_pp=metric.drop(digital, each.mean),
                drop_low_pp=drop_low,
                drop_high_pp=drop_high,
                change=Change(mean=change.mean, low=max(change.low, least), high=min(change.high, most)),
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
    """Write a profile to the JSON file `out`, and a table to the ``.csv`` file next to `out`.

    The table has one line for each projection at each time.
    """
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
    """Return the profile stored in the file `out`.

    Args:
        empty: Profile without rows, which contains the settings of the measurement.
        out: JSON file of the profile.

    Raises:
        ArtifactError: The file is not a profile, or the settings in the file differ from the settings in `empty`.
    """
    try:
        stored = Profile.from_json(read_json(out), str(out))
    except ArtifactError as error:
        hint = "choose another output file, or delete this file"
        raise ArtifactError(
            f"{out}: the file exists and is not a sensitivity profile: {error.message}", hint=hint
        ) from error
    _require_same(stored.replace(complete=False, projections=()), empty, out)
    return stored


def _require_same(stored: Profile, empty: Profile, path: Path | None) -> None:
    for name in type(empty).model_fields:
        if getattr(stored, name) != getattr(empty, name):
            raise ArtifactError(
                f"{path}: the profile in this file was measured with another value of {name!r} than this call requests",
                hint="use the settings that the file contains, choose another output file, or delete the file",
            )

"""Measures one row of the tables of results: a search, then figures over fresh chips; a stopped row is resumed."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from results_data import (
    FigureKey,
    Figures,
    Mapped,
    RowBaseline,
    RowData,
    RowEnvironment,
    make_figure,
    make_system_figure,
)
from results_plan import Images, Row, slug
from safetensors.torch import load_file

from lionheart.analog import convert_to_digital_
from lionheart.candidates import GraphRecord
from lionheart.data import count_samples, take_samples
from lionheart.errors import ArtifactError, LionHeartError
from lionheart.evaluation import evaluate_accuracy
from lionheart.jobs import MapSettings, describe_run, evaluate_run, load_result, prepare_run, resume_run
from lionheart.progress import Progress
from lionheart.runs import Results, RunDirectory
from lionheart.tasks import Task

#: Settings that the sensitivity of projections depends on, in addition to task and versions; independent of the bound.
_DEPENDS_ON = {"t_inference", "lifetime", "confidence_level", "include", "exclude", "validation_samples"}
_SENSITIVITY = "sensitivity"  # key in the journal


class Bench:
    """Measures rows of one task.

    Args:
        task: Task of the rows.
        runs: Folder of the runs.
        progress: Progress display.
    """

    def __init__(self, task: Task, runs: Path, progress: Progress) -> None:
        self.task, self.runs, self.progress = task, runs, progress
        self._digital: dict[tuple[str, Images], tuple[float, int]] = {}

    def measure(self, row: Row) -> RowData:
        """Search and measure a row, resuming a stopped row, and return its data.

        Raises:
            ArtifactError: The folder of the row contains a run with other settings, or is damaged.
            ConfigError: A setting is impossible.
        """
        run = self._search(row)
        results, graph = run.results(), run.read("graph.json", GraphRecord)
        validation = self._measure(row, run, "validation", [row.at], row.validation_images)
        series = self._measure(row, run, "test", row.times, row.time_images)
        if row.at in row.times and row.test_images == row.time_images:
            test = series
        else:
            test = self._measure(row, run, "test", [row.at], row.test_images)
        environment = run.description().environment
        return RowData(
            schema_version=1,
            name=row.name,
            row=row,
            command=f"make results ROW={row.name}",
            map_command=row.map_command(),
            outcome=str(results.outcome),
            **dict(describe_mapping(results, graph)),
            baseline=RowBaseline(
                validation_accuracy=self._digital_accuracy("validation", "all")[0],
                test_accuracy=self._digital_accuracy("test", "all")[0],
            ),
            retrained_digital_accuracy=self._retrained_accuracy(run) if results.n_steps else None,
            n_steps=results.n_steps,
            validation=validation.over_time[0],
            test=next(each for each in test.over_time if each.t_inference == row.at),
            test_over_time=series.over_time,
            system=tuple(make_system_figure(each) for each in results.system),
            search_s=results.elapsed_s,
            figures_s=validation.elapsed_s + series.elapsed_s + (test is not series) * test.elapsed_s,
            environment=RowEnvironment(**({} if environment is None else dict(environment))),
        )

    # -- the search ----------------------------------------------------------------------------------------------------

    def _search(self, row: Row) -> RunDirectory:
        path, settings = self.runs / f"{slug(row.task)}-{row.stem}", row.settings()
        if not (path / "run.json").exists():
            prepare_run(self.task, settings)  # impossible settings raise before files are created
            run = RunDirectory.create(path, describe_run(self.task, settings, row.map_command()))
            self._take_sensitivity(run)
        run = RunDirectory.open(path)
        if run.description().settings != settings.to_json():
            raise ArtifactError(
                f"{path}: a run with other settings than row {row.name}", hint="remove the run, or give another --runs"
            )
        if not run.has("results.json"):
            resume_run(self.task, path, progress=self.progress)
        return run

    def _take_sensitivity(self, run: RunDirectory) -> None:
        """Copy the sensitivities of another row's run into the journal; they do not depend on the bound."""
        wanted = _sensitivity_key(run)
        for other in self._others(run):
            known = other.journal
            if known.has(_SENSITIVITY) and _sensitivity_key(other) == wanted:
                found, took = known.read(_SENSITIVITY, dict[str, float]), known.elapsed_s(_SENSITIVITY)
                run.journal.note(_SENSITIVITY, value=found, elapsed_s=took, measured_in=other.path.name)
                self.progress.note(f"{run.path.name}: sensitivities are those of {other.path.name}")
                return

    def _others(self, run: RunDirectory) -> list[RunDirectory]:
        found = []
        for path in sorted(self.runs.glob("*/run.json")):
            try:
                found.append(RunDirectory.open(path.parent))
            except LionHeartError:  # a damaged run is reported for its own row
                continue
        return [each for each in found if each.path != run.path and each.description().task == self.task.name]

    # -- the figures ---------------------------------------------------------------------------------------------------

    def _measure(self, row: Row, run: RunDirectory, split: str, times: Sequence[float], n_images: Images) -> Figures:
        """Return accuracies over fresh chips; stored figures of the same model, chips and images are read."""
        n_samples = None if n_images == "all" else n_images
        key = FigureKey(model=model_key(run), split=split, times=tuple(times), n_chips=row.chips, images=n_images)
        name = f"figures-{split}-{len(times)}-{n_images}.json"
        for other in (run, *self._others(run)):
            if other.has(name) and (known := other.read(name, Figures)).key == key:
                if other is not run:
                    run.write(name, known)
                return known
        self.progress.note(f"{row.name}: {split}, images {n_images}, {len(times)} times, {row.chips} chips")
        digital, n_found = self._digital_accuracy(split, n_images)
        begin = time.perf_counter()
        found = evaluate_run(
            self.task,
            run.path,
            times=times,
            n_chips=row.chips,
            split=split,
            n_samples=n_samples,
            progress=self.progress,
        )
        elapsed_s = time.perf_counter() - begin
        over_time = tuple(make_figure(each, n_found, digital) for each in found.accuracy_over_time)
        run.write(name, Figures(key=key, over_time=over_time, elapsed_s=elapsed_s))
        return run.read(name, Figures)

    def _digital_accuracy(self, split: str, n_images: Images) -> tuple[float, int]:
        """Return the digital accuracy on the first images of a split, and the number of images."""
        if (split, n_images) not in self._digital:
            batches = take_samples(getattr(self.task, split), None if n_images == "all" else n_images)
            with self.progress.bar(f"digital, {split}", len(batches)) as bar:
                accuracy = evaluate_accuracy(self.task.model, batches, self.task.metric, on_batch=bar.advance)
            self._digital[split, n_images] = (accuracy, count_samples(batches))
        return self._digital[split, n_images]

    def _retrained_accuracy(self, run: RunDirectory) -> float:
        """Return the test accuracy of a run's retrained network without tiles."""
        model = convert_to_digital_(load_result(self.task, run).model)
        with self.progress.bar("retrained network, digital, test", len(self.task.test)) as bar:
            return evaluate_accuracy(model, self.task.test, self.task.metric, on_batch=bar.advance)


def describe_mapping(results: Results, graph: GraphRecord) -> Mapped:
    """Return the analog shares, the tiles and the digital projections of a mapping."""
    mapping = results.mapping
    refused = {each.fqn for each in graph.candidates if not each.mappable}
    macs = {node.fqn: node.macs for node in graph.nodes}
    analog = sum(macs[fqn] for fqn in mapping.analog)
    return Mapped(
        analog_mac_share=results.analog_mac_share,
        analog_mac_share_of_candidates=analog / max(1, sum(macs[fqn] for fqn in macs if fqn not in refused)),
        analog_weight_share=results.analog_weight_share,
        macs=graph.macs,
        n_projections=len(mapping.placements),
        n_candidates=len(macs) - len(refused),
        n_tiles=results.n_tiles,
        digital=tuple(fqn for fqn in mapping.placements if not mapping.is_analog(fqn) and fqn not in refused),
        excluded=tuple(fqn for fqn in mapping.placements if fqn in refused),
    )


def model_key(run: RunDirectory) -> str:
    """Return a hash that is equal for finished runs with bit-identical mapped networks and the same chips."""
    results = run.results()
    parts = {**_conditions(run), "tiles": results.tiles, "placements": results.mapping.placements}
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode())
    for name, tensor in sorted(load_file(run.file("weights.safetensors")).items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _sensitivity_key(run: RunDirectory) -> dict[str, Any]:
    search = MapSettings.from_json(run.description().settings).search
    return {**_conditions(run), "search": search.model_dump(mode="json", include=_DEPENDS_ON)}


def _conditions(run: RunDirectory) -> dict[str, Any]:
    """Return the settings that two runs must share to compute the same numbers, such as tile and seed."""
    description = run.description()
    settings, environment = MapSettings.from_json(description.settings), description.environment
    versions = None if environment is None else {"lionheart": environment.lionheart, "torch": environment.torch}
    return {**settings.model_dump(mode="json", include={"tile", "seed", "backend"}), "versions": versions}

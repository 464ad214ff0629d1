"""Measures one row of the tables of results: searches the mapping, then measures it over fresh chips; a stopped row goes on."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from results_plan import Images, Row, slug
from safetensors.torch import load_file

from lionheart.analog import convert_to_digital_
from lionheart.data import count_samples, take_samples
from lionheart.errors import ArtifactError, LionHeartError
from lionheart.evaluation import evaluate_accuracy
from lionheart.jobs import evaluate_run, resume_run
from lionheart.jobs.map import describe_run, load_result, prepare_run
from lionheart.progress import Progress
from lionheart.runs import RunDirectory
from lionheart.tasks import Task

SCHEMA_VERSION = 1
#: What the measured sensitivity of projections depends on, beside the task and the versions. The bound is not among it.
_SENSITIVITY = ("t_inference", "lifetime", "promise", "include", "exclude", "validation_samples")
_VERSIONS = ("lionheart", "torch")
_ESTIMATE = ("t_inference", "mean", "low", "high", "std", "n_chips")
_COST = ("platform", "speedup", "energy_gain", "n_tiles")


class Bench:
    """Measures rows of one task.

    Args:
        task: Of the rows.
        runs: Folder of their runs.
        progress: Where work shows itself.
    """

    def __init__(self, task: Task, runs: Path, progress: Progress) -> None:
        self.task, self.runs, self.progress = task, runs, progress
        self._digital: dict[tuple[str, Images], tuple[float, int]] = {}

    def measure(self, row: Row) -> dict[str, Any]:
        """Search and measure a row, going on where it was stopped; return all of it as plain data.

        Raises:
            ArtifactError: The row's folder holds a run with other settings, or is damaged.
            ConfigError: A setting is impossible.
        """
        run = self._search(row)
        results, graph = run.read("results.json"), run.read("graph.json")
        validation = self._measure(row, run, "validation", [row.at], row.validation_images)
        series = self._measure(row, run, "test", row.times, row.time_images)
        if row.at in row.times and row.test_images == row.time_images:
            test = series
        else:
            test = self._measure(row, run, "test", [row.at], row.test_images)
        system = [
            {**{key: each[key] for key in _COST}, **{part: _cost(each[part]) for part in ("all_digital", "mapped")}}
            for each in results["system"]
        ]
        return {
            "schema_version": SCHEMA_VERSION,
            "name": row.name,
            "row": row.to_json(),
            "command": f"make results ROW={row.name}",
            "map_command": row.map_command(),
            "outcome": results["outcome"],
            **describe_mapping(results, graph),
            "baseline": {
                f"{split}_accuracy": self._digital_accuracy(split, "all")[0] for split in ("validation", "test")
            },
            "retrained_digital_accuracy": self._retrained_accuracy(run) if results["n_steps"] else None,
            "n_steps": results["n_steps"],
            "validation": validation["over_time"][0],
            "test": next(each for each in test["over_time"] if each["t_inference"] == row.at),
            "test_over_time": series["over_time"],
            "system": system,
            "search_s": results["elapsed_s"],
            "figures_s": validation["elapsed_s"] + series["elapsed_s"] + (test is not series) * test["elapsed_s"],
            "environment": run.description()["environment"],
        }

    # -- the search ----------------------------------------------------------------------------------------------------

    def _search(self, row: Row) -> RunDirectory:
        path, settings = self.runs / f"{slug(row.task)}-{row.stem}", row.settings()
        if not (path / "run.json").exists():
            prepare_run(self.task, settings)  # what is impossible leaves nothing behind
            run = RunDirectory.create(path, describe_run(self.task, settings, row.map_command()))
            self._take_sensitivity(run)
        run = RunDirectory.open(path)
        if run.description()["settings"] != settings.to_json():
            raise ArtifactError(
                f"{path}: a run with other settings than row {row.name}", hint="remove it, or give another --runs"
            )
        if not run.has("results.json"):
            resume_run(self.task, path, progress=self.progress)
        return run

    def _take_sensitivity(self, run: RunDirectory) -> None:
        """Write the sensitivities that another row's run measured into the journal; they do not depend on the bound."""
        wanted = _sensitivity_key(run)
        for other in self._others(run):
            events = other.events("loss_increase")
            if events and _sensitivity_key(other) == wanted:
                kept = {key: events[0][key] for key in ("loss_increase", "elapsed_s")}
                run.record("loss_increase", **kept, measured_in=other.path.name)
                self.progress.note(f"{run.path.name}: sensitivities are those of {other.path.name}")
                return

    def _others(self, run: RunDirectory) -> list[RunDirectory]:
        found = []
        for path in sorted(self.runs.glob("*/run.json")):
            try:
                found.append(RunDirectory.open(path.parent))
            except LionHeartError:  # a damaged run is its own row's trouble
                continue
        return [each for each in found if each.path != run.path and each.description()["task"] == self.task.name]

    # -- the figures ---------------------------------------------------------------------------------------------------

    def _measure(
        self, row: Row, run: RunDirectory, split: str, times: Sequence[float], n_images: Images
    ) -> dict[str, Any]:
        """Return accuracies over fresh chips; of a model, its chips and images that were measured before they are read."""
        n_samples = None if n_images == "all" else n_images
        key = {"model": model_key(run), "split": split, "times": list(times), "n_chips": row.chips, "images": n_images}
        name = f"figures-{split}-{len(times)}-{n_images}.json"
        for other in (run, *self._others(run)):
            if other.has(name) and (known := other.read(name))["key"] == key:
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
        over_time = [
            {
                **{part: each[part] for part in _ESTIMATE},
                "n_samples": n_found,
                "digital_accuracy": digital,
                "drop_pp": 100 * (digital - each["mean"]),
            }
            for each in found["accuracy_over_time"]
        ]
        run.write(name, {"key": key, "over_time": over_time, "elapsed_s": elapsed_s})
        return run.read(name)

    def _digital_accuracy(self, split: str, n_images: Images) -> tuple[float, int]:
        """Return the digital accuracy on the first images of a split, and how many they are."""
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


def describe_mapping(results: Mapping[str, Any], graph: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a network is analog, as plain data: shares, tiles, and the projections that stay digital."""
    placements = results["mapping"]["placements"]
    refused = {each["fqn"] for each in graph["candidates"] if not each["mappable"]}
    macs = {each["fqn"]: each["macs"] for each in graph["projections"]}
    analog = sum(macs[fqn] for fqn, place in placements.items() if place == "analog")
    return {
        "analog_mac_share": results["analog_mac_share"],
        "analog_mac_share_of_candidates": analog / max(1, sum(macs[fqn] for fqn in macs if fqn not in refused)),
        "analog_weight_share": results["analog_weight_share"],
        "macs": graph["totals"]["macs"],
        "n_projections": len(placements),
        "n_candidates": len(macs) - len(refused),
        "n_tiles": results["n_tiles"],
        "digital": [fqn for fqn, place in placements.items() if place != "analog" and fqn not in refused],
        "excluded": [fqn for fqn in placements if fqn in refused],
    }


def model_key(run: RunDirectory) -> str:
    """Return what two finished runs have in common if their mapped networks are the same to the bit and get the same chips."""
    settings, results = run.description()["settings"], run.read("results.json")
    parts = {key: settings[key] for key in ("tile", "seed", "backend")} | {"tiles": results["tiles"]}
    parts |= {"placements": results["mapping"]["placements"], "versions": _versions(run)}
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode())
    for name, tensor in sorted(load_file(run.file("weights.safetensors")).items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _sensitivity_key(run: RunDirectory) -> dict[str, Any]:
    settings = run.description()["settings"]
    search = {key: settings["search"][key] for key in _SENSITIVITY}
    return {**{key: settings[key] for key in ("tile", "seed", "backend")}, "search": search, "versions": _versions(run)}


def _versions(run: RunDirectory) -> dict[str, Any]:
    environment = run.description()["environment"]
    return {key: environment.get(key) for key in _VERSIONS}


def _cost(estimate: Mapping[str, Any]) -> dict[str, float]:
    return {key: estimate[key] for key in ("latency_s", "energy_j")}

"""Golden runs: every job of the library once, small and exact, so that a change of the code can be held against them.

    python tests/golden/jobs.py OUT_DIR [PATTERN]   # writes OUT_DIR/observed.json; PATTERN: only jobs whose name has it
    python tests/golden/jobs.py --write [OUT_DIR]   # writes tests/golden/hashes.json anew

A job is a function from a new folder to its parts, name -> plain data; see `observe.py` for what is kept.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))  # this clone's, whatever is installed

from observe import (
    digest,
    exact,
    hash_jobs,
    observe_evaluation,
    observe_folder,
    observe_journal,
    observe_map,
    observe_pareto,
    observe_profile,
    observe_systems,
    observe_training,
    observe_weights,
    read,
    read_events,
    read_systems,
    tensor_digest,
)
from pinned import HASHES, OBSERVED, is_pinned, run_pinned

# All that the jobs know of the library. Where something moves or is renamed, this block and the adaptors below follow.
import lionheart.analog.convert as noise_pool
from lionheart.data import TensorBatches
from lionheart.experimental.pareto.job import find_pareto_front, resume_pareto_front
from lionheart.interop.alpine.export import export_run
from lionheart.jobs import (
    CoresRequest,
    MapSettings,
    estimate_run,
    evaluate_run,
    map_layers,
    profile_layers,
    resume_run,
    train_task,
)
from lionheart.tasks import Task
from lionheart.tasks.recipe import TASKS, Recipe
from lionheart.training import TrainSpec

Parts = dict[str, Any]
JOBS: dict[str, Callable[[Path], Parts]] = {}
RUNS = Path()  # where the runs go that several jobs share; `run_jobs` sets it

# -------------------------------------------------------------------------------------------------------------- adaptors


def make_settings(**changes: Any) -> MapSettings:
    """Return small settings; a group of `changes` is merged into its group."""
    base: dict[str, dict[str, Any]] = {
        "search": {"max_drop_pp": 20.0, "n_chips": 2, "n_chips_final": 2, "report_times": [1.0, 3600.0]},
        # "auto" would read layer 7 of `trained_net` with sign vectors, because of its outliers; these figures are those of rows
        "tile": {"rows": 32, "cols": 32, "output_noise": 0.6, "reference_inputs": "rows"},
        "train": {"max_epochs": 2, "steps_per_epoch": 3, "learning_rate": 0.01},
    }
    merged = {group: {**values, **changes.pop(group, {})} for group, values in base.items()}
    return MapSettings.from_json({**merged, **changes})


def make_batches(split: str) -> TensorBatches:
    return TensorBatches(
        *draw_pictures(split), batch_size=BATCH, mean=(0.5,) * 3, std=(0.25,) * 3, shuffle=split == "train"
    )


def make_task() -> Task:
    return Task(
        trained_net(), make_batches("train"), make_batches("validation"), make_batches("test"), name="quadrants"
    )


def make_wide_task() -> Task:
    """A network large enough to be faster on tiles."""
    return Task(trained_wide_net(), *(make_batches(split) for split in SAMPLES), name="wide")


def make_loader_task() -> Task:
    """The same data through PyTorch's own loaders."""
    loaders = {}
    for split in SAMPLES:
        pictures, labels = draw_pictures(split)
        data = TensorDataset((pictures.float() / 255 - 0.5) / 0.25, labels)
        loaders[split] = DataLoader(data, batch_size=BATCH, shuffle=split == "train", drop_last=split == "train")
    return Task(trained_net(), **loaders, name="loaders")


def make_recipe() -> Recipe:
    """A task that `train_task` trains: its training pictures are changed at random."""

    def brighten(images: Tensor, generator: torch.Generator) -> Tensor:
        return images + torch.randint(0, 20, (len(images), 1, 1, 1), generator=generator, dtype=torch.uint8)

    def build_data(**kwargs: Any) -> tuple[TensorBatches, TensorBatches, TensorBatches]:
        shared: dict[str, Any] = {"mean": (0.5,) * 3, "std": (0.25,) * 3}
        train = TensorBatches(
            *draw_pictures("train"), batch_size=kwargs["batch_size"], shuffle=True, augment=brighten, **shared
        )
        return train, *(TensorBatches(*draw_pictures(s), batch_size=BATCH, **shared) for s in ("validation", "test"))

    return Recipe(
        build_model=lambda: nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(36, 4)),
        build_data=build_data,
        train_spec=TrainSpec(learning_rate=0.05, weight_decay=1e-4, schedule="one_cycle", max_epochs=3, patience=None),
        batch_size=16,
        input_shape=(3, 8, 8),
    )


def put_task(recipe: Recipe) -> None:
    TASKS.remove(TINY)
    TASKS.add(TINY, recipe)


class KilledError(BaseException):
    """Stands for a kill: nothing in the library may catch it."""


def _raise(error: type[BaseException]) -> Callable[[], NoReturn]:
    def act() -> NoReturn:
        raise error

    return act


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Stopper:
    """A `Progress` that acts at the `n`-th sign of life after the journal in `folder` has so many events of a kind.

    It reads the journal and not the texts, so it stops at the same place whatever a bar is called.
    """

    def __init__(self, act: Callable[[], None], n: int, folder: Path | None = None, event: str = "", n_events: int = 0):
        self.act, self.n, self.folder, self.event, self.n_events = act, n, folder, event, n_events

    def _pass(self) -> None:
        if self.folder is None or len(read_events(self.folder, self.event)) >= self.n_events:
            self.n -= 1
            if self.n == 0:
                self.act()

    def note(self, text: str) -> None:
        self._pass()

    @contextmanager
    def bar(self, text: str, total: float | None) -> Iterator[Stopper]:
        self._pass()
        yield self

    def advance(self, steps: float = 1) -> None:
        self._pass()

    def describe(self, text: str) -> None:
        self._pass()


# -------------------------------------------------------------------------------------------------------------- the task

BATCH = 16
SAMPLES = {"train": 96, "validation": 96, "test": 64}


def draw_pictures(split: str) -> tuple[Tensor, Tensor]:
    """Return uint8 pictures ``(n, 3, 8, 8)`` of noise with one brighter quadrant, and its number."""
    generator = torch.Generator().manual_seed(len(split))
    labels = torch.arange(SAMPLES[split]) % 4
    pictures = torch.randint(0, 150, (SAMPLES[split], 3, 8, 8), generator=generator, dtype=torch.uint8)
    for label in range(4):
        top, left = 4 * (label // 2), 4 * (label % 2)
        pictures[labels == label, :, top : top + 4, left : left + 4] += 28
    return pictures, labels


def build_net() -> nn.Sequential:
    """Projections 0, 3, 7 and 9 of 27x8, 72x8, 128x12 and 12x4."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        net = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Flatten(), nn.Linear(128, 12), nn.ReLU(), nn.Linear(12, 4),
        )  # fmt: skip
    return net.to(memory_format=torch.channels_last)


def build_wide_net() -> nn.Sequential:
    """Projections 1, 3 and 5 of 192x256, 256x192 and 192x4."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        return nn.Sequential(
            nn.Flatten(), nn.Linear(192, 256), nn.ReLU(), nn.Linear(256, 192), nn.ReLU(), nn.Linear(192, 4)
        )


def train_plainly(net: nn.Module) -> None:
    """Train with PyTorch alone."""
    net.train()
    pictures, labels = draw_pictures("train")
    inputs = ((pictures.float() / 255 - 0.5) / 0.25).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    for epoch in range(8):
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(epoch))
        for chosen in order.split(BATCH):
            loss = F.cross_entropy(net(inputs[chosen]), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    net.eval()


@functools.cache
def trained_weights() -> dict[str, Tensor]:
    """Make layer 7 unfit for tiles: a weight that never sees an input sets the scale of its columns."""
    net = build_net()
    with torch.no_grad():
        net[4].bias[0] = -100.0
    train_plainly(net)
    with torch.no_grad():
        net[7].weight[:, 0] = 30 * net[7].weight.abs().max()
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def trained_net() -> nn.Sequential:
    net = build_net().eval()
    net.load_state_dict(trained_weights())
    return net


@functools.cache
def trained_wide_weights() -> dict[str, Tensor]:
    net = build_wide_net()
    train_plainly(net)
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def trained_wide_net() -> nn.Sequential:
    net = build_wide_net().eval()
    net.load_state_dict(trained_wide_weights())
    return net


def job(name: str) -> Callable[[Callable[[Path], Parts]], Callable[[Path], Parts]]:
    def add(function: Callable[[Path], Parts]) -> Callable[[Path], Parts]:
        assert name not in JOBS
        JOBS[name] = function
        return function

    return add


def assert_same(found: Parts, expected: Parts) -> None:
    different = [part for part in {**found, **expected} if found.get(part) != expected.get(part)]
    assert not different, f"differs from the unbroken one: {', '.join(different)}"


# ----------------------------------------------------------------------------------------------------------- map, simply


def run_map(folder: Path, task: Task | None = None, **changes: Any) -> Parts:
    map_layers(task or make_task(), make_settings(**changes), run_dir=folder)
    return observe_map(folder)


def add_map(
    name: str,
    check: Callable[[Parts], bool] = lambda parts: True,
    build: Callable[[], Task] = make_task,
    **changes: Any,
) -> None:
    """Add a mapping that needs nothing but settings; `check` says whether it shows what it is for."""

    def run(folder: Path) -> Parts:
        parts = run_map(folder, build(), **{key: dict(v) if isinstance(v, dict) else v for key, v in changes.items()})
        assert check(parts), f"{name}: the run does not show what it is for"
        return parts

    job(name)(run)


def has_both(parts: Parts) -> bool:
    return {row["kept"] for row in parts["decisions"]} == {True, False}


def has_trained(parts: Parts) -> bool:
    return parts["steps"] > 0


def has(part: str) -> Callable[[Parts], bool]:
    return lambda parts: bool(parts[part])


FEW: dict[str, Any] = {"max_epochs": 1, "steps_per_epoch": 1}
ONE_PLATFORM = ("alpine-low-power",)
RICH = {"column_calibration": "affine", "drift_compensation": "per_column", "input_range": "dynamic"}

for strategy in ("shared", "hessian"):
    add_map(f"map strategy {strategy}", has_trained, search={"strategy": strategy})
for strategy in ("training-free", "exhaustive", "all-digital", "all-analog", "first-last-digital"):
    add_map(f"map strategy {strategy}", search={"strategy": strategy})
for ranking in ("sensitivity", "hessian", "random", "energy", "time", "weights"):
    add_map(f"map ranking {ranking}", search={"ranking": ranking}, train=FEW, platforms=ONE_PLATFORM)
add_map(
    "map promise kept",
    has("certificate"),
    search={"confidence_level": 0.9, "max_drop_pp": 70.0, "n_chips": 3},
    train=FEW,
)
add_map(
    "map promise kept by fewer",
    lambda parts: {test["kept"] for test in parts["certificate"]} == {True, False},
    search={"confidence_level": 0.9, "max_drop_pp": 25.0, "strategy": "all-analog", "n_chips": 3, "n_chips_final": 3},
    train=FEW,
)
add_map(
    "map promise broken",
    lambda parts: bool(parts["certificate"]) and not any(test["kept"] for test in parts["certificate"]),
    search={"confidence_level": 0.9, "max_drop_pp": 6.0, "strategy": "all-analog", "n_chips": 3},
    train=FEW,
)
add_map("map yield", search={"chip_yield": 0.9, "n_chips": 4, "max_drop_pp": 30.0}, train=FEW)
add_map(
    "map promise and yield",
    search={"confidence_level": 0.8, "chip_yield": 0.8, "n_chips": 4, "max_drop_pp": 90.0},
    train=FEW,
)
add_map("map lifetime", search={"lifetime": "1h"}, train=FEW)
add_map(
    "map corrections and reprogramming",
    lambda parts: parts["reprogramming"] is not None and "journal correction" in parts,
    search={"tune_compensation": True, "refresh_interval": True, "max_drop_pp": 40.0},
    tile=RICH,
    train=FEW,
)
add_map(
    "map corrections all cheaper",
    has("tiles"),
    search={"tune_compensation": True, "max_drop_pp": 90.0, "strategy": "all-analog"},
    tile=RICH,
    train=FEW,
)
WIDE: dict[str, Any] = {"rows": 128, "cols": 128, "output_noise": 6.0}
for strategy in ("lionheart", "shared", "exhaustive"):
    add_map(
        f"map objective time, few tiles, {strategy}",
        has("decisions"),
        make_wide_task,
        search={"objective": "time", "max_tiles": 7, "strategy": strategy, "max_drop_pp": 60.0},
        tile=WIDE,
        train=FEW,
    )
add_map(
    "map objective energy",
    has("decisions"),
    make_wide_task,
    search={"objective": "energy", "ranking": "sensitivity", "max_drop_pp": 60.0},
    tile=WIDE,
    train=FEW,
    platforms=ONE_PLATFORM,
)
add_map("map objective that tiles do not serve", search={"objective": "energy", "strategy": "training-free"}, train=FEW)
add_map("map few tiles", search={"max_tiles": 4, "max_drop_pp": 60.0}, train=FEW)
add_map("map distillation", has_trained, train={"distillation": 0.5, "temperature": 3.0})
add_map(
    "map adamw, device noise",
    has_trained,
    tile={"hwa": {"weight_noise_kind": "device", "weight_clip_sigma": 2.0}},
    train={"optimizer": "adamw", "schedule": "cosine", "weight_decay": 0.01, "gradient_clip": 1.0, "patience": 1},
)
add_map("map first samples", search={"validation_samples": 40, "final_samples": 25}, train=FEW)
add_map("map budget of epochs", lambda parts: parts["outcome"] == "budget", search={"max_epochs": 3})
add_map("map another seed", seed=5, train=FEW, platforms=())
add_map("map include and exclude", search={"include": ["type:conv2d", "9"], "exclude": ["3"]}, train=FEW)
add_map("map programmed anew", tile={"reprogram_after": 1e6}, train=FEW)


@job("map data loaders")
def _(folder: Path) -> Parts:
    return run_map(folder, make_loader_task(), train=FEW)


# ------------------------------------------------------------------------------------------------- map, killed and resumed


@functools.cache
def unbroken_map() -> tuple[Path, Parts]:
    """The run that nobody stops; the jobs after it copy its folder or are compared with it."""
    folder = RUNS / "unbroken-map"
    return folder, run_map(folder)


def start_map(folder: Path, progress: Stopper) -> None:
    map_layers(make_task(), make_settings(), run_dir=folder, progress=progress)


@job("map strategy lionheart")
def _(folder: Path) -> Parts:
    parts = unbroken_map()[1]
    assert has_both(parts), "the run should keep some and undo some"
    assert has_trained(parts)
    return parts


N_DECISIONS = 4
KILLS = {  # name -> after so many decisions, so many signs of life later
    "in a retraining": (1, 9),
    "between decisions": (2, 1),
    "in the final figures": (N_DECISIONS, 5),
}


def resume_and_compare(folder: Path) -> Parts:
    whole = unbroken_map()[1]
    assert not (folder / "results.json").exists()
    n_decisions, checkpoints = (
        len(read_events(folder, "decision")),
        sorted(p.name for p in (folder / "checkpoints").iterdir()),
    )
    resume_run(make_task(), folder)
    parts = observe_map(folder)
    assert_same(parts, whole)
    return {"decisions at the stop": n_decisions, "checkpoints at the stop": checkpoints, "run": digest(parts)}


def add_kill(place: str, n_decisions: int, n_after: int) -> None:
    @job(f"map killed {place}")
    def run_killed(folder: Path) -> Parts:
        child = os.fork()
        if child == 0:
            try:
                start_map(folder, Stopper(_die, n_after, folder, "decision", n_decisions))
            except BaseException:
                traceback.print_exc()
            os._exit(3)
        status = os.waitpid(child, 0)[1]
        assert os.WIFSIGNALED(status), f"the child ended with {status}, not by a signal"
        assert os.WTERMSIG(status) == signal.SIGKILL
        return resume_and_compare(folder)

    @job(f"map broken {place}")
    def run_broken(folder: Path) -> Parts:
        try:
            start_map(folder, Stopper(_raise(KilledError), n_after, folder, "decision", n_decisions))
        except KilledError:
            return resume_and_compare(folder)
        raise AssertionError("nothing stopped the run")


for place, (n_decisions, n_after) in KILLS.items():
    add_kill(place, n_decisions, n_after)


@job("map interrupted")
def _(folder: Path) -> Parts:
    """Ctrl-C writes the best mapping so far."""
    try:
        start_map(folder, Stopper(_raise(KeyboardInterrupt), 6, folder, "decision", 2))
    except KeyboardInterrupt:
        so_far = {
            "mapping so far": list(read(folder / "mapping.json")["placements"].items()),
            "weights so far": observe_weights(folder / "weights.safetensors"),
        }
        return {**so_far, **resume_and_compare(folder)}
    raise AssertionError("nothing stopped the run")


@job("map killed after a loss measurement")
def _(folder: Path) -> Parts:
    """What is measured before and after the decisions is not measured again."""
    changes: dict[str, Any] = {
        "search": {
            "ranking": "hessian",
            "tune_compensation": True,
            "refresh_interval": True,
            "confidence_level": 0.8,
            "max_drop_pp": 90.0,
        },
        "tile": RICH,
        "train": FEW,
    }
    whole = run_map(folder / "whole", **changes)
    for name, event, n_events in (("curvatures", "curvatures", 1), ("correction", "correction", 1), ("age", "age", 1)):
        run = folder / name
        try:
            map_layers(
                make_task(),
                make_settings(**changes),
                run_dir=run,
                progress=Stopper(_raise(KilledError), 2, run, event, n_events),
            )
        except KilledError:
            resume_run(make_task(), run)
            assert_same(observe_map(run), whole)
        else:
            raise AssertionError(f"nothing stopped the run at {name}")
    return whole


@job("map finished early")
def _(folder: Path) -> Parts:
    try:
        start_map(folder, Stopper(_raise(KilledError), 7, folder, "decision", 1))
    except KilledError:
        resume_run(make_task(), folder, finish=True)
    parts = observe_map(folder)
    assert parts["outcome"] == "budget"
    return parts | {"journal with resumes": observe_journal(folder, resumes=True)["journal"]}


@job("map loaded")
def _(folder: Path) -> Parts:
    """A finished run is loaded as it is, ready to be programmed."""
    shutil.copytree(unbroken_map()[0], folder)
    result = resume_run(make_task(), folder)
    state = {name: tensor_digest(tensor) for name, tensor in sorted(result.model.state_dict().items())}
    return {"outcome": str(result.outcome), "mapping": list(result.mapping.placements.items()), "weights": state}


# ----------------------------------------------------------------------------------------------- evaluate, simulate, export


def add_evaluation(name: str, **arguments: Any) -> None:
    @job(name)
    def run(folder: Path) -> Parts:
        shutil.copytree(unbroken_map()[0], folder)
        evaluate_run(make_task(), folder, **arguments)
        return observe_evaluation(folder) | observe_journal(folder)


add_evaluation("evaluate test", times=[1.0, 3600.0, 86_400.0], n_chips=2)
add_evaluation("evaluate validation, another seed", times=[60.0], n_chips=3, split="validation", seed=9)
add_evaluation("evaluate first samples", times=[0.0, 1e7], n_chips=2, n_samples=33)


@job("evaluate column calibration")
def _(folder: Path) -> Parts:
    search = {"strategy": "all-analog", "max_drop_pp": 90.0, "tune_compensation": True}
    run_map(folder, search=search, tile=RICH, train=FEW)
    evaluate_run(make_task(), folder, times=[10.0, 1e6], n_chips=2)
    return observe_evaluation(folder)


def add_estimate(name: str, platforms: tuple[str, ...], cores: CoresRequest | None = None) -> None:
    @job(name)
    def run(folder: Path) -> Parts:
        shutil.copytree(unbroken_map()[0], folder)
        returned = observe_systems(each.to_json() for each in estimate_run(folder, platforms, cores))
        assert_same(observe_systems(read_systems(folder)), returned)
        return returned


BOTH = ("alpine-high-power", "alpine-low-power")
add_estimate("estimate two platforms", BOTH)
add_estimate("estimate two cores", BOTH, CoresRequest(n_cores=2, n_inferences=3, max_tiles=3))
add_estimate("estimate few tiles", ONE_PLATFORM, CoresRequest(n_cores=1, n_inferences=2, max_tiles=1))
add_estimate(
    "estimate reprogrammed tiles", ONE_PLATFORM, CoresRequest(n_cores=2, n_inferences=2, max_tiles=1, reprogram=True)
)


@job("export alpine")
def _(folder: Path) -> Parts:
    shutil.copytree(unbroken_map()[0], folder / "run")
    export_run(make_task(), folder / "run", folder / "program", n_calibration=32, n_stored=4)
    return observe_folder(folder / "program")


# ---------------------------------------------------------------------------------------------------------------- pareto

FRONT: dict[str, Any] = {"pareto": {"n_trials": 8, "bounds_pp": [0.5, 5.0, 90.0]}, "search": {"validation_samples": 64}}


@functools.cache
def unbroken_front() -> Parts:
    folder = RUNS / "unbroken-pareto"
    find_pareto_front(make_task(), make_settings(**FRONT), run_dir=folder)
    return observe_pareto(folder)


@job("pareto")
def _(folder: Path) -> Parts:
    return unbroken_front()


@job("pareto time, few tiles")
def _(folder: Path) -> Parts:
    changes = {
        "pareto": {"n_trials": 6, "objective": "time"},
        "search": {"max_tiles": 7},
        "tile": WIDE,
        "platforms": ONE_PLATFORM,
    }
    find_pareto_front(make_wide_task(), make_settings(**changes), run_dir=folder)
    return observe_pareto(folder)


def add_stopped_front(name: str, error: type[BaseException], n_after: int, event: str, n_events: int) -> None:
    @job(name)
    def run(folder: Path) -> Parts:
        stopper = Stopper(_raise(error), n_after, folder, event, n_events)
        try:
            find_pareto_front(make_task(), make_settings(**FRONT), run_dir=folder, progress=stopper)
        except error:
            so_far = observe_pareto(folder)
            resume_pareto_front(make_task(), folder)
            parts = observe_pareto(folder)
            assert_same(parts, unbroken_front())
            return {**so_far, "resumed": digest(parts)}
        raise AssertionError("nothing stopped the run")


add_stopped_front("pareto interrupted", KeyboardInterrupt, 3, "mapping measured", 4)
add_stopped_front("pareto broken in the second measurements", KilledError, 2, "mapping measured again", 1)

# --------------------------------------------------------------------------------------------------------------- profile

AGES: dict[str, Any] = {"times": [1.0, 86_400.0], "n_chips": 2}


@functools.cache
def unbroken_profile() -> Parts:
    out = RUNS / "unbroken-profile.json"
    profile_layers(make_task(), make_settings(), out=out, **AGES)
    return observe_profile(out)


@job("profile")
def _(folder: Path) -> Parts:
    return unbroken_profile()


@job("profile column calibration, first samples")
def _(folder: Path) -> Parts:
    out = folder / "profile.json"
    folder.mkdir()
    profile_layers(make_task(), make_settings(tile=RICH), out=out, n_samples=40, times=[3600.0], n_chips=2)
    return observe_profile(out)


@job("profile stopped")
def _(folder: Path) -> Parts:
    out = folder / "profile.json"
    folder.mkdir()
    try:
        profile_layers(make_task(), make_settings(), out=out, progress=Stopper(_raise(KeyboardInterrupt), 6), **AGES)
    except KeyboardInterrupt:
        so_far = observe_profile(out)
        assert not so_far["complete"]
        profile_layers(make_task(), make_settings(), out=out, **AGES)
        parts = observe_profile(out)
        assert_same(parts, unbroken_profile())
        return {**so_far, "continued": digest(parts)}
    raise AssertionError("nothing stopped the profile")


# -------------------------------------------------------------------------------------------------------------- training

TINY = "golden/tiny"


@functools.cache
def unbroken_training() -> Path:
    out = RUNS / "unbroken-weights.safetensors"
    train_task(TINY, out, device="cpu")
    return out


@job("train")
def _(folder: Path) -> Parts:
    return observe_training(unbroken_training())


@job("train stopped in an epoch")
def _(folder: Path) -> Parts:
    out = folder / "weights.safetensors"
    folder.mkdir()
    try:
        train_task(TINY, out, device="cpu", progress=Stopper(_raise(KilledError), 12))
    except KilledError:
        assert not out.exists()
        partial = observe_weights(out.with_name(f"{out.name}.partial"))
        train_task(TINY, out, device="cpu")
        parts = observe_training(out)
        assert_same(parts, observe_training(unbroken_training()))
        return {"state at the stop": partial, **parts}
    raise AssertionError("nothing stopped the training")


@job("train from weights, half precision")
def _(folder: Path) -> Parts:
    folder.mkdir()
    recipe = TASKS.find(TINY)
    put_task(replace(recipe, half_weights=True))
    try:
        spec = recipe.train_spec.replace(max_epochs=1, learning_rate=0.01)
        train_task(TINY, folder / "more.safetensors", seed=3, spec=spec, device="cpu", start=unbroken_training())
    finally:
        put_task(recipe)
    return observe_training(folder / "more.safetensors")


# ----------------------------------------------------------------------------------------------------------------- probe


def probe() -> Parts:
    """Return what raw operations give on this processor; nothing of it goes through the library."""
    generator = torch.Generator().manual_seed(11)
    found: Parts = {}

    def keep(name: str, *tensors: Tensor) -> None:
        found[name] = [tensor_digest(tensor) for tensor in tensors]

    draw = torch.empty(6, 5, 9, 9).normal_(generator=generator)
    keep("normal", draw, torch.rand(33, generator=generator), torch.randperm(50, generator=generator))
    inputs = draw.to(memory_format=torch.channels_last).requires_grad_()
    kernels = torch.randn(8, 5, 3, 3, generator=generator).requires_grad_()
    for stride in (1, 2):
        outputs = F.conv2d(inputs, kernels, stride=stride, padding=1)
        keep(f"conv {stride}", outputs, *torch.autograd.grad(outputs.sin().sum(), [inputs, kernels]))
    weights = torch.randn(13, 81, generator=generator).requires_grad_()
    rows = draw.reshape(30, 81).clone().requires_grad_()
    linear = F.linear(rows, weights, torch.ones(13))
    keep("linear", linear, *torch.autograd.grad(linear.square().sum(), [rows, weights]))
    keep(
        "matmul", rows @ weights.T, torch.bmm(draw[0], draw[1]), torch.einsum("nci,mi->nmc", draw[:, :, 0], draw[0, 0])
    )
    norm = nn.BatchNorm2d(5)
    normed = norm(inputs)
    keep("batch norm", normed, norm.running_var, *torch.autograd.grad(normed.pow(3).sum(), [inputs, norm.weight]))
    linear = F.linear(rows, weights)
    loss = F.cross_entropy(linear, torch.arange(30) % 13)
    keep("softmax", linear.softmax(1), linear.log_softmax(1), loss, *torch.autograd.grad(loss, weights))
    positive = draw.abs() + 0.01
    keep(
        "elementwise",
        positive.exp(),
        positive.log(),
        positive.pow(-0.031),
        positive.sqrt(),
        positive.tanh(),
        positive.erf(),
    )
    keep("elementwise double", *(f(positive.double()) for f in (torch.exp, torch.log, torch.sqrt)))
    keep("reductions", *(t for x in (draw, draw.double()) for t in (x.sum(), x.mean(0), x.std((2, 3)), x.amax(1))))
    array = draw.double().numpy()
    keep(
        "numpy",
        *(torch.from_numpy(np.asarray(each)) for each in (np.exp(array), array.sum(0), array[0, 0] @ array[1, 1])),
    )
    found["math"] = [exact(f(x / 7)) for x in range(1, 40) for f in (math.exp, math.log, math.sin, math.log10)]
    found["pow"] = [exact((x / 7) ** 0.37) for x in range(1, 40)]
    found["scipy"] = [exact(float(stats.t.ppf(0.975, n))) for n in (1, 2.5, 9)] + [
        exact(float(value)) for value in (stats.norm.ppf(0.9), stats.nct.ppf(0.9, 3, 2.1))
    ]
    return found


# --------------------------------------------------------------------------------------------------------------- program


def run_jobs(out: Path, pattern: str = "") -> Parts:
    """Run the jobs; a job that raises has the one part ``error``."""
    global RUNS
    torch.set_num_threads(1)
    noise_pool.POOL_SIZE = 1 << 14  # it is sized for real networks
    put_task(make_recipe())
    probed, observed, seconds = probe(), {}, {}
    RUNS = out / "runs"
    shutil.rmtree(RUNS, ignore_errors=True)
    RUNS.mkdir(parents=True)
    for name, function in JOBS.items():
        if pattern in name:
            begin = time.perf_counter()
            try:
                observed[name] = function(RUNS / name.replace(" ", "-").replace(",", ""))
            except Exception:
                observed[name] = {"error": traceback.format_exc()}
            seconds[name] = round(time.perf_counter() - begin, 2)
    whole = {"probe": probed, "jobs": observed, "seconds": seconds}
    (out / OBSERVED).write_text(json.dumps(whole, indent=1), encoding="utf-8")
    return whole


def make_hashes(whole: Mapping[str, Any]) -> Parts:
    return {"probe": digest(whole["probe"]), "jobs": hash_jobs(whole["jobs"])}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("pattern", nargs="?", default="")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    if not is_pinned():
        done = run_pinned(*sys.argv[1:])
        sys.stdout.write(done.stdout)
        sys.stderr.write(done.stderr)
        return done.returncode
    if arguments.out is None and not arguments.write:
        parser.error("give a folder for what is observed")
    whole = run_jobs(arguments.out or Path(tempfile.mkdtemp(prefix="lionheart-golden-")), arguments.pattern)
    failed = {name: parts["error"] for name, parts in whole["jobs"].items() if "error" in parts}
    for name, error in failed.items():
        sys.stderr.write(f"--- {name}\n{error}\n")
    if arguments.write and not failed:
        HASHES.write_text(json.dumps(make_hashes(whole), indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"{len(whole['jobs'])} jobs, {len(failed)} failed, {sum(whole['seconds'].values()):.1f} s\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

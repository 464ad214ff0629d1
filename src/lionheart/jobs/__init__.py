"""Jobs on a task's network: mapping, profiling, training, evaluation, and estimates of time and energy.

Only this package combines the packages for tasks, training, evaluation, search, system and runs. A job receives a `Task` and
settings. The job returns its results and writes a run directory, from which the run can be resumed, evaluated and reported. The
functions of one job share a `Context`. The subpackage `measurement` contains the measurements that jobs make. The subpackage
`rankings` contains the orders in which a search can try projections (weight matrices). The subpackage `post` contains
the steps that follow a search.
"""

from typing import Any

from lionheart.deprecated import find_renamed
from lionheart.jobs.backend import Backend, find_backend, register_backend
from lionheart.jobs.context import Context
from lionheart.jobs.evaluate import evaluate_run
from lionheart.jobs.map import map_layers, prepare_run, resume_run
from lionheart.jobs.measurement.chips import drop_of
from lionheart.jobs.objective import make_objective
from lionheart.jobs.profile import Change, Profile, profile_layers
from lionheart.jobs.result import MappingResult, load_result, load_run
from lionheart.jobs.run_folder import describe_run
from lionheart.jobs.samples import calibration_pass
from lionheart.jobs.settings import PRESETS, MapSettings, read_settings
from lionheart.jobs.simulate import estimate_run
from lionheart.jobs.train import TrainingCard, read_card, train_task
from lionheart.system import CoresRequest

__all__ = [
    "PRESETS",
    "Backend",
    "Change",
    "Context",
    "CoresRequest",
    "MapSettings",
    "MappingResult",
    "Profile",
    "TrainingCard",
    "calibration_pass",
    "describe_run",
    "drop_of",
    "estimate_run",
    "evaluate_run",
    "find_backend",
    "load_result",
    "load_run",
    "make_objective",
    "map_layers",
    "prepare_run",
    "profile_layers",
    "read_card",
    "read_settings",
    "register_backend",
    "resume_run",
    "train_task",
]


def __getattr__(name: str) -> Any:
    return find_renamed(__name__, name)

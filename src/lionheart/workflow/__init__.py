"""Workflow: the only place that wires tasks, training, evaluation, search, system and runs together.

Comes in: a `Task` and specs. Goes out: a `MappingResult` and a run directory that can be resumed, evaluated, priced, reported.
"""

from lionheart.workflow.backend import Backend, find_backend, register_backend
from lionheart.workflow.evaluate import evaluate_run
from lionheart.workflow.map import MappingResult, map_layers, resume_run
from lionheart.workflow.pareto import ParetoResult, find_pareto_front, resume_pareto_front
from lionheart.workflow.pretrain import train_task
from lionheart.workflow.profile import profile_layers
from lionheart.workflow.settings import EFFORTS, MapSettings, read_settings
from lionheart.workflow.simulate import CoresRequest, estimate_run

__all__ = [
    "EFFORTS",
    "Backend",
    "CoresRequest",
    "MapSettings",
    "MappingResult",
    "ParetoResult",
    "estimate_run",
    "evaluate_run",
    "find_backend",
    "find_pareto_front",
    "map_layers",
    "profile_layers",
    "read_settings",
    "register_backend",
    "resume_pareto_front",
    "resume_run",
    "train_task",
]

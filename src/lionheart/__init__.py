"""LionHeart: accuracy-constrained mapping of neural networks to analog in-memory-computing tiles and digital cores.

Each public name is imported from its subpackage on first use, so ``import lionheart`` is fast and does not import PyTorch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lionheart.analog import ChipState, Conversion, InputRanges
    from lionheart.api import (
        calibrate_,
        convert_to_analog_,
        convert_to_digital_,
        drift_,
        estimate_cost,
        evaluate,
        map_layers,
        program_,
    )
    from lionheart.devices import DeviceSpec, HWASpec, TileSpec
    from lionheart.experimental.pareto.job import find_pareto_front
    from lionheart.graph import LayerGraph, Projection, register_layer_type, trace_graph
    from lionheart.jobs import MappingResult, MapSettings, evaluate_run, load_run, profile_layers, resume_run
    from lionheart.mapping import LayerMapping, Placement
    from lionheart.metrics import Metric
    from lionheart.report import report_run
    from lionheart.runs import Evaluation, Results
    from lionheart.search import SearchSpec
    from lionheart.system import PlatformSpec, SystemEstimate, load_platform
    from lionheart.tasks import Task, build_task
    from lionheart.training import TrainSpec

_HOMES = {
    "ChipState": "analog",
    "Conversion": "analog",
    "DeviceSpec": "devices",
    "Evaluation": "runs",
    "HWASpec": "devices",
    "InputRanges": "analog",
    "LayerGraph": "graph",
    "LayerMapping": "mapping",
    "MapSettings": "jobs",
    "MappingResult": "jobs",
    "Metric": "metrics",
    "Placement": "mapping",
    "PlatformSpec": "system",
    "Projection": "graph",
    "Results": "runs",
    "SearchSpec": "search",
    "SystemEstimate": "system",
    "Task": "tasks",
    "TileSpec": "devices",
    "TrainSpec": "training",
    "build_task": "tasks",
    "calibrate_": "api",
    "convert_to_analog_": "api",
    "convert_to_digital_": "api",
    "drift_": "api",
    "estimate_cost": "api",
    "evaluate": "api",
    "evaluate_run": "jobs",
    "find_pareto_front": "experimental.pareto.job",
    "load_platform": "system",
    "load_run": "jobs",
    "map_layers": "api",
    "profile_layers": "jobs",
    "program_": "api",
    "register_layer_type": "graph",
    "report_run": "report",
    "resume_run": "jobs",
    "trace_graph": "graph",
}
__all__ = [
    "ChipState",
    "Conversion",
    "DeviceSpec",
    "Evaluation",
    "HWASpec",
    "InputRanges",
    "LayerGraph",
    "LayerMapping",
    "MapSettings",
    "MappingResult",
    "Metric",
    "Placement",
    "PlatformSpec",
    "Projection",
    "Results",
    "SearchSpec",
    "SystemEstimate",
    "Task",
    "TileSpec",
    "TrainSpec",
    "build_task",
    "calibrate_",
    "convert_to_analog_",
    "convert_to_digital_",
    "drift_",
    "estimate_cost",
    "evaluate",
    "evaluate_run",
    "find_pareto_front",
    "load_platform",
    "load_run",
    "map_layers",
    "profile_layers",
    "program_",
    "register_layer_type",
    "report_run",
    "resume_run",
    "trace_graph",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        from lionheart.deprecated import find_renamed  # not needed to import the package

        return find_renamed(__name__, name)
    if _HOMES[name] in ("api", "jobs"):
        import_module("lionheart.interop")  # registers its backends
    return getattr(import_module(f"lionheart.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)

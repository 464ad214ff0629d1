"""System: time and energy of one inference of a mapped network on a platform (cores, memory and tiles).

The inputs are a `LayerGraph`, a `LayerMapping`, a `PlatformSpec`, and optionally the `TilePartition` of each analog projection
(weight matrix). The main output is a `SystemEstimate` of the mapped network and of the all-digital network, per projection and
in total. The estimate also lists the counted costs and the assumptions. For several cores, the outputs are the stages of a
pipeline and their `Schedule`. The method `summary()` of an output returns a record for result files.

`SystemModel` computes the cost of many mappings of one network. The functions have no side effects. This package must not
depend on device physics, noise, training or search.
"""

from lionheart.runs.costs import AgeCost, CostTotals, PipelineRecord, ScheduleEvent, SystemRecord, WorkKind
from lionheart.system.comparison import CoresComparison, CoresRequest, compare_on_cores
from lionheart.system.cores import LayerWork, assign_cores, list_layer_work, make_stage, plan_stages, share_cache
from lionheart.system.cost import Cost, add_costs, scale_cost, split_cost
from lionheart.system.estimate import LayerCost, OpCost, SystemEstimate, estimate_system
from lionheart.system.inspection import audit_coverage
from lionheart.system.model import CostTracker, MappingCost, SystemModel
from lionheart.system.pipeline import PipelineEstimate, Stage, Step, estimate_pipeline
from lionheart.system.platform import PlatformSpec, load_platform, platform_constants, platform_names
from lionheart.system.programming import ProgrammingEstimate, estimate_programming
from lionheart.system.read_policy import FittedPolicy, TilePlan
from lionheart.system.schedule import Schedule, simulate_pipeline
from lionheart.system.tile_energy import TilePoint, mvm_energy

__all__ = [
    "AgeCost",
    "CoresComparison",
    "CoresRequest",
    "Cost",
    "CostTotals",
    "CostTracker",
    "FittedPolicy",
    "LayerCost",
    "LayerWork",
    "MappingCost",
    "OpCost",
    "PipelineEstimate",
    "PipelineRecord",
    "PlatformSpec",
    "ProgrammingEstimate",
    "Schedule",
    "ScheduleEvent",
    "Stage",
    "Step",
    "SystemEstimate",
    "SystemModel",
    "SystemRecord",
    "TilePlan",
    "TilePoint",
    "WorkKind",
    "add_costs",
    "assign_cores",
    "audit_coverage",
    "compare_on_cores",
    "estimate_pipeline",
    "estimate_programming",
    "estimate_system",
    "list_layer_work",
    "load_platform",
    "make_stage",
    "mvm_energy",
    "plan_stages",
    "platform_constants",
    "platform_names",
    "scale_cost",
    "share_cache",
    "simulate_pipeline",
    "split_cost",
]

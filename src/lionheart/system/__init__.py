"""System: a network's work, a mapping and a platform in; time and energy of one inference out.

Comes in: a `LayerGraph`, a `LayerMapping`, a `PlatformSpec` and optionally the `TilePartition` of each analog projection.
Goes out: a `SystemEstimate`, per projection and in total, for the mapping and for the all-digital network, with what is
counted and assumed. All functions are pure. Must not know: physics, noise, training, search.
"""

from lionheart.system.audit import audit_coverage
from lionheart.system.estimate import LayerCost, OpCost, SystemEstimate, estimate_system
from lionheart.system.pipeline import PipelineEstimate, Stage, estimate_pipeline
from lionheart.system.platform import PlatformSpec, load_platform, platform_constants, platform_names
from lionheart.system.price import Cost, add_costs, split_cost
from lionheart.system.programming import AgeCost, ProgrammingEstimate, estimate_programming
from lionheart.system.tile_energy import TilePoint, mvm_energy

__all__ = [
    "AgeCost",
    "Cost",
    "LayerCost",
    "OpCost",
    "PipelineEstimate",
    "PlatformSpec",
    "ProgrammingEstimate",
    "Stage",
    "SystemEstimate",
    "TilePoint",
    "add_costs",
    "audit_coverage",
    "estimate_pipeline",
    "estimate_programming",
    "estimate_system",
    "load_platform",
    "mvm_energy",
    "platform_constants",
    "platform_names",
    "split_cost",
]

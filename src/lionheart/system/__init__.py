"""System: a network's work, a mapping and a platform in; time and energy of one inference out.

Comes in: a `LayerGraph`, a `LayerMapping`, a `PlatformSpec` and optionally the `TilePartition` of each analog projection.
Goes out: a `SystemEstimate`, per projection and in total, for the mapping and for the all-digital network, with what is
counted and assumed. `SystemModel` prices many mappings of one network.
All functions are pure. Must not know: physics, noise, training, search.
"""

from lionheart.system.audit import audit_coverage
from lionheart.system.estimate import LayerCost, OpCost, SystemEstimate, estimate_system
from lionheart.system.model import CostTracker, MappingCost, SystemModel
from lionheart.system.pipeline import PipelineEstimate, Stage, estimate_pipeline
from lionheart.system.platform import PlatformSpec, load_platform, platform_constants, platform_names
from lionheart.system.price import Cost, add_costs, split_cost

__all__ = [
    "Cost",
    "CostTracker",
    "LayerCost",
    "MappingCost",
    "OpCost",
    "PipelineEstimate",
    "PlatformSpec",
    "Stage",
    "SystemEstimate",
    "SystemModel",
    "add_costs",
    "audit_coverage",
    "estimate_pipeline",
    "estimate_system",
    "load_platform",
    "platform_constants",
    "platform_names",
    "split_cost",
]

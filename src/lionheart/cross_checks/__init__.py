"""Cross-checks: comparisons of the system model's costs with the cost estimates of other tools, for each layer of a run.

Each module of this package connects one tool, and the name of the tool is the name of its module. The inputs are a layer graph,
a mapping and a platform. The outputs are a record of the costs estimated by the tool and by `lionheart.system`, and a text that
describes the record. Modules must import the tool inside functions.
"""

from lionheart.cross_checks._base import CROSS_CHECKS, ComparisonText, CrossCheck

__all__ = ["CROSS_CHECKS", "ComparisonText", "CrossCheck"]

"""Cross-checks: other tools that price the layers of a finished run. Each module of this package is one tool, under its name.

Takes: a graph, a mapping and a platform. Returns: a record of the tool's costs and those of `lionheart.system`, and the same
for people. Modules must import the tool inside functions.
"""

from lionheart.cross_checks._base import CROSS_CHECKS, ComparisonText, CrossCheck

__all__ = ["CROSS_CHECKS", "ComparisonText", "CrossCheck"]

"""Cross-checks: other tools that estimate the cost of a finished run's layers. Each module is one tool, under its own name.

Inputs: a graph, a mapping and a platform. Output: a record of the tool's costs and those of `lionheart.system`, and the same as
text. Modules must import the tool inside functions.
"""

from lionheart.cross_checks._base import CROSS_CHECKS, ComparisonText, CrossCheck

__all__ = ["CROSS_CHECKS", "ComparisonText", "CrossCheck"]

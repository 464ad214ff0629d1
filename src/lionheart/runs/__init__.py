"""Runs: the folder in which a run keeps its settings, its journal, its weights and its results.

Comes in: plain data. Goes out: the same after a kill at any point. Must not know: what the data mean.
"""

from lionheart.runs.directory import RunDirectory, describe_environment

__all__ = ["RunDirectory", "describe_environment"]

"""Runs: the folder in which a job keeps its settings, its journal, its weights and its results, and the records it writes.

Takes records; returns the same after a kill at any point. Must not know: who computes them.
"""

from lionheart.runs.directory import RunDirectory, describe_environment
from lionheart.runs.journal import Journal, timestamp
from lionheart.runs.records import (
    Accuracy,
    AgeTrial,
    Baseline,
    CompensationTrial,
    Decision,
    DigitalBaseline,
    Drop,
    Environment,
    Evaluation,
    HoldoutTest,
    RefreshInterval,
    Results,
    RunDescription,
    SearchOutcome,
    TrainTrace,
)

__all__ = [
    "Accuracy",
    "AgeTrial",
    "Baseline",
    "CompensationTrial",
    "Decision",
    "DigitalBaseline",
    "Drop",
    "Environment",
    "Evaluation",
    "HoldoutTest",
    "Journal",
    "RefreshInterval",
    "Results",
    "RunDescription",
    "RunDirectory",
    "SearchOutcome",
    "TrainTrace",
    "describe_environment",
    "timestamp",
]

"""Runs: the directory in which a job keeps its settings, journal, weights and results, and the records that it writes.

The files hold records, and reading them returns the same records after a kill at any time. This package must not know how
records are computed.
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

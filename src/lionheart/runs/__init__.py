"""Runs: the directory of a run, which holds its settings, journal, weights and results, and the types of these results.

All files stay readable if the process is killed at any time. The package does not compute any results, and depends on no
package that does.
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

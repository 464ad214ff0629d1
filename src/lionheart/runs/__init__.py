"""Run directories, and the record types of the files in a run directory.

A run directory holds the settings, the journal, the weights and the results of one run of a LionHeart command. All files stay
readable if the process is killed at any time. This package reads and writes records, but does not compute the values in them.
"""

from lionheart.runs.directory import RunDirectory, describe_environment
from lionheart.runs.guarantee import Guarantee
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
    TrainEvaluation,
    TrainTrace,
)
from lionheart.runs.rescaling import ChannelRescaling, RescaledChannels
from lionheart.runs.summary import BoundCheck, Caution, PlatformSummary, SplitSummary, Summary

__all__ = [
    "Accuracy",
    "AgeTrial",
    "Baseline",
    "BoundCheck",
    "Caution",
    "ChannelRescaling",
    "CompensationTrial",
    "Decision",
    "DigitalBaseline",
    "Drop",
    "Environment",
    "Evaluation",
    "Guarantee",
    "HoldoutTest",
    "Journal",
    "PlatformSummary",
    "RefreshInterval",
    "RescaledChannels",
    "Results",
    "RunDescription",
    "RunDirectory",
    "SearchOutcome",
    "SplitSummary",
    "Summary",
    "TrainEvaluation",
    "TrainTrace",
    "describe_environment",
    "timestamp",
]

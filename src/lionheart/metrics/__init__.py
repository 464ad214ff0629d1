"""Metrics: functions that score samples or whole data sets, units and directions of their values, and bounds on their drop.

A drop is the loss of quality from the digital to the analog network. It is positive if the analog network is worse. The
command line, the report and model cards format all scores and drops with this package. The package does not import PyTorch.
"""

from typing import Any

from lionheart.deprecated import find_renamed
from lionheart.metrics.bound import Bound, parse_bound, read_bound
from lionheart.metrics.catalogue import (
    corpus_f1,
    macro_f1,
    mean_absolute_error,
    mean_iou,
    root_mean_squared_error,
    token_accuracy,
    token_perplexity,
)
from lionheart.metrics.metric import ACCURACY, F1, PERPLEXITY, Metric, accuracy_scores, drop_pp, is_within

#: Mean absolute error, without a unit.
MAE = mean_absolute_error()
#: Root of the mean squared error over the whole set, without a unit.
RMSE = root_mean_squared_error()

__all__ = [
    "ACCURACY",
    "F1",
    "MAE",
    "PERPLEXITY",
    "RMSE",
    "Bound",
    "Metric",
    "accuracy_scores",
    "corpus_f1",
    "drop_pp",
    "is_within",
    "macro_f1",
    "mean_absolute_error",
    "mean_iou",
    "parse_bound",
    "read_bound",
    "root_mean_squared_error",
    "token_accuracy",
    "token_perplexity",
]


def __getattr__(name: str) -> Any:
    return find_renamed(__name__, name)

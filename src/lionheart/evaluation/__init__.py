"""Evaluation: the accuracy of a model, digital or over fresh chips and times after programming.

Takes: a model, batches, a metric. Returns: accuracies with confidence intervals.
Must not know: mappings, training, search, data sets by name.
"""

from lionheart.evaluation.accuracy import ScoreFunction, evaluate_accuracy, evaluate_metrics, score_samples
from lionheart.evaluation.checks import check_scores, run_explained
from lionheart.evaluation.chips import estimate_mean, evaluate_over_chips
from lionheart.evaluation.drop import estimate_drop
from lionheart.evaluation.ensemble import ChipEnsemble, EnsembleScores

__all__ = [
    "ChipEnsemble",
    "EnsembleScores",
    "ScoreFunction",
    "check_scores",
    "estimate_drop",
    "estimate_mean",
    "evaluate_accuracy",
    "evaluate_metrics",
    "evaluate_over_chips",
    "run_explained",
    "score_samples",
]

"""Evaluation of models: the accuracy of a digital model, or of an analog model on newly programmed chips over time.

The functions receive a model, batches and a metric, and return accuracies, some with confidence intervals. The package must not
depend on mappings, training, the search, or particular data sets.
"""

from lionheart.evaluation.accuracy import ScoreFunction, evaluate_accuracy, evaluate_metrics, score_samples
from lionheart.evaluation.checks import check_scores, run_explained
from lionheart.evaluation.chips import estimate_mean, evaluate_over_chips
from lionheart.evaluation.drop import estimate_drop, estimate_set_drop
from lionheart.evaluation.ensemble import ChipEnsemble, EnsembleScores

__all__ = [
    "ChipEnsemble",
    "EnsembleScores",
    "ScoreFunction",
    "check_scores",
    "estimate_drop",
    "estimate_mean",
    "estimate_set_drop",
    "evaluate_accuracy",
    "evaluate_metrics",
    "evaluate_over_chips",
    "run_explained",
    "score_samples",
]

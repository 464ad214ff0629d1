"""Evaluation of models: the accuracy of a digital model, or of an analog model on newly programmed chips over time.

The functions receive a model, batches and a metric, and return accuracies, some with confidence intervals. The package must not
depend on mappings, training, the search, or particular data sets.
"""

from lionheart.evaluation.accuracy import evaluate_accuracy, evaluate_metrics, score_samples
from lionheart.evaluation.checks import ScoreFunction, naming_data, run_explained
from lionheart.evaluation.chips import estimate_mean, evaluate_over_chips, merge_chips
from lionheart.evaluation.drop import count_needed, estimate_drop, estimate_set_drop
from lionheart.evaluation.ensemble import ChipEnsemble, EnsembleScores
from lionheart.evaluation.first_batch import check_first_batches
from lionheart.evaluation.judge import Subject, explain_step
from lionheart.evaluation.sequential import Look, judge, plan_looks

__all__ = [
    "ChipEnsemble",
    "EnsembleScores",
    "Look",
    "ScoreFunction",
    "Subject",
    "check_first_batches",
    "count_needed",
    "estimate_drop",
    "estimate_mean",
    "estimate_set_drop",
    "evaluate_accuracy",
    "evaluate_metrics",
    "evaluate_over_chips",
    "explain_step",
    "judge",
    "merge_chips",
    "naming_data",
    "plan_looks",
    "run_explained",
    "score_samples",
]

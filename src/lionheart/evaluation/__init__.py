"""Evaluation: how well a model does, digitally or over fresh chips and times.

Comes in: a model, batches, a metric. Goes out: accuracies with confidence intervals.
Must not know: mappings, training, search, data sets by name.
"""

from lionheart.evaluation.accuracy import evaluate_accuracy

__all__ = ["evaluate_accuracy"]

"""Learning rate and number of steps of a training."""

from __future__ import annotations

import math

from lionheart.training.spec import TrainSpec

_ONE_CYCLE_WARMUP = 0.2  # share of the steps in which the learning rate of the one-cycle schedule increases
_SMALLEST_RATE = 0.04  # share of the peak learning rate with which a warm-up begins


def learning_rate_at(spec: TrainSpec, progress: float) -> float:
    """Return the learning rate after the fraction `progress` (0 to 1) of all steps.

    The learning rate is at most `spec.learning_rate` and follows the curve that `spec.schedule` names, after the warm-up.
    """
    warmup = spec.warmup
    if warmup is None:
        warmup = _ONE_CYCLE_WARMUP if spec.schedule == "one_cycle" else 0.0
    if progress < warmup:
        return spec.learning_rate * max(progress / warmup, _SMALLEST_RATE)
    if spec.schedule == "constant":
        return spec.learning_rate
    progress = (progress - warmup) / (1 - warmup)
    return spec.learning_rate * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def noise_strength_at(spec: TrainSpec, progress: float) -> float:
    """Return the factor of the training noise, 0 to 1, after the fraction `progress` (0 to 1) of all steps."""
    return 1.0 if progress >= spec.noise_warmup else progress / spec.noise_warmup


def count_affordable_steps(left_s: float, step_s: float, epoch_s: float, steps_per_epoch: int) -> int:
    """Return how many training steps fit into a time, at least 1.

    Args:
        left_s: Time for the steps and for what comes after each epoch [s].
        step_s: Time of one step [s].
        epoch_s: Time of evaluations after an epoch, on average over the epochs [s].
        steps_per_epoch: Number of steps of an epoch.
    """
    return max(1, int(left_s / max(step_s + epoch_s / steps_per_epoch, 1e-9)))

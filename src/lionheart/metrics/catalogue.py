"""Ready metrics: errors of regression networks, segmentation, classes over a whole set, and tokens of sentences.

Each function returns a `Metric`. Metrics over a whole set return counts or sums of each sample, so that a sample stays one
sample, whatever the number of its pixels or tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lionheart.errors import ConfigError
from lionheart.logits import NO_TARGET, class_axis, find_logits
from lionheart.metrics.metric import Metric

if TYPE_CHECKING:
    from torch import Tensor


def mean_absolute_error(unit: str = "") -> Metric:
    """Return the mean absolute error, in the unit of the targets. The error of a sample is the mean over its outputs.

    Args:
        unit: Unit of the targets, for example ``"mm"``; empty = no unit.
    """

    def compute(outputs: Tensor, targets: Tensor) -> Tensor:
        return _errors(outputs, targets).abs().mean(1)

    return Metric("MAE", kind="plain", unit=unit, higher_is_better=False, compute=compute)


def root_mean_squared_error(unit: str = "") -> Metric:
    """Return the root of the mean squared error over all samples and outputs, in the unit of the targets.

    Args:
        unit: Unit of the targets, for example ``"K"``; empty = no unit.
    """

    def compute(outputs: Tensor, targets: Tensor) -> Tensor:
        return _errors(outputs, targets).square().mean(1)

    return Metric(
        "RMSE",
        kind="plain",
        unit=unit,
        higher_is_better=False,
        scope="set",
        compute=compute,
        finish=lambda squares: squares.mean().sqrt(),
    )


def mean_iou(n_classes: int, ignore_index: int = NO_TARGET) -> Metric:
    """Return the mean intersection over union of a segmentation, over the classes that occur in outputs or targets of the set.

    Args:
        n_classes: Number of classes. Outputs have the shape ``(batch, classes, *positions)`` or
            ``(batch, *positions, classes)``, targets ``(batch, *positions)``.
        ignore_index: Target of positions that do not count.

    Raises:
        ConfigError: `n_classes` is below 2.
    """
    return _mean_over_classes("mIoU", "", "mean_iou", n_classes, ignore_index, true_weight=1)


def macro_f1(n_classes: int, ignore_index: int = NO_TARGET) -> Metric:
    """Return the F1 score of a classifier: the mean over the classes that occur in outputs or targets of the set.

    Args:
        n_classes: Number of classes. Outputs have the shape ``(batch, classes)`` or, with one class for each token,
            ``(batch, tokens, classes)``. Targets have the same shape without the classes.
        ignore_index: Target of samples or tokens that do not count.

    Raises:
        ConfigError: `n_classes` is below 2.
    """
    return _mean_over_classes("macro F1", "F1 points", "macro_f1", n_classes, ignore_index, true_weight=2)


def corpus_f1(n_classes: int = 2, background: int = 0, ignore_index: int = NO_TARGET) -> Metric:
    """Return the F1 score of all classes but one, from counts over the whole set, as for tagged tokens or a rare class.

    True positives, false positives and false negatives of all classes but `background` are added up (micro average).

    Args:
        n_classes: Number of classes. Outputs have the shape ``(batch, classes)`` or, with one class for each token,
            ``(batch, tokens, classes)``. Targets have the same shape without the classes.
        background: Class that is not counted, such as "no entity" or "negative".
        ignore_index: Target of samples or tokens that do not count.

    Raises:
        ConfigError: `n_classes` is below 2.
    """
    _check_classes("corpus_f1", n_classes)

    def compute(outputs: Tensor, targets: Tensor) -> Tensor:
        counts = _count_classes(outputs, targets, n_classes, ignore_index, "corpus_f1")
        by_class = counts.reshape(len(counts), 3, n_classes)
        return by_class.sum(2) - by_class[:, :, background]

    def finish(counts: Tensor) -> Any:
        true, false_positive, false_negative = counts.sum(0)
        return 2 * true / (2 * true + false_positive + false_negative).clamp(min=1)

    return Metric("corpus F1", "F1 points", compute=compute, scope="set", finish=finish)


def token_accuracy(ignore_index: int = NO_TARGET) -> Metric:
    """Return the share of correct tokens of a whole set, in which a sentence is one sample.

    Args:
        ignore_index: Target of tokens that do not count. Outputs have the shape ``(batch, tokens, classes)``, targets
            ``(batch, tokens)``.
    """

    def compute(outputs: Tensor, targets: Tensor) -> Tensor:
        counts = targets != ignore_index
        correct = (_find_classes(outputs, targets, "token_accuracy") == targets) & counts
        return _stack(correct.flatten(1).sum(1), counts.flatten(1).sum(1))

    return Metric("token accuracy", compute=compute, scope="set", finish=_divide_sums)


def token_perplexity(ignore_index: int = NO_TARGET) -> Metric:
    """Return the perplexity of all tokens of a whole set, in which a sentence is one sample, whatever its length.

    Args:
        ignore_index: Target of tokens that do not count. Outputs are logits ``(batch, tokens, entries)``, targets
            ``(batch, tokens)``.
    """

    def compute(outputs: Tensor, targets: Tensor) -> Tensor:
        from torch.nn import functional

        logits = find_logits(outputs)
        logits = logits.float().movedim(class_axis(logits, targets, "token_perplexity"), 1)
        losses = functional.cross_entropy(logits, targets, ignore_index=ignore_index, reduction="none")
        return _stack(-losses.flatten(1).sum(1), (targets != ignore_index).flatten(1).sum(1))

    return Metric("perplexity", kind="perplexity", compute=compute, scope="set", finish=_divide_sums)


def _mean_over_classes(
    name: str, drop_unit: str, function: str, n_classes: int, ignore_index: int, *, true_weight: int
) -> Metric:
    """Return a metric of the set: the mean over the classes that occur of ``w TP / (w TP + FP + FN)``.

    TP, FP and FN are the true positives, false positives and false negatives of a class, and w is `true_weight`: 1 gives the
    intersection over union (Jaccard index), 2 the F1 score (Dice coefficient). `function` begins the error messages.
    """
    _check_classes(function, n_classes)

    def compute(outputs: Any, targets: Tensor) -> Tensor:
        return _count_classes(outputs, targets, n_classes, ignore_index, function)

    def finish(counts: Tensor) -> Tensor:
        true, false_positive, false_negative = counts.sum(0).chunk(3)
        hits = true_weight * true
        total = hits + false_positive + false_negative
        return (hits / total)[total > 0].mean()

    return Metric(name, drop_unit, compute=compute, scope="set", finish=finish)


def _errors(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return outputs minus targets as a matrix ``(batch, outputs)``; a last dimension of size 1 may be missing in either."""
    outputs = find_logits(outputs)
    shapes = tuple(outputs.shape), tuple(targets.shape)
    if shapes[0] != shapes[1] and (*shapes[0], 1) != shapes[1] and shapes[0] != (*shapes[1], 1):
        raise ConfigError(
            f"metric: got outputs of shape {shapes[0]} and targets of shape {shapes[1]}, expected equal shapes",
            hint="give one target for each output of the network",
        )
    return (outputs.double() - targets.double().reshape(shapes[0])).reshape(len(outputs), -1)


def _find_classes(outputs: Any, targets: Tensor, name: str) -> Tensor:
    """Return the class with the largest logit at each position, in the shape of `targets`."""
    logits = find_logits(outputs)
    classes: Tensor = logits.argmax(dim=class_axis(logits, targets, name))
    return classes


def _count_classes(outputs: Any, targets: Tensor, n_classes: int, ignore_index: int, name: str) -> Tensor:
    """Return true positives, false positives and false negatives of each class and sample, ``(batch, 3 * classes)``."""
    found = _find_classes(outputs, targets, name)
    found, wanted = found.reshape(len(found), -1).long(), targets.reshape(len(targets), -1).long()
    counted = wanted != ignore_index
    wrong = ((wanted < 0) | (wanted >= n_classes) | (found >= n_classes)) & counted
    if bool(wrong.any()):
        raise ConfigError(
            f"{name}: got outputs up to class {int(found.max())} and targets from {int(wanted.min())} to {int(wanted.max())}, "
            f"expected classes from 0 to {n_classes - 1}",
            hint="give the number of classes of the network, and set ignore_index for positions that do not count",
        )
    n_found, n_wanted = _tally(found, counted, n_classes), _tally(wanted, counted, n_classes)
    true = _tally(found, counted & (found == wanted), n_classes)
    return _cat(true, n_found - true, n_wanted - true)


def _tally(classes: Tensor, counted: Tensor, n_classes: int) -> Tensor:
    """Return how often each class occurs in each sample among the positions that count, ``(batch, classes)`` float64."""
    import torch

    n_samples = len(classes)
    places = classes + n_classes * torch.arange(n_samples, device=classes.device)[:, None]
    return torch.bincount(places[counted], minlength=n_samples * n_classes).reshape(n_samples, n_classes).double()


def _cat(*parts: Tensor) -> Tensor:
    import torch

    return torch.cat(parts, dim=1)


def _stack(*parts: Tensor) -> Tensor:
    import torch

    return torch.stack([part.double() for part in parts], dim=1)


def _divide_sums(statistics: Tensor) -> Any:
    part, whole = statistics.sum(0)
    return part / whole


def _check_classes(name: str, n_classes: Any) -> None:
    if isinstance(n_classes, bool) or not isinstance(n_classes, int) or n_classes < 2:
        raise ConfigError(
            f"{name}: n_classes: got {n_classes!r}, expected a whole number of at least 2",
            hint="give the number of classes of the network",
        )

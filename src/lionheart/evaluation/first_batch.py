"""Checks of a network with its data, metric and loss before a run, on the first batch of each split.

Every error names what came, what was expected, and the argument of the task to change. The checks change neither the network
nor any random number of the run: they use a copy of the network and restore the global random states.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_leaves

from lionheart.copies import copy_model
from lionheart.data import Batch, BatchSource, batch_length, count_batches, device_of
from lionheart.errors import ConfigError, DataWarning, LionHeartError
from lionheart.evaluation.checks import describe, find_invalid, is_equal
from lionheart.evaluation.judge import Subject, check_outputs, check_training
from lionheart.evaluation.overlap import describe_overlap
from lionheart.loaders import shorten_error


def check_first_batches(subject: Subject, splits: Mapping[str, BatchSource]) -> None:
    """Run the first batch of each split, and check the network, the data, the metric and the loss.

    The split ``train`` runs forward and backward if the subject has a loss, all other splits run forward in ``eval()`` mode and
    are scored. Splits whose samples overlap are named in a `DataWarning`.

    Args:
        subject: Network, metric and loss.
        splits: Sources of batches by the name of the split, for example ``train``, ``validation`` and ``test``.

    Raises:
        ConfigError: The network, the data, the metric or the loss cannot be used.
    """
    _check_model(subject)
    with _keeping_random_states(device_of(subject.model)):
        first = {name: _read_twice(subject, name, source) for name, source in splits.items()}
        twin = _copy(subject)
        for number, (name, batch) in enumerate(item for item in first.items() if item[0] != "train"):
            check_outputs(subject, twin, name, batch, is_first=number == 0)
        if subject.loss is not None and "train" in first:
            check_training(subject, twin, splits["train"], first["train"])
    for one, other in combinations(splits, 2):
        found = describe_overlap(splits[one], first[one], splits[other], first[other])
        if found is not None:
            warnings.warn(
                f"{subject.name}.{one} and {subject.name}.{other} overlap: {found}; give splits without common samples",
                DataWarning,
                stacklevel=2,
            )


# -- network -----------------------------------------------------------------------------------------------------------


def _check_model(subject: Subject) -> None:
    where, parameters = f"{subject.name}.model", dict(subject.model.named_parameters())
    if not parameters:
        raise ConfigError(
            f"{where}: got {type(subject.model).__name__} without parameters, expected a network with weights",
            hint=f"set {where} to the network that contains the weights",
        )
    lazy = next((name for name, parameter in parameters.items() if is_lazy(parameter)), None)
    if lazy is not None:
        raise ConfigError(
            f"{where}: {lazy!r} is not initialised, expected a network with weights",
            hint="run the network once on a batch, so that its lazy layers learn their sizes, and load its weights",
        )
    places = {str(parameter.device) for parameter in parameters.values()}
    if "meta" in places:
        name = next(name for name, parameter in parameters.items() if parameter.is_meta)
        raise ConfigError(
            f"{where}: {name!r} is on the device meta and has no values, expected a network with weights",
            hint="build the network on the CPU or a GPU, and load its weights: model.to_empty(device='cpu') and "
            "model.load_state_dict(...)",
        )
    if len(places) > 1:
        raise ConfigError(
            f"{where}: got parameters on {', '.join(sorted(places))}, expected one device",
            hint=f"move the whole network to one device, for example {where}.to('cpu')",
        )
    _check_weights(subject.model, where)
    if subject.loss is not None and subject.has_training and not any(p.requires_grad for p in parameters.values()):
        raise ConfigError(
            f"{where}: got {type(subject.model).__name__}, in which no parameter requires a gradient, expected trainable "
            "weights",
            hint="call model.requires_grad_(True), or requires_grad_(True) of the layers to retrain, or search without "
            "retraining: search.strategy='training-free'",
        )


def _check_weights(model: nn.Module, where: str) -> None:
    """Check that all weights of a network are finite and none of its buffers contains NaN.

    Raises:
        ConfigError: A weight is NaN or infinite, or a buffer contains NaN; the message begins with `where`.
    """
    wrong_weights = ((name, each, ~torch.isfinite(each)) for name, each in model.named_parameters() if not each.is_meta)
    wrong_buffers = ((name, each, each.isnan()) for name, each in model.named_buffers() if not each.is_meta)
    for name, tensor, wrong in chain(wrong_weights, wrong_buffers):
        if bool(wrong.any()):
            raise ConfigError(
                f"{where}: got {int(wrong.sum())} of {tensor.numel()} values NaN or infinite in {name!r}, expected finite "
                "weights",
                hint="load weights of a training that did not diverge",
            )


def _copy(subject: Subject) -> nn.Module:
    try:
        return copy_model(subject.model)
    except (LionHeartError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise ConfigError(
            f"{subject.name}.model: {type(subject.model).__name__} cannot be copied: {shorten_error(error)}",
            hint="a run works on copies of the network: give a network for which copy.deepcopy works, for example a newly "
            "built one with loaded weights",
        ) from error


# -- data --------------------------------------------------------------------------------------------------------------


def _read_twice(subject: Subject, name: str, source: BatchSource) -> Batch:
    """Return the first batch of a split, which is read twice to check that it is the same again.

    Training batches may differ, because augmentation may draw from any generator.
    """
    where = f"{subject.name}.{name}"
    once, again = _read(source, where), _read(source, where)
    if once is None:
        raise ConfigError(
            f"{where}: got no batches, expected at least one",
            hint=f"set {where} to data with at least one sample; with drop_last=True, batch_size must not exceed the number of "
            "samples",
        )
    if again is None:
        raise ConfigError(
            f"{where}: got no batch when it was read the second time, expected the same batches again",
            hint=f"set {where} to a list, a DataLoader or an object whose __iter__ starts from the first batch",
        )
    inputs, targets = once
    tensors = [each for each in tree_leaves(inputs) if isinstance(each, Tensor)]
    if not tensors:
        raise ConfigError(
            f"{where}: got inputs of type {_name_types(inputs)}, expected tensors",
            hint=f"let the data set of {where} return tensors: images through a transform such as ToTensor(), texts through a "
            "tokenizer, arrays through torch.as_tensor",
        )
    if any(each.ndim and len(each) == 0 for each in tensors) or batch_length(targets) == 0:
        raise ConfigError(
            f"{where}: got an empty batch, inputs {describe(inputs)} and targets {describe(targets)}, expected at least one "
            "sample",
            hint=f"leave empty batches out of {where}",
        )
    for kind, value in (("inputs", inputs), ("targets", targets)):
        found = find_invalid(value)
        if found is not None:
            raise ConfigError(
                f"{where}: {kind} of the first batch: {found}, expected finite numbers",
                hint=f"remove or repair the samples of {where} with these values",
            )
    if name != "train" and not _is_same(once, again):
        raise ConfigError(
            f"{where}: got another first batch when it was read the second time, expected the same batches again",
            hint=f"remove random transforms from the data set of {where}, or draw them with PyTorch's random generator",
        )
    with _naming(where):  # counts the batches of a loader without a length, which may not end
        count_batches(source, subject.n_steps if name == "train" else None)
    return once


def _read(source: BatchSource, where: str) -> Batch | None:
    with _naming(where):
        batch: Any = next(iter(source.epoch(torch.Generator().manual_seed(0))), None)
    if batch is not None and not (isinstance(batch, (tuple, list)) and len(batch) == 2):
        raise ConfigError(
            f"{where}: got a batch of type {type(batch).__name__}, expected a pair (inputs, targets)",
            hint=f"let the method epoch of {where} yield pairs (inputs, targets)",
        )
    return None if batch is None else (batch[0], batch[1])


@contextmanager
def _naming(where: str) -> Iterator[None]:
    """Raise each error in the context as a `ConfigError` that begins with `where`."""
    try:
        yield
    except LionHeartError as error:
        named = error.message if error.message.startswith(where) else f"{where}: {error.message}"
        raise ConfigError(named, hint=error.hint) from error
    except Exception as error:
        raise ConfigError(
            f"{where}: reading the first batch failed: {shorten_error(error)}",
            hint=f"correct the source of batches that is given as {where}",
        ) from error


def _name_types(value: Any) -> str:
    inner = next(iter(tree_leaves(value)), None)
    outer = type(value).__name__
    return outer if inner is None or inner is value else f"{outer} of {type(inner).__name__}"


def _is_same(one: Any, other: Any) -> bool:
    pairs = zip(tree_leaves(one), tree_leaves(other), strict=False)
    return all(is_equal(a, b) for a, b in pairs if isinstance(a, Tensor) and isinstance(b, Tensor))


@contextmanager
def _keeping_random_states(device: torch.device) -> Iterator[None]:
    """Restore the global random states of PyTorch, NumPy and Python at the end of the context."""
    of_python, of_numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)

"""Estimate of the loss increase caused by running a single projection (weight matrix) on analog tiles.

The estimate is computed from the Hessian of the loss and from the weight errors on simulated chips.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from pydantic import Field, computed_field
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from lionheart.analog import analog_layers, convert_to_analog_, drift_chip_, program_chip_
from lionheart.copies import copy_model
from lionheart.data import BatchSource, batch_length, call_model, device_of, move_batch
from lionheart.devices import TileSpec
from lionheart.errors import ConfigError, NumericsError, UnsupportedLayerError, suggest
from lionheart.graph.layer_types import PlacedProjection, find_projections, find_tensor
from lionheart.jobs.context import Context
from lionheart.mapping import LayerMapping, Placement
from lionheart.record import Record
from lionheart.rng import RandomStreams

HESSIAN_SAMPLES = 256  # validation samples: enough to rank projections, at low cost
_CHIPS, _VECTORS = 3, 8  # chips, and random vectors for each projection and batch: enough to rank projections


class Curvature(Record):
    """Hessian trace and mean squared weight error of a projection (weight matrix).

    The property `expected_loss_increase` is an estimate, computed from both, for a network with only this projection on tiles.
    """

    trace: float = Field(description="trace of the Hessian of the loss with respect to the projection's weights")
    squared_error: float = Field(description="mean squared error of a weight on a chip, in units of the weight squared")

    @computed_field(description="expected loss increase, to second order")  # type: ignore[prop-decorator]
    @property
    def expected_loss_increase(self) -> float:
        """Second-order estimate of the loss increase: half the Hessian trace times the mean squared error of the weights.

        The estimate is 0 if the trace is negative. The weight errors are assumed to be independent and of equal variance.
        """
        return 0.5 * self.squared_error * max(self.trace, 0.0)


def measure_curvature(context: Context, batches: BatchSource, fqns: Sequence[str]) -> dict[str, Curvature]:
    """For each named projection (weight matrix), return the Hessian trace and the mean squared weight error on chips.

    The Hessian is computed for the loss of the task's digital network. The weight errors are simulated with the tile settings
    of the run, at ``t_inference`` since programming, and always with the backend ``lionheart``. The loss increase estimated
    from trace and error has the unit of the loss. The estimate does not include the effects of converters and output noise, nor
    terms beyond second order. The published method HILAL uses ``(0.08 max|W|)^2`` as the squared error instead, and divides the
    product of trace and squared error by the number of weights.

    Args:
        context: Context of the job. The task's network is not changed.
        batches: Samples on which the Hessian is computed.
        fqns: Names of the projections.

    Returns:
        Trace and squared error of each projection, by name.

    Raises:
        ConfigError: The network has no projection of a name in `fqns`.
        UnsupportedLayerError: The weight of a projection is not a parameter, or the loss is not twice differentiable.
        NumericsError: A trace is not finite.

    Source:
        HILAL (DATE 2026), code github anissbslh/HILAL, ``methods/HILAL.py``.
    """
    task, settings = context.task, context.settings
    streams, t_inference = context.streams.scope("hessian"), settings.search.t_inference
    errors = squared_errors(task.model, fqns, settings.tile, t_inference, streams)
    with context.progress.bar("Hessian of each projection", len(fqns) * len(batches) * _VECTORS) as bar:
        traces = estimate_traces(
            task.model, batches, task.loss, fqns, streams, n_vectors=_VECTORS, on_vector=bar.advance
        )
    return {fqn: Curvature(trace=traces[fqn], squared_error=errors[fqn]) for fqn in fqns}


def squared_errors(
    model: nn.Module, fqns: Sequence[str], tile: TileSpec, t_inference: float, streams: RandomStreams
) -> dict[str, float]:
    """For each named projection (weight matrix), return the mean squared weight error on simulated chips.

    The weights of each chip are read once, at `t_inference` seconds since programming. Drift is compensated as specified in the
    tile settings. The error is in units of the weight squared.
    """
    twin = convert_to_analog_(copy_model(model), LayerMapping(dict.fromkeys(fqns, Placement.ANALOG)), tile)
    layers, errors = analog_layers(twin), dict.fromkeys(fqns, 0.0)
    device = device_of(twin)
    for chip in range(_CHIPS):
        generator = streams.generator("chip", chip, device=device)
        program_chip_(twin, generator)
        drift_chip_(twin, t_inference, generator)
        for fqn in fqns:
            difference = layers[fqn].take_read().matrix() - layers[fqn].tile_matrix().detach()
            errors[fqn] += float(difference.square().mean()) / _CHIPS
    return errors


def estimate_traces(
    model: nn.Module,
    batches: BatchSource,
    loss_function: Callable[[Any, Any], Tensor],
    fqns: Sequence[str],
    streams: RandomStreams,
    *,
    n_vectors: int,
    on_vector: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """For each named projection (weight matrix), estimate the trace of the Hessian of the loss with respect to its weights.

    The model is evaluated in ``eval()`` mode. Hutchinson's estimator is used: the mean of ``v' H v`` over vectors ``v`` of
    random signs. The estimate is exact for a diagonal Hessian ``H``. Each projection has its own vectors. With one vector for
    all weights, the variance caused by a sensitive projection would mask the traces of other projections. If a projection is a
    slice of a parameter, such as q, k and v of packed attention, the trace refers to the slice. The Hessian of a shared weight
    includes all uses of the weight, e.g. in an embedding.

    Args:
        model: Network; not changed.
        batches: Samples; each batch is weighted by its size.
        loss_function: Function of ``(outputs, targets)`` that returns a scalar.
        fqns: Names of the projections.
        streams: Source of the random vectors.
        n_vectors: Number of random vectors for each projection and batch.
        on_vector: Function called after each random vector, e.g. to advance a progress bar.

    Returns:
        Trace of each projection, by name.

    Raises:
        ConfigError: The model has no projection of a name in `fqns`.
        UnsupportedLayerError: The weight of a projection is not a parameter, or the loss is not twice differentiable.
        NumericsError: A trace is not finite.
    """
    model = copy_model(model).eval().requires_grad_(False)
    device = device_of(model)
    placed = _find_placed(model, fqns)
    weights = {fqn: find_tensor(each.module, each.projection.weight).requires_grad_() for fqn, each in placed.items()}
    if not weights:
        return {}
    unique = list({id(weight): weight for weight in weights.values()}.values())
    totals, n_samples = dict.fromkeys(fqns, 0.0), 0
    with _twice_differentiable(model):
        for index, (inputs, targets) in enumerate(batches.epoch(torch.Generator().manual_seed(0))):
            size = batch_length(targets) or 1
            loss = loss_function(call_model(model, move_batch(inputs, device)), move_batch(targets, device))
            with _naming_the_cause():
                slopes = torch.autograd.grad(loss, unique, create_graph=True, materialize_grads=True)
            slope_of = {id(weight): slope for weight, slope in zip(unique, slopes, strict=True)}
            for fqn in fqns:
                slope, outputs = slope_of[id(weights[fqn])], placed[fqn].projection.outputs
                for number in range(n_vectors):
                    generator = streams.generator(fqn, index, number)
                    with _naming_the_cause():
                        product = _sign_product(slope, weights[fqn], outputs, generator)
                    totals[fqn] += size * product / n_vectors
                    on_vector()
            n_samples += size
    for fqn, total in totals.items():
        if not math.isfinite(total):
            raise NumericsError(
                f"{fqn}: the estimated trace of the loss's Hessian is {total}, expected a finite number",
                hint="check that the loss is finite, or use a ranking and a strategy other than 'hessian'",
            )
    return {fqn: total / max(n_samples, 1) for fqn, total in totals.items()}


def _sign_product(slope: Tensor, weight: Tensor, outputs: tuple[int, int] | None, generator: torch.Generator) -> float:
    """Return ``v' H v`` for the Hessian ``H`` of the loss with respect to `weight`, and a vector ``v``.

    The elements of ``v`` in the rows `outputs` of the weight are random signs, all other elements are 0.

    Args:
        slope: Gradient of the loss with respect to the weight. Its autograd graph must exist.
        weight: Weight with respect to which the Hessian is computed.
        outputs: First row and end row (exclusive) of the weight; None = all rows.
        generator: Source of the random signs.
    """
    part = slice(None) if outputs is None else slice(*outputs)
    if not slope.requires_grad:  # the loss is linear in all weights, or does not depend on them
        return 0.0
    signs = torch.randint(0, 2, slope[part].shape, generator=generator).mul_(2).sub_(1).to(slope)
    (curved,) = torch.autograd.grad((slope[part] * signs).sum(), weight, retain_graph=True, allow_unused=True)
    if curved is None:
        _check_differentiable(slope)
        return 0.0  # the loss is linear in this weight
    return float((curved[part] * signs).sum())


def _check_differentiable(slope: Tensor) -> None:
    """Check that the autograd graph of a gradient contains no function that cannot be differentiated again.

    Without this check, PyTorch would treat the result of such a function as a constant when it differentiates the gradient.

    Raises:
        RuntimeError: The graph contains such a function.
    """
    seen: set[Any] = set()
    waiting: list[Any] = [slope.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        if node.name() == "torch::autograd::Error":
            raise RuntimeError(
                "the network contains a custom autograd function that is decorated with once_differentiable"
            )
        seen.add(node)
        waiting += [each for each, _ in node.next_functions]


def _find_placed(model: nn.Module, fqns: Sequence[str]) -> dict[str, PlacedProjection]:
    placed = {each.fqn: each for each in find_projections(model)}
    for fqn in fqns:
        if fqn not in placed:
            raise ConfigError(
                f"Hessian: the model has no projection {fqn!r}, or the type of this layer is not registered",
                hint=suggest(fqn, placed, label="projections"),
            )
        if placed[fqn].is_computed:
            raise UnsupportedLayerError(
                f"{fqn}: the weight is computed from other parameters (parametrised), so its Hessian is not available",
                hint="exclude this layer with search.exclude, or use a ranking and a strategy other than 'hessian'",
            )
    return {fqn: placed[fqn] for fqn in fqns}


@contextmanager
def _twice_differentiable(model: nn.Module) -> Iterator[None]:
    """Inside the ``with`` block, use only PyTorch kernels that are twice differentiable.

    Fused attention is always disabled. cuDNN is disabled if the model contains recurrent layers.
    """
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if any(isinstance(module, nn.RNNBase) for module in model.modules()):
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        yield


@contextmanager
def _naming_the_cause() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise UnsupportedLayerError(
            f"Hessian: the loss of the network cannot be differentiated twice: {error}",
            hint="use the ranking 'sensitivity' or the strategy 'shared', which need no second derivatives",
        ) from error

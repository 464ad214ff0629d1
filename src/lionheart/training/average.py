"""Exponential moving average (EMA) of the weights of a network in training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import final

import torch
from torch import Tensor, nn


@final
class WeightAverage:
    """Moving average of all floating-point weights and buffers of a model.

    Args:
        model: Model whose present weights are the first value of the average.
        decay: Weight of the average in each update, 0 to 1. The first updates have smaller weights, ``(1 + n) / (10 + n)`` in
            update `n`, so that the average forgets the weights before training.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {name: live.detach().clone() for name, live in _averaged(model).items()}

    @torch.no_grad()
    def update_(self, model: nn.Module, n_steps: int) -> None:
        """Add the weights of the model after `n_steps` steps to the average."""
        share = 1 - min(self.decay, (1 + n_steps) / (10 + n_steps))
        live = model.state_dict()
        for name, mean in self.state.items():
            mean.lerp_(live[name], share)

    @torch.no_grad()
    def load_(self, state: Mapping[str, Tensor]) -> None:
        """Continue from the state of another average of the same model, such as one that was read from a file."""
        for name, mean in self.state.items():
            mean.copy_(state[name])

    @torch.no_grad()
    def put_(self, model: nn.Module) -> None:
        """Copy the average into the model in place."""
        live = model.state_dict()
        for name, mean in self.state.items():
            live[name].copy_(mean)

    @contextmanager
    def used_by(self, model: nn.Module) -> Iterator[None]:
        """Let the model have the averaged weights within the context."""
        kept = {name: live.detach().clone() for name, live in _averaged(model).items()}
        self.put_(model)
        try:
            yield
        finally:
            live = model.state_dict()
            with torch.no_grad():
                for name, before in kept.items():
                    live[name].copy_(before)


def _averaged(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights and buffers that are averaged. A limit of infinity has no average."""
    return {
        name: live
        for name, live in model.state_dict().items()
        if live.is_floating_point() and bool(live.isfinite().all())
    }

"""Copies of models."""

from __future__ import annotations

import copy

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves


def copy_model(model: nn.Module) -> nn.Module:
    """Return a deep copy of a model. Tensors in its attributes that PyTorch has computed are copied without their graphs."""
    values = [value for module in model.modules() for value in vars(module).values()]
    computed = [each for each in tree_leaves(values) if isinstance(each, Tensor) and not each.is_leaf]
    return copy.deepcopy(model, {id(each): each.detach().clone() for each in computed})

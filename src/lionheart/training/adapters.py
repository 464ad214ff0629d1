"""Low-rank adapters (LoRA): small digital layers that are trained while the weights on the tiles stay as they are."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import final

import torch
from torch import Tensor, nn

from lionheart.errors import ConfigError, UnsupportedLayerError, suggest

#: Modules that read the weights of their linear layers without calling the layers.
_READERS = (nn.MultiheadAttention, nn.TransformerEncoderLayer)


@final
class AdaptedLinear(nn.Module):
    """A linear layer plus a low-rank adapter: ``base(x) + alpha / rank * up(down(x))``.

    Args:
        base: Linear layer, whose parameters are frozen.
        rank: Number of outputs of the first adapter layer.
        alpha: Scale of the adapter's outputs times the rank.
        generator: Source of the initial weights of the first adapter layer. Those of the second are 0.

    Source:
        Hu et al., arXiv:2106.09685; for analog tiles, arXiv:2411.17367.
    """

    def __init__(self, base: nn.Linear, *, rank: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__()
        device, dtype = base.weight.device, base.weight.dtype
        self.base = base.requires_grad_(False)
        self.adapter_down = nn.Linear(base.in_features, rank, bias=False, device="meta", dtype=dtype).to_empty(
            device=device
        )
        self.adapter_up = nn.Linear(rank, base.out_features, bias=False, device="meta", dtype=dtype).to_empty(
            device=device
        )
        self.scale = alpha / rank
        limit = 1 / math.sqrt(base.in_features)
        with torch.no_grad():
            drawn = torch.empty(rank, base.in_features, dtype=dtype).uniform_(-limit, limit, generator=generator)
            self.adapter_down.weight.copy_(drawn)
            self.adapter_up.weight.zero_()

    def forward(self, input: Tensor) -> Tensor:  # named as in `nn.Linear`
        """Return the outputs of the layer plus those of the adapter."""
        outputs: Tensor = self.base(input) + self.adapter_up(self.adapter_down(input)) * self.scale
        return outputs


def add_adapters_(
    model: nn.Module, layers: Iterable[str] | None = None, *, rank: int = 8, alpha: float = 32.0, seed: int = 0
) -> tuple[str, ...]:
    """Replace linear layers of a model by `AdaptedLinear` in place, and freeze all parameters except those of the adapters.

    The outputs of the model do not change. Layer ``name`` becomes ``name.base``, which can run on tiles, and the two layers
    ``name.adapter_down`` and ``name.adapter_up``, which stay digital with ``search.exclude = ["*.adapter_*"]``. Retraining then
    trains the adapters against the noise of the tiles.

    Args:
        model: Model, changed in place before it is passed to `Task`.
        layers: Fully qualified names of the linear layers; None = all linear layers that the model calls itself.
        rank: Number of outputs of the first layer of each adapter.
        alpha: Scale of the adapters' outputs times the rank.
        seed: Seed of the initial weights of the adapters.

    Returns:
        Names of the layers that have an adapter.

    Raises:
        ConfigError: A name is not that of a linear layer, or `rank` is less than 1.
        UnsupportedLayerError: A PyTorch module reads the weight of a named layer without calling the layer.
    """
    if rank < 1:
        raise ConfigError(f"add_adapters_: rank: got {rank}, expected at least 1", hint="8 is usual")
    owners = {fqn: _owner_of(model, fqn) for fqn, module in model.named_modules() if type(module) is nn.Linear and fqn}
    called = [fqn for fqn, owner in owners.items() if not isinstance(owner, _READERS)]
    chosen = called if layers is None else list(layers)
    for fqn in chosen:
        if fqn not in owners:
            raise ConfigError(
                f"add_adapters_: got {fqn!r}, expected the name of a linear layer",
                hint=suggest(fqn, owners, label="linear layers"),
            )
        if isinstance(owners[fqn], _READERS):
            raise UnsupportedLayerError(
                f"add_adapters_: {fqn}: {type(owners[fqn]).__name__} reads the weight of this layer without calling it",
                hint="use a module that calls its linear layers, such as those of Hugging Face",
            )
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for fqn in chosen:
        base: nn.Linear = model.get_submodule(fqn)  # type: ignore[assignment]
        adapted = AdaptedLinear(base, rank=rank, alpha=alpha, generator=generator)
        setattr(owners[fqn], fqn.rpartition(".")[2], adapted.train(base.training))
    return tuple(chosen)


def _owner_of(model: nn.Module, fqn: str) -> nn.Module:
    return model.get_submodule(fqn.rpartition(".")[0])

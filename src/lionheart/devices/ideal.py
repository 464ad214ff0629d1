"""Settings and physics of an ideal memory device: programming is exact, and the conductance does not change."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, final

from pydantic import Field

from lionheart.devices.base import TECHNOLOGY, DeviceSpec, register_device
from lionheart.extras import lazy_import

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy_import("torch")


@final
class IdealSpec(DeviceSpec):
    """Settings of an ideal memory device: programming is exact, and the conductance does not change."""

    summary: ClassVar[str] = "ideal device without noise and drift"

    technology: Literal["ideal"] = Field("ideal", description=TECHNOLOGY)


@register_device(IdealSpec)
class IdealModel:
    """Physics of an ideal memory device, without noise and drift."""

    silent_at_zero = True
    reads_targets = False

    def program(self, g_target: Tensor, device: IdealSpec, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return a copy of the target conductances [µS] as programmed conductances, and zeros as states.

        Both tensors are shaped like `g_target`. The states are not used by `read`.
        """
        return g_target.clone(), torch.zeros_like(g_target)

    def read(
        self,
        g_programmed: Tensor,
        state: Tensor,
        device: IdealSpec,
        *,
        t_inference: float,
        generator: torch.Generator,
    ) -> Tensor:
        """Return a copy of the programmed conductances [µS], for any `t_inference`."""
        return g_programmed.clone()

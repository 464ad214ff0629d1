"""A device that takes any conductance exactly and keeps it."""

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
    """A device that takes any conductance exactly and keeps it."""

    summary: ClassVar[str] = "exact for ever"

    technology: Literal["ideal"] = Field("ideal", description=TECHNOLOGY)


@register_device(IdealSpec)
class IdealModel:
    """Neither noise nor drift."""

    silent_at_zero = True
    reads_targets = False

    def program(self, g_target: Tensor, device: IdealSpec, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the targets and a state of zeros."""
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
        """Return what was programmed."""
        return g_programmed.clone()

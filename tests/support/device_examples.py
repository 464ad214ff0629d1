"""Devices for tests: an example of every technology, and statistics of what they draw."""

from dataclasses import dataclass, field
from typing import Any

import torch
from scipy import stats
from torch import Tensor

from lionheart.devices import DEVICES, DeviceModel, DeviceSpec, find_device_model

N = 200_000
HOUR, YEAR = 3600.0, 365 * 86400.0
G_MAX = 25.0  # of all examples [µS]
DRIFT_TABLE = ((0.0, 0.09, 0.04), (10.0, 0.05, 0.01), (25.0, 0.03, 0.006))


def ranks(spread: float) -> tuple:
    """Quantiles of a uniform distribution around 0.9 and 0.5 times the target, at 1 s and 100 s."""
    return tuple(
        tuple(tuple(max(share * g + spread * (i / 50 - 1), 0.0) for i in range(101)) for share in (0.9, 0.5))
        for g in (0.0, 10.0, 25.0)
    )


SAMPLES = {"targets": (0.0, 10.0, 25.0), "times": (1.0, 100.0), "quantiles": ranks(2.0)}
CLEAN = tuple((tuple([g] * 2),) * 2 for g in (0.0, 10.0, 25.0))


@dataclass(frozen=True)
class Example:
    """How the contract of all technologies is checked for one of them.

    Args:
        settings: What must be given, and a range of 0 .. 25 µS.
        silent: Switches all noise and drift off; None: each setting whose name ends in ``_scale`` is 0.
        t_inference: A time at which it can be read [s].
        lowest: Conductance that nothing is below [µS].
        programs_randomly: Whether programming draws noise.
        reads_randomly: Whether reading draws noise.
        state_is_target: The state that reading starts from is the target; else zeros are no drift.
        tolerance: Of what should be exact when all is switched off [µS].
    """

    settings: dict[str, Any] = field(default_factory=lambda: {"g_min": 0.0, "g_max": G_MAX})
    silent: dict[str, Any] | None = None
    t_inference: float = HOUR
    lowest: float = 0.0
    programs_randomly: bool = True
    reads_randomly: bool = True
    state_is_target: bool = False
    tolerance: float = 0.0


#: Technologies that are not checked as every other one is.
_SPECIAL: dict[str, Example] = {
    "ideal": Example(programs_randomly=False, reads_randomly=False),
    "pcm_custom_drift": Example({"drift_table": DRIFT_TABLE}),
    "reram_wan2022": Example(t_inference=86400.0, state_is_target=True),
    "reram_cmo": Example(lowest=-0.01),  # 0.02 % noise at 0, which is off its range
    "table": Example(
        {
            "programming_noise": (0.3, 1.0),
            "drift_nu_mean": ((0.0, 0.08), (25.0, 0.04)),
            "drift_nu_sigma": (0.005,),
            "read_noise": ((0.0, 0.05), (25.0, 0.2)),
        }
    ),
    # interpolates between the targets that were measured
    "samples": Example(SAMPLES, {"quantiles": CLEAN}, 50.0, reads_randomly=False, tolerance=1e-5),
}


def example_of(technology: str) -> Example:
    """Return how a technology is checked; one that nothing is said about is checked as PCM is."""
    return _SPECIAL.get(technology, Example())


def silence(technology: str) -> dict[str, Any]:
    """Return the settings that switch all noise and drift of a technology off."""
    special = example_of(technology).silent
    fields = DEVICES.find(technology).spec.model_fields
    return {name: 0.0 for name in fields if name.endswith("_scale")} if special is None else special


def example(technology: str, **changes: object) -> tuple[DeviceModel, DeviceSpec]:
    """Return physics and settings of an example of a technology."""
    device = DeviceSpec(technology=technology, **{**example_of(technology).settings, **changes})
    return find_device_model(device), device


def seeded(seed: int = 1) -> torch.Generator:
    """Return a generator with a seed."""
    return torch.Generator().manual_seed(seed)


def targets(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return conductances from 0 to g_max, both ends included."""
    g = torch.rand(*shape, generator=seeded(99), dtype=dtype) * G_MAX
    g.view(-1)[0], g.view(-1)[-1] = 0.0, G_MAX
    return g


def fits(samples: Tensor, distribution: stats.distributions.rv_frozen) -> bool:
    """Whether a one-sample Kolmogorov-Smirnov test lets `samples` pass as drawn from `distribution`."""
    return bool(stats.kstest(samples.double().numpy(), distribution.cdf).pvalue > 0.01)


def normal(mean: float, sigma: float) -> stats.distributions.rv_frozen:
    """Return a normal distribution."""
    return stats.norm(mean, sigma)

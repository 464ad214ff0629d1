"""Settings of a search."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from lionheart.spec import Spec
from lionheart.units import parse_duration

Seconds = Annotated[float, BeforeValidator(lambda value: parse_duration(value))]


class SearchSpec(Spec):
    """What must hold, when, how sure, and what it may cost."""

    max_drop_pp: float = Field(
        1.0, gt=0, lt=100, description="largest drop of mean validation accuracy against the digital network [pp]"
    )
    t_inference: Seconds = Field(86_400.0, ge=0, description="when the bound must hold, after programming [s]")
    lifetime: Seconds | None = Field(
        None,
        gt=0,
        description="the bound must hold at every time up to this age [s], not only at t_inference; None = not",
    )
    confidence_level: float | None = Field(
        None,
        gt=0.5,
        lt=1,
        description="probability with which the bound must hold on other chips and samples: a decision compares the upper "
        "confidence bound of the drop with max_drop_pp, and a hold-out test on unused validation samples confirms the mapping; "
        "None = the estimated drop decides",
    )
    chip_yield: float | None = Field(
        None,
        gt=0.5,
        lt=1,
        description="share of chips that must keep the bound, each by itself; None = their mean must",
    )
    strategy: str = Field(
        "lionheart",
        description="how candidates are tried; lionheart is the paper's greedy, `lionheart map --help` lists all",
    )
    objective: Literal["macs", "weights", "time", "energy"] = Field(
        "macs",
        description="what the search makes small within the bound: MACs or weights on digital cores, time or energy of one "
        "inference (on the first platform)",
    )
    max_tiles: int | None = Field(
        None, ge=0, description="most tiles that all analog projections together may take; None = no limit"
    )
    ranking: str = Field(
        "objective",
        description="order in which candidates are tried: objective (what saves most of it), or a name that "
        "`lionheart map --help` lists",
    )
    tune_compensation: bool = Field(
        False,
        description="after the search, give each layer the cheapest column calibration, drift compensation and input range, up "
        "to the tile's own, that keep the bound",
    )
    refresh_interval: bool = Field(
        False, description="after the search, find up to which age chips keep the bound, ten years at most"
    )
    include: tuple[str, ...] = Field(
        (), description="rules (name, shell pattern, re:REGEX, kind:KIND) of projections that may go analog; none = all"
    )
    exclude: tuple[str, ...] = Field((), description="rules of projections that stay digital")
    n_chips: int = Field(20, ge=1, description="fresh chips for each decision")
    n_chips_final: int = Field(20, ge=1, description="fresh chips for the final figures on validation and test")
    report_times: tuple[Seconds, ...] = Field(
        (1.0, 3_600.0, 86_400.0, 2_592_000.0, 31_536_000.0), description="times of the final figures on test [s]"
    )
    interval_coverage: float = Field(
        0.95, gt=0, lt=1, description="coverage probability of the reported confidence intervals"
    )
    validation_samples: int | None = Field(
        None, ge=1, description="validation samples for each decision; None = all of them"
    )
    final_samples: int | None = Field(
        None,
        ge=1,
        description="validation and as many test samples, the first of each, for the final figures; None = all of them",
    )
    max_epochs: int | None = Field(
        None, ge=1, description="budget: retraining epochs of the whole run; None = no limit"
    )
    max_minutes: float | None = Field(
        None, gt=0, description="budget: minutes of the whole search, resumed time included; None = no limit"
    )

    def decision_times(self) -> tuple[float, ...]:
        """Return the times at which the bound must hold [s]: `t_inference`, or a time in each decade up to `lifetime`."""
        if self.lifetime is None:
            return (self.t_inference,)
        first = min(1.0, self.lifetime)
        n_decades = math.ceil(math.log10(self.lifetime / first))
        return tuple(dict.fromkeys([*(first * 10.0**k for k in range(n_decades)), self.lifetime]))


class ParetoSpec(Spec):
    """What a front of mappings weighs against the accuracy, and how many mappings it may measure."""

    objective: Literal["macs", "weights", "time", "energy"] = Field(
        "macs",
        description="made small beside the loss of accuracy: macs or weights (left on digital cores), time or energy "
        "(of one inference, on the first of the platforms); search.max_tiles limits the tiles",
    )
    n_trials: int = Field(60, ge=1, description="mappings that are measured; fewer where a network has fewer")
    bounds_pp: tuple[Annotated[float, Field(gt=0, lt=100)], ...] = Field(
        (0.5, 1.0, 2.0, 5.0), description="drops of accuracy for each of which the front's best mapping is written [pp]"
    )

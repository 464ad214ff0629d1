"""Settings of a mapping search, and of a Pareto front between a cost and the accuracy drop."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from lionheart.devices import ReadPolicy
from lionheart.errors import ConfigError
from lionheart.metrics import read_bound
from lionheart.spec import Spec
from lionheart.units import parse_duration

Seconds = Annotated[float, BeforeValidator(lambda value: parse_duration(value))]
Drop = Annotated[float | str, BeforeValidator(read_bound)]  # number, or text with a unit


def _refuse_both(pp: Any, info: ValidationInfo, general: str) -> Any:
    """Raise a `ConfigError` if a bound in pp is given together with the bound `general`, which was validated before."""
    other = info.data.get(general)
    if pp is not None and other is not None:
        raise ConfigError(
            f"got {pp!r} together with {general}={other!r}, expected one of the two",
            hint=f"give {general}, which takes any unit, or {info.field_name}, which is in percentage points",
        )
    return pp


_ROWS = ReadPolicy(row_copies=256)  # as many as fit on the rows of any usual tile


class SearchSpec(Spec):
    """Settings of a search: the bound on the accuracy drop, the strategy, the evaluation of a mapping, and the budget."""

    max_drop: Drop | None = Field(
        None,
        description="largest drop of the validation metric against the digital network: a number in the unit of the metric's "
        "drop (pp for an accuracy), a number with this unit ('0.1 mm'), or a share of the digital value ('2 % rel'); None = "
        "max_drop_pp",
    )
    max_drop_pp: float | None = Field(
        None,
        gt=0,
        lt=100,
        description="largest drop of mean validation accuracy against the digital network [pp]; None without max_drop = 1 pp, "
        "or 1 % of the digital value for a metric that is not in percent",
    )
    t_inference: Seconds = Field(86_400.0, ge=0, description="time since programming at which the bound must hold [s]")
    lifetime: Seconds | None = Field(
        None,
        gt=0,
        description="age up to which the bound must hold at every time [s]; None = only at t_inference",
    )
    confidence_level: float | None = Field(
        None,
        gt=0.5,
        lt=1,
        description="probability with which the bound must hold on other chips and samples: a decision compares the upper "
        "confidence bound of the drop with max_drop_pp, and a hold-out test on unused validation samples confirms the mapping; "
        "None = the estimated drop is compared",
    )
    guarantee: float | None = Field(
        None,
        gt=0.5,
        lt=1,
        description="probability with which the bound must hold on chips and samples that decided nothing: decisions compare "
        "the estimated drop on at most a third of the validation samples, and a sequential hold-out test on the other samples "
        "and on fresh chips confirms the mapping or a smaller one; replaces confidence_level; None = nothing is confirmed",
    )
    chip_yield: float | None = Field(
        None,
        gt=0.5,
        lt=1,
        description="fraction of chips that must each be within the bound; None = the mean over chips must be within the bound",
    )
    strategy: str = Field(
        "lionheart",
        description="search strategy; lionheart is the greedy search of the paper, `lionheart map --help` lists all",
    )
    objective: Literal["macs", "weights", "time", "energy"] = Field(
        "macs",
        description="cost that the search minimises within the bound: MACs or weights on digital cores, or time or energy of "
        "one inference (on the first platform)",
    )
    max_tiles: int | None = Field(
        None, ge=0, description="largest number of tiles of all analog projections together; None = no limit"
    )
    ranking: str = Field(
        "objective",
        description="order in which candidates are tried: objective (largest saving of the objective first), or a name that "
        "`lionheart map --help` lists",
    )
    levels: tuple[ReadPolicy, ...] = Field(
        (
            ReadPolicy(),
            _ROWS,
            _ROWS.replace(n_reads=2),
            _ROWS.replace(n_reads=4),
            _ROWS.replace(column_copies=4),
            _ROWS.replace(column_copies=4, n_reads=4),
            _ROWS.replace(column_copies=16),
            _ROWS.replace(column_copies=16, n_reads=4, device_pairs=2),
        ),
        min_length=1,
        description="read policies from which the strategies `levels` and `levels-training-free` choose for each projection, "
        "from the cheapest to the most expensive; other strategies use the settings of the tile",
    )
    channel_rescaling: float | None = Field(
        None,
        ge=0,
        le=1,
        description="strength of a channel rescaling before the search: channels between a norm or projection and the "
        "projections that read it are balanced by powers of two, which leaves the outputs of the network as they are; 1 = "
        "equally large channels of the inputs, 0 = of the weights; None = no rescaling",
    )
    tune_compensation: bool = Field(
        False,
        description="after the search, choose for each layer the cheapest column calibration, drift compensation and input "
        "range that keep the drop within the bound; the settings of the tile are the upper limit",
    )
    refresh_interval: bool = Field(
        False, description="after the search, find the age up to which chips stay within the bound, at most ten years"
    )
    include: tuple[str, ...] = Field(
        (),
        description="rules (name, shell pattern, re:REGEX, type:TYPE) of projections that may become analog; empty = all",
    )
    exclude: tuple[str, ...] = Field((), description="rules of projections that stay digital")
    n_chips: int = Field(20, ge=1, description="simulated chips for each decision")
    n_chips_final: int = Field(
        20, ge=1, description="simulated chips for the final results on validation and test samples"
    )
    report_times: tuple[Seconds, ...] = Field(
        (1.0, 3_600.0, 86_400.0, 2_592_000.0, 31_536_000.0),
        description="times since programming of the final results on test samples [s]",
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
        description="number of validation samples, and of test samples, for the final results (the first ones); None = all",
    )
    max_epochs: int | None = Field(
        None, ge=1, description="budget: retraining epochs of the whole run; None = no limit"
    )
    max_minutes: float | None = Field(
        None, gt=0, description="budget: minutes of the whole search, resumed time included; None = no limit"
    )

    @field_validator("max_drop_pp", mode="after")
    @classmethod
    def _take_one_bound(cls, value: float | None, info: ValidationInfo) -> float | None:
        checked: float | None = _refuse_both(value, info, "max_drop")
        return checked

    @field_validator("guarantee", mode="after")
    @classmethod
    def _take_one_level(cls, value: float | None, info: ValidationInfo) -> float | None:
        level = info.data.get("confidence_level")
        if value is not None and level is not None:
            raise ConfigError(
                f"got {value!r} together with confidence_level={level!r}, expected one of the two",
                hint="give guarantee, which decides by the estimate, or confidence_level, which decides by confidence bounds",
            )
        return value

    def decision_times(self) -> tuple[float, ...]:
        """Return the times since programming at which the bound must hold [s], in ascending order.

        If `lifetime` is set, the times are one per decade from 1 s up to `lifetime`. Otherwise `t_inference` is the only time.
        """
        if self.lifetime is None:
            return (self.t_inference,)
        first = min(1.0, self.lifetime)
        n_decades = math.ceil(math.log10(self.lifetime / first))
        return tuple(dict.fromkeys([*(first * 10.0**k for k in range(n_decades)), self.lifetime]))


class ParetoSpec(Spec):
    """Settings of a Pareto front between a cost and the accuracy drop, e.g. the number of mappings to evaluate."""

    objective: Literal["macs", "weights", "time", "energy"] = Field(
        "macs",
        description="cost that is minimised along with the accuracy drop: macs or weights (on digital cores), time or energy "
        "(of one inference, on the first platform); search.max_tiles limits the tiles",
    )
    n_trials: int = Field(60, ge=1, description="mappings to evaluate; fewer if the network has fewer")
    bounds: tuple[Drop, ...] | None = Field(
        None,
        description="drops for each of which the best mapping of the front is written, each in one of the forms of "
        "search.max_drop; None = bounds_pp",
    )
    bounds_pp: tuple[Annotated[float, Field(gt=0, lt=100)], ...] | None = Field(
        None,
        description="accuracy drops for each of which the best mapping of the front is written [pp]; None without bounds = "
        "0.5, 1, 2 and 5 pp, or % of the digital value for a metric that is not in percent",
    )

    @field_validator("bounds_pp", mode="after")
    @classmethod
    def _take_one_list(cls, value: tuple[float, ...] | None, info: ValidationInfo) -> tuple[float, ...] | None:
        checked: tuple[float, ...] | None = _refuse_both(value, info, "bounds")
        return checked

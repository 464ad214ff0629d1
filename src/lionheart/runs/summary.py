"""The summary of a mapping run: drop against the bound, cost against the digital network, and cautions, each in words.

The terminal, ``results.json``, ``print`` and the report page show the words of this record, so they never say different things.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from lionheart.mapping import Placement
from lionheart.metrics import is_within
from lionheart.record import Record
from lionheart.runs.wording import (
    find_required,
    is_required,
    list_required_times,
    write_cautions,
    write_conclusion,
    write_headline,
    write_remarks,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lionheart.runs.costs import SystemRecord
    from lionheart.runs.records import Accuracy, Results

_SLOWER = 1.005  # smallest factor that is written as more than 1.00


class Caution(Record):
    """A sentence that a reader of the results must know, with a code that programs can test."""

    code: str = Field(description="what the caution is about, for example undecided or few_chips")
    text: str = Field(description="the sentence")


class BoundCheck(Record):
    """Drop of the mapped network at one time after programming, compared with the bound on the drop."""

    t_inference: float = Field(description="time since programming ended [s]")
    drop_pp: float = Field(description="drop of the mean score over chips against the digital network [pp]")
    drop_low_pp: float = Field(description="drop at the better end of the confidence interval of the mean [pp]")
    drop_high_pp: float = Field(description="drop at the worse end of the confidence interval of the mean [pp]")
    within_bound: bool = Field(description="whether `drop_pp` is within the bound")
    is_required: bool = Field(description="whether the bound must hold at this time")
    share_of_chips_within: float = Field(description="fraction of the chips whose own drop is within the bound, 0 to 1")


class SplitSummary(Record):
    """Drop of the mapped network on one data split, compared with the bound on the drop."""

    within_bound: bool = Field(
        description="whether the drop is within the bound at all times at which the bound must hold"
    )
    t_inference: float = Field(description="of these times, the time with the largest drop [s]")
    drop_pp: float = Field(description="drop at this time [pp]")
    drop_low_pp: float = Field(description="drop at the better end of the confidence interval of the mean [pp]")
    drop_high_pp: float = Field(description="drop at the worse end of the confidence interval of the mean [pp]")
    n_chips: int = Field(description="number of simulated chips")
    over_time: tuple[BoundCheck, ...] = Field(description="comparison at each measured time")


class PlatformSummary(Record):
    """Time and energy of one inference on a platform, in comparison with the all-digital network."""

    platform: str = Field(description="name of the platform")
    speedup: float = Field(description="time of the digital network divided by that of the mapped network [-]")
    energy_gain: float = Field(description="energy of the digital network divided by that of the mapped network [-]")
    slower_on_tiles: dict[str, float] = Field(
        description="analog projections that are slower than on the core: time on tiles divided by time on the core [-]"
    )
    costlier_on_tiles: dict[str, float] = Field(
        description="analog projections that take more energy than on the core: energy on tiles divided by that on the core [-]"
    )


class Summary(Record):
    """The most important results of a mapping run, as numbers and in words. It is computed from the other results."""

    max_drop_pp: float = Field(description="bound on the drop [pp]")
    t_inference: float = Field(description="time since programming at which the bound must hold [s]")
    validation: SplitSummary = Field(description="drop on validation samples against the bound")
    test: SplitSummary | None = Field(description="drop on test samples against the bound; None = not measured")
    n_analog: int = Field(description="number of analog projections")
    n_projections: int = Field(description="number of projections")
    analog_mac_share: float = Field(description="fraction of the MACs that tiles compute, 0 to 1")
    analog_weight_share: float = Field(description="fraction of the weights that tiles store, 0 to 1")
    platforms: tuple[PlatformSummary, ...] = Field(description="time and energy on each platform")
    headline: str = Field(description="the outcome in one sentence")
    remarks: tuple[str, ...] = Field(
        description="sentences about the objective, the steps after the search and the hold-out test"
    )
    cautions: tuple[Caution, ...] = Field(description="what a reader of the results must know")
    conclusion: str = Field(description="test drop against the bound, and cost against the digital network")


def summarise(results: Results) -> Summary:
    """Return the summary of the results of a mapping run."""
    measured = results.validation_over_time or (results.validation,)
    required = list_required_times(results)
    validation = _summarise_split(results, results.baseline.validation_accuracy, measured, required)
    test = None
    if results.baseline.test_accuracy is not None and find_required(results.test_over_time, required):
        test = _summarise_split(results, results.baseline.test_accuracy, results.test_over_time, required)
    platforms = tuple(_summarise_platform(system) for system in results.system)
    found = [Caution(code=code, text=text) for code, text in write_cautions(results, test, platforms)]
    return Summary(
        max_drop_pp=results.max_drop_pp,
        t_inference=results.t_inference,
        validation=validation,
        test=test,
        n_analog=len(results.mapping.analog),
        n_projections=len(results.mapping.placements),
        analog_mac_share=results.analog_mac_share,
        analog_weight_share=results.analog_weight_share,
        platforms=platforms,
        headline=write_headline(results),
        remarks=tuple(write_remarks(results)),
        cautions=(*results.cautions, *found),
        conclusion=write_conclusion(results, validation, test, platforms),
    )


# -- numbers -----------------------------------------------------------------------------------------------------------


def _summarise_split(
    results: Results, baseline: float, points: Sequence[Accuracy], required: Sequence[float]
) -> SplitSummary:
    bound, metric = results.max_drop_pp, results.metric
    checks = []
    for point in points:
        low, high = sorted(metric.report_drop(baseline, end) for end in (point.low, point.high))
        drop = metric.report_drop(baseline, point.mean)
        n_within = sum(is_within(metric.report_drop(baseline, score), bound) for score in point.scores)
        checks.append(
            BoundCheck(
                t_inference=point.t_inference,
                drop_pp=drop,
                drop_low_pp=low,
                drop_high_pp=high,
                within_bound=is_within(drop, bound),
                is_required=is_required(point.t_inference, required),
                share_of_chips_within=n_within / max(len(point.scores), 1),
            )
        )
    worst = max((check for check in checks if check.is_required), key=lambda check: check.drop_pp)
    return SplitSummary(
        within_bound=worst.within_bound,
        t_inference=worst.t_inference,
        drop_pp=worst.drop_pp,
        drop_low_pp=worst.drop_low_pp,
        drop_high_pp=worst.drop_high_pp,
        n_chips=min(point.n_chips for point in points),
        over_time=tuple(checks),
    )


def _summarise_platform(system: SystemRecord) -> PlatformSummary:
    analog = [layer for layer in system.layers if layer.placement is Placement.ANALOG]
    times = {layer.fqn: _divide(layer.latency_s, layer.digital_latency_s) for layer in analog}
    energies = {layer.fqn: _divide(layer.energy_j, layer.digital_energy_j) for layer in analog}
    return PlatformSummary(
        platform=system.platform,
        speedup=system.speedup,
        energy_gain=system.energy_gain,
        slower_on_tiles={fqn: factor for fqn, factor in times.items() if factor >= _SLOWER},
        costlier_on_tiles={fqn: factor for fqn, factor in energies.items() if factor >= _SLOWER},
    )


def _divide(tiles: float, core: float) -> float:
    return tiles / core if core > 0 else 1.0

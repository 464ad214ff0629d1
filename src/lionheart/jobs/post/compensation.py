"""After the search: the cheapest digital corrections that still keep the bound, layer by layer, and how long it is kept."""

from __future__ import annotations

from collections.abc import Sequence

from lionheart.devices import TileSpec
from lionheart.jobs.context import Context
from lionheart.jobs.problem import MappingProblem
from lionheart.mapping import LayerMapping
from lionheart.metrics import is_within
from lionheart.runs import AgeTrial, CompensationTrial, RefreshInterval
from lionheart.units import format_duration, parse_duration

#: Settings of a tile that cost digital work at run time, each from the cheapest value to the most expensive.
CORRECTIONS: dict[str, tuple[str, ...]] = {
    "column_calibration": ("none", "offset", "affine"),
    "drift_compensation": ("none", "global", "per_column"),
    "input_range": ("static", "dynamic"),
}
#: Ages at which it is asked whether the bound is still kept.
AGES = ("1h", "3h", "6h", "12h", "1d", "2d", "4d", "7d", "14d", "1mo", "2mo", "3mo", "6mo", "1y", "2y", "5y", "10y")


def tune_compensation(context: Context, problem: MappingProblem, mapping: LayerMapping) -> dict[str, dict[str, str]]:
    """Give each analog layer the cheapest column calibration, drift compensation and input range that keep the bound.

    Weights and mapping stay. For each setting and each value cheaper than the tile's own, the cheapest first: all layers that
    have a more expensive value get it at once; if that is too much, one half of them and then the other, and so on, layers with
    most outputs first. Measured on the samples that decide; what is too much, until that is clear.

    Args:
        context: Of the job.
        problem: With the weights of the mapping; its layers have the chosen tiles afterwards.
        mapping: That was found.

    Returns:
        For each layer whose tile differs from the run's: the settings that differ.
    """
    search, tile, journal = context.settings.search, context.settings.tile, context.journal
    if not search.tune_compensation or not mapping.analog:
        return {}
    outputs = {node.fqn: node.n_outputs for node in context.graph.nodes}
    tiles = dict.fromkeys(sorted(mapping.analog, key=lambda fqn: -outputs[fqn]), tile)
    n_past, number = journal.count("compensation"), 0

    def keeps_bound(layers: Sequence[str], setting: str, value: str) -> bool:
        nonlocal number
        changed = {**tiles, **{fqn: tiles[fqn].replace(**{setting: value}) for fqn in layers}}
        label = f"{setting} {value} for {len(layers)} of {len(tiles)} layers"

        def measure() -> CompensationTrial:
            problem.use_tiles(changed)
            drop = problem.measure_again(mapping, ("corrections", number), label)
            return CompensationTrial(
                setting=setting,
                value=value,
                layers=tuple(layers),
                accepted=is_within(drop.drop_ucb_pp, search.max_drop_pp),
                drop_pp=drop.drop_pp,
                drop_ucb_pp=drop.drop_ucb_pp,
            )

        trial = journal.once(f"compensation {number}", CompensationTrial, measure)
        if number >= n_past:
            outcome, shown = "kept" if trial.accepted else "undone", _format_drop(context, trial.drop_pp)
            context.progress.note(f"{label}: {outcome}; drop {shown} (bound {search.max_drop_pp:g})")
        number += 1
        if trial.accepted:
            tiles.update(changed)
        return trial.accepted

    def spare(layers: Sequence[str], setting: str, value: str) -> None:
        may_go_on = number < n_past or not problem.is_out_of_budget()
        if not layers or not may_go_on or keeps_bound(layers, setting, value) or len(layers) == 1:
            return
        half = (len(layers) + 1) // 2
        spare(layers[:half], setting, value)
        spare(layers[half:], setting, value)

    for setting, values in CORRECTIONS.items():
        for value in values:
            own = getattr(tile, setting)
            if own not in values or values.index(value) >= values.index(own):
                break
            spare([fqn for fqn in tiles if getattr(tiles[fqn], setting) == own], setting, value)
    problem.use_tiles(tiles)
    return describe_tiles(tiles, tile)


def describe_tiles(tiles: dict[str, TileSpec], usual: TileSpec) -> dict[str, dict[str, str]]:
    """Return for each layer whose tile differs from the usual one the settings that do."""
    differing = {
        fqn: {name: value for name in CORRECTIONS if (value := getattr(tile, name)) != getattr(usual, name)}
        for fqn, tile in tiles.items()
    }
    return {fqn: settings for fqn, settings in differing.items() if settings}


def find_refresh_interval(context: Context, problem: MappingProblem, mapping: LayerMapping) -> RefreshInterval | None:
    """Find up to which age chips keep the bound, so that they are programmed again by then.

    The ages are the last time of the bound and those in `AGES` after it. Found by bisection, as if the drop never fell with
    age; measured on the samples that decide; what is too much, until that is clear.

    Returns:
        What was found; None where it was not asked for or nothing is analog.
    """
    search, journal = context.settings.search, context.journal
    if not search.refresh_interval or not mapping.analog:
        return None
    first = max(search.decision_times())
    ages = [first, *(age_s for text in AGES if (age_s := parse_duration(text)) > first)]
    rows: dict[float, AgeTrial] = {}
    low, high = -1, len(ages)
    while high - low > 1:
        middle = (low + high) // 2
        age_s = ages[middle]
        label = f"{format_duration(age_s)} after programming"

        def measure(age_s: float = age_s, middle: int = middle, label: str = label) -> AgeTrial:
            drop = problem.measure_again(mapping, ("age", middle), label, times=[age_s])
            within = is_within(drop.drop_ucb_pp, search.max_drop_pp)
            return AgeTrial(age_s=age_s, drop_pp=drop.drop_pp, drop_ucb_pp=drop.drop_ucb_pp, within=within)

        is_new = not journal.has(f"age {age_s}")
        row = rows[age_s] = journal.once(f"age {age_s}", AgeTrial, measure)
        if is_new:
            outcome = "within the bound" if row.within else "too much"
            shown = _format_drop(context, row.drop_pp)
            context.progress.note(f"{label}: {outcome}; drop {shown} (bound {search.max_drop_pp:g})")
        low, high = (middle, high) if row.within else (low, middle)
    return RefreshInterval(
        holds_until_s=ages[low] if low >= 0 else None,
        longest_s=ages[-1],
        measured=tuple(rows[age] for age in sorted(rows)),
    )


def _format_drop(context: Context, drop_pp: float) -> str:
    return context.task.metric.format_drop(drop_pp, sign=True)

"""Steps after a search: choose the cheapest digital corrections for each layer, and find the refresh interval.

Digital corrections are e.g. drift compensation. The refresh interval is the time after which chips must be reprogrammed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lionheart.devices import TileSpec
from lionheart.jobs.context import Context
from lionheart.jobs.problem import MappingProblem
from lionheart.mapping import LayerMapping
from lionheart.metrics import Metric, is_within
from lionheart.runs import AgeTrial, CompensationTrial, RefreshInterval
from lionheart.units import format_duration, parse_duration

#: Tile settings that cause digital operations at run time, with their values from the cheapest to the most expensive.
CORRECTIONS: dict[str, tuple[str, ...]] = {
    "column_calibration": ("none", "offset", "affine"),
    "drift_compensation": ("none", "global", "per_column"),
    "input_range": ("static", "dynamic"),
}
#: Ages at which the drop is compared with the bound to find the refresh interval.
AGES = ("1h", "3h", "6h", "12h", "1d", "2d", "4d", "7d", "14d", "1mo", "2mo", "3mo", "6mo", "1y", "2y", "5y", "10y")


def tune_compensation(context: Context, problem: MappingProblem, mapping: LayerMapping) -> dict[str, dict[str, str]]:
    """Choose for each analog layer the cheapest digital corrections with which the accuracy drop stays within the bound.

    The corrections are the tile settings `column_calibration`, `drift_compensation` and `input_range`. Weights and mapping stay
    unchanged. For each of these settings, all values that are cheaper than the value in the run's tile settings are tried,
    cheapest first. A value is first tried on all layers that still have the original value. If the drop is then beyond the
    bound, the layers are split into two halves. The value is tried on each half, and a half that fails is split again. Layers
    with the most outputs come first. Each trial uses the validation samples for decisions, and ends early once the drop
    exceeds the bound with 95 % confidence. No further value is tried once the budget of the run is spent.

    Args:
        context: Context of the job.
        problem: Model with the weights and the mapping that the search found. On return, the layers of the model have the
            chosen settings.
        mapping: Mapping that the search found.

    Returns:
        Changed tile settings of each layer, by layer name. Layers that keep the run's tile settings are left out. The result is
        empty if the setting `tune_compensation` is off or no layer is analog.
    """
    search, tile, journal = context.settings.search, context.settings.tile, context.journal
    if not search.tune_compensation or not mapping.analog:
        return {}
    outputs = {node.fqn: node.n_outputs for node in context.graph.nodes}
    usual = {fqn: mapping.tile_of(fqn, tile) for fqn in sorted(mapping.analog, key=lambda fqn: -outputs[fqn])}
    tiles = dict(usual)
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
                accepted=is_within(drop.drop_ucb_pp, context.max_drop),
                drop_pp=drop.drop_pp,
                drop_ucb_pp=drop.drop_ucb_pp,
            )

        trial = journal.once(f"compensation {number}", CompensationTrial, measure)
        if number >= n_past:
            outcome, shown = "kept" if trial.accepted else "undone", _format_drop(context, trial.drop_pp)
            context.progress.note(f"{label}: {outcome}; drop {shown} (bound {context.max_drop:g})")
        number += 1
        if trial.accepted:
            tiles.update(changed)
        return trial.accepted

    def try_cheaper(layers: Sequence[str], setting: str, value: str) -> None:
        may_go_on = number < n_past or not problem.is_out_of_budget()
        if not layers or not may_go_on or keeps_bound(layers, setting, value) or len(layers) == 1:
            return
        half = (len(layers) + 1) // 2
        try_cheaper(layers[:half], setting, value)
        try_cheaper(layers[half:], setting, value)

    for setting, values in CORRECTIONS.items():
        for value in values:
            costlier = values[values.index(value) + 1 :]
            unchanged = [fqn for fqn, each in tiles.items() if getattr(each, setting) == getattr(usual[fqn], setting)]
            try_cheaper([fqn for fqn in unchanged if getattr(usual[fqn], setting) in costlier], setting, value)
    problem.use_tiles(tiles)
    return describe_tiles(tiles, usual)


def describe_tiles(tiles: Mapping[str, TileSpec], usual: Mapping[str, TileSpec]) -> dict[str, dict[str, str]]:
    """Return, by layer name, the digital-correction settings in which the layer differs from `usual`.

    These settings are `column_calibration`, `drift_compensation` and `input_range`. Layers without a difference are left out.

    Args:
        tiles: Tile settings of each layer, by layer name.
        usual: Tile settings with which the layers are compared, by layer name.
    """
    differing = {
        fqn: {name: value for name in CORRECTIONS if (value := getattr(tile, name)) != getattr(usual[fqn], name)}
        for fqn, tile in tiles.items()
    }
    return {fqn: settings for fqn, settings in differing.items() if settings}


def find_refresh_interval(context: Context, problem: MappingProblem, mapping: LayerMapping) -> RefreshInterval | None:
    """Find the interval at which chips must be reprogrammed, i.e. the largest age with an accuracy drop within the bound.

    The age of a chip is the time since its weights were programmed. The ages that can be tested are the last time at which the
    bound on the accuracy drop must hold, and the larger ages in `AGES` at which the device can be read. The largest age within
    the bound is found by bisection, under the assumption that the accuracy drop grows with age. Each age is tested on the
    validation samples for decisions. A test ends early once the drop exceeds the bound with 95 % confidence.

    Args:
        context: Context of the job.
        problem: Model with the final weights.
        mapping: Final mapping.

    Returns:
        The interval and all tests; None if the setting `refresh_interval` is off or no projection is analog.
    """
    search, journal = context.settings.search, context.journal
    if not search.refresh_interval or not mapping.analog:
        return None
    first = max(search.decision_times())
    known = [age_s for text in AGES if context.settings.tile.can_be_read_at(age_s := parse_duration(text))]
    ages = [first, *(age_s for age_s in known if age_s > first)]
    rows: dict[float, AgeTrial] = {}
    low, high = -1, len(ages)
    while high - low > 1:
        middle = (low + high) // 2
        age_s = ages[middle]
        label = f"{format_duration(age_s)} after programming"

        def measure(age_s: float = age_s, middle: int = middle, label: str = label) -> AgeTrial:
            drop = problem.measure_again(mapping, ("age", middle), label, times=[age_s])
            within = is_within(drop.drop_ucb_pp, context.max_drop)
            return AgeTrial(age_s=age_s, drop_pp=drop.drop_pp, drop_ucb_pp=drop.drop_ucb_pp, within=within)

        is_new = not journal.has(f"age {age_s}")
        row = rows[age_s] = journal.once(f"age {age_s}", AgeTrial, measure)
        if is_new:
            outcome = "within the bound" if row.within else "beyond the bound"
            shown = _format_drop(context, row.drop_pp)
            context.progress.note(f"{label}: {outcome}; drop {shown} (bound {context.max_drop:g})")
        low, high = (middle, high) if row.within else (low, middle)
    return RefreshInterval(
        holds_until_s=ages[low] if low >= 0 else None,
        longest_s=ages[-1],
        measured=tuple(rows[age] for age in sorted(rows)),
    )


def _format_drop(context: Context, drop_pp: float) -> str:
    metric: Metric = context.task.metric
    return metric.format_drop(drop_pp, sign=True)

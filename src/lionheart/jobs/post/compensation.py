"""After the search: the cheapest digital corrections that still keep the bound, layer by layer, and how long it is kept."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from lionheart.devices import TileSpec
from lionheart.graph import LayerGraph
from lionheart.jobs.problem import MappingProblem
from lionheart.mapping import LayerMapping
from lionheart.runs import RunDirectory
from lionheart.units import format_duration, parse_duration

#: Settings of a tile that cost digital work at run time, each from the cheapest value to the dearest.
LADDERS: dict[str, tuple[str, ...]] = {
    "column_calibration": ("none", "offset", "affine"),
    "drift_compensation": ("none", "global", "per_column"),
    "input_range": ("static", "dynamic"),
}
#: Ages at which it is asked whether the bound is still kept.
AGES = ("1h", "3h", "6h", "12h", "1d", "2d", "4d", "7d", "14d", "1mo", "2mo", "3mo", "6mo", "1y", "2y", "5y", "10y")


def choose_corrections(
    problem: MappingProblem, mapping: LayerMapping, graph: LayerGraph, run: RunDirectory
) -> dict[str, dict[str, str]]:
    """Give each analog layer the cheapest column calibration, drift compensation and input range that keep the bound.

    Weights and mapping stay. For each setting and each value cheaper than the tile's own, the cheapest first: all layers that
    have a dearer value get it at once; if that is too much, one half of them and then the other, and so on, layers with most
    outputs first. Measured on the samples that decide; what is too much, until that is clear.

    Args:
        problem: With the weights of the mapping; its layers have the chosen tiles afterwards.
        mapping: That was found.
        graph: Of the network.
        run: Where trials are journalled; those made before a resume are not made again.

    Returns:
        For each layer whose tile differs from the run's: the settings that differ.
    """
    search, tile = problem.settings.search, problem.settings.tile
    if not search.choose_corrections or not mapping.analog:
        return {}
    outputs = {node.fqn: node.n_outputs for node in graph.nodes}
    tiles = dict.fromkeys(sorted(mapping.analog, key=lambda fqn: -outputs[fqn]), tile)
    past, number = [event["correction"] for event in run.events("correction")], 0

    def is_within(layers: Sequence[str], setting: str, value: str) -> bool:
        nonlocal number
        changed = {**tiles, **{fqn: tiles[fqn].replace(**{setting: value}) for fqn in layers}}
        if number < len(past):
            trial = past[number]
        else:
            begin = time.perf_counter()
            problem.use_tiles(changed)
            label = f"{setting} {value} for {len(layers)} of {len(tiles)} layers"
            drop = problem.measure_again(mapping, ("corrections", number), label)
            accepted = drop.limit_pp <= search.max_drop_pp
            trial = {
                "setting": setting,
                "value": value,
                "layers": list(layers),
                "accepted": accepted,
                "drop_pp": drop.drop_pp,
                "limit_pp": drop.limit_pp,
            }
            run.record("correction", correction=trial, elapsed_s=time.perf_counter() - begin)
            verdict, shown = "kept" if accepted else "undone", problem.task.measure.format_drop(drop.drop_pp, sign=True)
            problem.progress.note(f"{label}: {verdict}; drop {shown} (bound {search.max_drop_pp:g})")
        number += 1
        if trial["accepted"]:
            tiles.update(changed)
        return bool(trial["accepted"])

    def spare(layers: Sequence[str], setting: str, value: str) -> None:
        may_go_on = number < len(past) or not problem.is_out_of_budget()
        if not layers or not may_go_on or is_within(layers, setting, value) or len(layers) == 1:
            return
        half = (len(layers) + 1) // 2
        spare(layers[:half], setting, value)
        spare(layers[half:], setting, value)

    for setting, ladder in LADDERS.items():
        for value in ladder:
            own = getattr(tile, setting)
            if own not in ladder or ladder.index(value) >= ladder.index(own):
                break
            spare([fqn for fqn in tiles if getattr(tiles[fqn], setting) == own], setting, value)
    problem.use_tiles(tiles)
    return describe_tiles(tiles, tile)


def describe_tiles(tiles: dict[str, TileSpec], usual: TileSpec) -> dict[str, dict[str, str]]:
    """Return for each layer whose tile differs from the usual one the settings that do."""
    differing = {
        fqn: {name: value for name in LADDERS if (value := getattr(tile, name)) != getattr(usual, name)}
        for fqn, tile in tiles.items()
    }
    return {fqn: settings for fqn, settings in differing.items() if settings}


def find_reprogramming_age(problem: MappingProblem, mapping: LayerMapping, run: RunDirectory) -> dict[str, Any] | None:
    """Find up to which age chips keep the bound, so that they are programmed anew by then.

    The ages are the last time of the bound and those in `AGES` after it. Found by bisection, as if the drop never fell with
    age; measured on the samples that decide; what is too much, until that is clear.

    Returns:
        The age ``holds_until_s`` [s], None if not even the first one is within the bound; what was measured; None where it was
        not asked for or nothing is analog.
    """
    search = problem.settings.search
    if not search.find_reprogramming or not mapping.analog:
        return None
    first = max(search.decision_times())
    ages = [first, *(age_s for text in AGES if (age_s := parse_duration(text)) > first)]
    rows = {event["age"]["age_s"]: event["age"] for event in run.events("age")}
    low, high = -1, len(ages)
    while high - low > 1:
        middle = (low + high) // 2
        age_s = ages[middle]
        if age_s not in rows:
            begin, label = time.perf_counter(), f"{format_duration(age_s)} after programming"
            drop = problem.measure_again(mapping, ("age", middle), label, times=[age_s])
            within = drop.limit_pp <= search.max_drop_pp
            rows[age_s] = {"age_s": age_s, "drop_pp": drop.drop_pp, "limit_pp": drop.limit_pp, "within": within}
            run.record("age", age=rows[age_s], elapsed_s=time.perf_counter() - begin)
            verdict = "within the bound" if within else "too much"
            shown = problem.task.measure.format_drop(drop.drop_pp, sign=True)
            problem.progress.note(f"{label}: {verdict}; drop {shown} (bound {search.max_drop_pp:g})")
        low, high = (middle, high) if rows[age_s]["within"] else (low, middle)
    return {
        "holds_until_s": ages[low] if low >= 0 else None,
        "longest_s": ages[-1],
        "measured": [rows[age] for age in sorted(rows)],
    }

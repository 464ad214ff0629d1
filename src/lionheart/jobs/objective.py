"""What a run makes small: digital MACs or weights, time or energy of one inference; handed to the search as callables."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lionheart.candidates import Candidate
from lionheart.errors import ConfigError
from lionheart.graph import LayerGraph
from lionheart.jobs.settings import MapSettings
from lionheart.mapping import LayerMapping
from lionheart.search import Objective, count_digital
from lionheart.search.objective import Moves
from lionheart.system import MappingCost, SystemModel, load_platform
from lionheart.units import format_si

PRICED = {"time": ("latency_s", "s"), "energy": ("energy_j", "J")}  # objectives that need a platform: field and unit


def check_objective(where: str, name: str, settings: MapSettings) -> None:
    """Make sure that what a run makes small has a price.

    Raises:
        ConfigError: It needs a platform and there is none.
    """
    if name in PRICED and not settings.platforms:
        raise ConfigError(
            f"{where}: got {name!r} but no platform to price it", hint="name one in platforms, or take macs"
        )


def find_system(graph: LayerGraph, candidates: Sequence[Candidate], settings: MapSettings) -> SystemModel | None:
    """Return the prices of mappings on the first platform; None without a platform."""
    if not settings.platforms:
        return None
    partitions = {each.node.fqn: each.partition for each in candidates}
    return SystemModel(graph, load_platform(settings.platforms[0]), partitions, tile=settings.tile)


def make_objective(
    graph: LayerGraph, candidates: Sequence[Candidate], settings: MapSettings, name: str | None = None
) -> Objective:
    """Return what a search makes small, with the limit of tiles.

    Args:
        graph: The network.
        candidates: With their tiles; those that must stay digital too.
        settings: ``search.objective``, ``search.max_tiles`` and the first platform.
        name: Of another objective than the settings'.

    Raises:
        ConfigError: It needs a platform and there is none.
    """
    name, max_tiles = name or settings.search.objective, settings.search.max_tiles
    n_tiles = {each.node.fqn: each.partition.n_tiles for each in candidates}
    if name not in PRICED:
        worth = {node.fqn: node.weights if name == "weights" else node.macs for node in graph.nodes}
        return Objective(count_digital(worth), n_tiles, name=name, max_tiles=max_tiles)
    check_objective("search.objective", name, settings)
    system = find_system(graph, candidates, settings)
    if system is None:
        raise ConfigError(f"search.objective: got {name!r}, expected a platform", hint="name one in platforms")
    field, unit = PRICED[name]
    return Objective(
        _price_on(system, field),
        n_tiles,
        name=name,
        max_tiles=max_tiles,
        may_lose=True,
        show=lambda cost: format_si(cost, unit, 2),
    )


def _price_on(system: SystemModel, field: str) -> Callable[[LayerMapping], Moves]:
    def price(mapping: LayerMapping) -> Moves:
        tracker = system.track(mapping)

        def after(*fqns: str) -> float:
            cost: MappingCost = tracker.with_change(*fqns) if fqns else tracker.cost
            return cost.latency_s if field == "latency_s" else cost.energy_j

        return after

    return price

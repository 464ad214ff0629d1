"""The objective of a run, i.e. the cost that the run minimises.

The cost is the number of MACs or weights on digital cores, or the time or energy of one inference on a platform.
"""

from __future__ import annotations

from collections.abc import Callable

from lionheart.devices import ReadPolicy, TileSpec
from lionheart.errors import ConfigError
from lionheart.jobs.backend import DEFAULT_BACKEND
from lionheart.jobs.context import Context
from lionheart.jobs.settings import MapSettings
from lionheart.mapping import LayerMapping
from lionheart.search import STRATEGIES, Objective, SearchSpec, count_digital
from lionheart.search.objective import Moves
from lionheart.system import MappingCost, SystemModel, load_platform
from lionheart.units import format_si

PRICED = {"time": ("latency_s", "s"), "energy": ("energy_j", "J")}  # objectives that need a platform: field and unit


def check_objective(where: str, name: str, settings: MapSettings) -> None:
    """Check that the settings name a platform if the cost to minimise is time or energy.

    Args:
        where: Name of the setting that holds the objective, for the error message.
        name: Name of the cost to minimise: ``macs``, ``weights``, ``time`` or ``energy``.
        settings: Settings of the job.

    Raises:
        ConfigError: The objective needs a platform and the settings name none.
    """
    if name in PRICED and not settings.platforms:
        raise ConfigError(
            f"{where}: got {name!r}, which needs a platform, but the setting 'platforms' is empty",
            hint=f"add a platform to 'platforms' (names: lionheart platforms), or use {where}='macs'",
        )


def find_system(context: Context) -> SystemModel | None:
    """Return the model of time and energy on the first platform in the settings, or None if no platform is set."""
    platforms = context.settings.platforms
    if not platforms:
        return None
    tile = context.settings.tile
    return SystemModel(context.graph, load_platform(platforms[0]), context.partitions, tile=tile)


def make_objective(context: Context, name: str | None = None) -> Objective:
    """Return the objective of a search: the cost to minimise, and the limit on the number of tiles.

    Args:
        context: Context of the job. Its settings contain the objective, the limit on the number of tiles and the platforms.
        name: Name of the objective; None = the objective in the settings.

    Raises:
        ConfigError: The objective needs a platform and the settings name none.
    """
    search = context.settings.search
    name, max_tiles = name or search.objective, search.max_tiles
    n_tiles = {fqn: partition.n_tiles for fqn, partition in context.partitions.items()}
    system = find_system(context) if name in PRICED or len(list_levels(context.settings)) > 1 else None
    if name not in PRICED:
        worth = {node.fqn: node.weights if name == "weights" else node.macs for node in context.graph.nodes}
        price_level = None if system is None else _price_levels_on(system)
        return Objective(count_digital(worth), n_tiles, name=name, max_tiles=max_tiles, price_level=price_level)
    check_objective("search.objective", name, context.settings)
    if system is None:
        raise ConfigError(
            f"search.objective: got {name!r}, which needs a platform, but the setting 'platforms' is empty",
            hint="add a platform to 'platforms' (names: lionheart platforms), or use search.objective='macs'",
        )
    field, unit = PRICED[name]
    return Objective(
        _price_on(system, field),
        n_tiles,
        name=name,
        max_tiles=max_tiles,
        may_lose=True,
        show=lambda cost: format_si(cost, unit, 2),
        price_level=_price_levels_on(system),
    )


def list_levels(settings: MapSettings) -> tuple[ReadPolicy, ...]:
    """Return the read policies that the strategy of a run chooses from; only that of the tile if it does not choose.

    Other backends than the default one do not compute the default levels: they use the policy of the tile instead.
    """
    search, only = settings.search, (ReadPolicy(),)
    if not STRATEGIES.find(search.strategy).chooses_levels:
        return only
    is_default = search.levels == SearchSpec.model_fields["levels"].default
    return only if is_default and settings.backend != DEFAULT_BACKEND else search.levels


def _price_levels_on(system: SystemModel) -> Callable[[str, ReadPolicy], float]:
    """Return a function of a projection and a read policy that returns the time of the projection on tiles [s]."""
    usual = system.tiles.usual or TileSpec()
    return lambda fqn, level: system.analog_cost(fqn, level.apply(usual)).latency_s


def _price_on(system: SystemModel, field: str) -> Callable[[LayerMapping], Moves]:
    def price(mapping: LayerMapping) -> Moves:
        usual = system.tiles.usual or TileSpec()
        own = {fqn: mapping.tile_of(fqn, usual) for fqn in mapping.policies}
        tracker = (system.with_tiles(own) if own else system).track(mapping)

        def cost_with(*fqns: str) -> float:
            cost: MappingCost = tracker.with_change(*fqns) if fqns else tracker.cost
            return cost.latency_s if field == "latency_s" else cost.energy_j

        return cost_with

    return price


def describe_wish(settings: MapSettings) -> str:
    """Return text for a progress message that names the cost to minimise and the limit on the number of tiles.

    The text is empty for the default settings.
    """
    search = settings.search
    wish = "" if search.objective == "macs" else f"; least {search.objective}"
    wish += f" on {settings.platforms[0]}" if search.objective in PRICED else ""
    return wish if search.max_tiles is None else f"{wish}; at most {search.max_tiles} tiles"

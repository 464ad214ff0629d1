"""Fitting of layers on a limited number of tiles. Each tile is a crossbar.

Several layers may share a crossbar. Layers that do not fit stay digital, or are reprogrammed for every inference.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

from lionheart.errors import ConfigError, suggest
from lionheart.partition import TilePartition
from lionheart.system.allocation.packing import bound_crossbars, pack_tiles

_PATIENCE = 20  # number of consecutive failed packings after which no further packing is tried


@final
@dataclass(frozen=True)
class TileFit:
    """Placement of each layer's weights if the number of tiles (crossbars) is limited.

    The names of layers are in the order of the argument `partitions` of `fit_tiles`.

    Args:
        resident: Names of layers whose weights stay on tiles.
        digital: Names of layers that stay digital because they do not fit on the tiles.
        reprogrammed: Names of layers that are reprogrammed for every inference.
        crossbars: Indices of the crossbars that each layer uses, by layer name; a layer that stays digital has no entry. Layers
            with a common crossbar run one after another.
        n_crossbars: Number of crossbars in use.
        n_tiles: Number of crossbars that all layers would need if no layers shared a crossbar.
    """

    resident: tuple[str, ...]
    digital: tuple[str, ...]
    reprogrammed: tuple[str, ...]
    crossbars: Mapping[str, tuple[int, ...]]
    n_crossbars: int
    n_tiles: int


def fit_tiles(
    partitions: Mapping[str, TilePartition],
    max_tiles: int,
    order: Sequence[str] = (),
    *,
    packed: bool = True,
    reprogram: bool = False,
    together: Sequence[Sequence[str]] = (),
) -> TileFit:
    """Choose the layers whose weights stay on at most `max_tiles` crossbars, and return the placement of all layers.

    Layers are tried in the sequence given by `order`. A layer is chosen if it fits together with all layers chosen before.
    After 20 consecutive layers that did not fit, further layers are chosen only if no layers need to share a crossbar.

    The remaining layers stay digital if `reprogram` is False. Otherwise these layers use reserved crossbars among the
    `max_tiles`, one layer after another, and the chosen layers use only the other crossbars. Each such layer is
    programmed before its products in every inference. Only a layer that needs more than `max_tiles` crossbars then stays
    digital.

    Layers share crossbars only if there are too few crossbars for all chosen layers. Layers in the same group of `together`
    share crossbars first, because sharing within a group costs no time. If the crossbars are still too few, layers of different
    groups also share crossbars, in as few groups as possible.

    Args:
        partitions: Tiles of each layer, all of the same size, by layer name.
        max_tiles: Number of available crossbars.
        order: Names of layers in descending preference. Layers that are not named are tried last, in the order of `partitions`.
        packed: Whether several layers may share a crossbar.
        reprogram: Whether layers that do not fit are reprogrammed for every inference. Otherwise these layers stay digital.
        together: Groups of names of layers that never run at the same time, such as the layers of one core. The groups have no
            influence on which layers fit. A layer without a group forms its own group.

    Raises:
        ConfigError: `max_tiles` is negative, or a name in `order` is not a layer in `partitions`.
    """
    _check(partitions, max_tiles, order)
    needs = {fqn: _place({fqn: each}, packed=packed) for fqn, each in partitions.items()}
    sizes = {fqn: _count(crossbars.values()) for fqn, crossbars in needs.items()}
    possible = [fqn for fqn in dict.fromkeys([*order, *partitions]) if sizes[fqn] <= max_tiles]
    resident = _choose_resident(partitions, max_tiles, possible, sizes if reprogram else {}, packed=packed)
    turns = [fqn for fqn in partitions if fqn in possible and fqn not in resident] if reprogram else []
    free_tiles = max_tiles - max((sizes[fqn] for fqn in turns), default=0)
    crossbars = _arrange(
        {fqn: partitions[fqn] for fqn in possible if fqn in resident}, free_tiles, together, packed=packed
    )
    crossbars |= _shift({fqn: needs[fqn][fqn] for fqn in turns}, _count(crossbars.values()))
    return TileFit(
        resident=tuple(fqn for fqn in partitions if fqn in resident),
        digital=tuple(fqn for fqn in partitions if fqn not in crossbars),
        reprogrammed=tuple(turns),
        crossbars=crossbars,
        n_crossbars=_count(crossbars.values()),
        n_tiles=_count_tiles(partitions.values()),
    )


def _check(partitions: Mapping[str, TilePartition], max_tiles: int, order: Sequence[str]) -> None:
    if max_tiles < 0:
        raise ConfigError(
            f"max_tiles: got {max_tiles}, expected 0 or more",
            hint="set max_tiles to 0 or more; with 0 tiles all layers stay digital",
        )
    for fqn in order:
        if fqn not in partitions:
            raise ConfigError(
                f"order: got {fqn!r}, expected the name of a layer in `partitions`",
                hint=suggest(fqn, partitions, label="layers"),
            )


def _choose_resident(
    partitions: Mapping[str, TilePartition],
    max_tiles: int,
    ranked: Sequence[str],
    turn_sizes: Mapping[str, int],
    *,
    packed: bool,
) -> set[str]:
    """Return the names of the layers whose weights stay on tiles. Layers are tried in the order of `ranked`.

    If layers that do not stay on tiles are reprogrammed for every inference, the dict `turn_sizes` gives the number of
    crossbars that each layer needs, by layer name. Enough crossbars are then kept free for the largest of these layers, so that
    these layers can use the free crossbars one after another. If no layers are reprogrammed, `turn_sizes` is empty.
    """

    def fits(chosen: Sequence[str], *, may_share: bool) -> bool:
        free_tiles = max_tiles - max((turn_sizes.get(other, 0) for other in ranked if other not in chosen), default=0)
        tiles = {fqn: partitions[fqn] for fqn in chosen}
        return _count_tiles(tiles.values()) <= free_tiles or (may_share and _can_share(tiles, free_tiles))

    n_first = bisect.bisect_left(range(1, len(ranked) + 1), True, key=lambda n: not fits(ranked[:n], may_share=packed))
    resident = list(ranked[:n_first])
    n_failures = 0
    for fqn in ranked[n_first:]:
        if fits([*resident, fqn], may_share=packed and n_failures < _PATIENCE):
            resident.append(fqn)
            n_failures = 0
        else:
            n_failures += 1
    return set(resident)


def _arrange(
    ranked: Mapping[str, TilePartition], free_tiles: int, together: Sequence[Sequence[str]], *, packed: bool
) -> dict[str, tuple[int, ...]]:
    """Return the indices of the crossbars that each layer in `ranked` uses, by layer name.

    If `packed` is False or `free_tiles` crossbars are enough, each layer has crossbars of its own. Otherwise, the layers of
    some groups in `together` share crossbars only within their group, and the layers of all remaining groups share the other
    crossbars.
    """
    if not packed or _count_tiles(ranked.values()) <= free_tiles:
        return _place(ranked, packed=False)
    known = {fqn: number for number, group in enumerate(together) for fqn in group}
    groups: dict[int | str, dict[str, TilePartition]] = {}
    for fqn, partition in ranked.items():
        groups.setdefault(known.get(fqn, fqn), {})[fqn] = partition
    found: dict[str, tuple[int, ...]] = {}
    shared = dict(ranked)
    n_failures = 0
    for group in groups.values():
        own = _place(group, packed=True)
        n_own, rest = _count(own.values()), {fqn: each for fqn, each in shared.items() if fqn not in group}
        if n_failures < _PATIENCE and _can_share(rest, free_tiles - n_own):
            found |= _shift(own, _count(found.values()))
            shared, free_tiles, n_failures = rest, free_tiles - n_own, 0
        else:
            n_failures += 1
    return found | _shift(_place(shared, packed=True), _count(found.values()))


def _shift(crossbars: Mapping[str, tuple[int, ...]], first: int) -> dict[str, tuple[int, ...]]:
    return {fqn: tuple(first + number for number in numbers) for fqn, numbers in crossbars.items()}


def _can_share(partitions: Mapping[str, TilePartition], free_tiles: int) -> bool:
    return bound_crossbars(partitions.values()) <= free_tiles and pack_tiles(partitions).n_crossbars <= free_tiles


def _place(partitions: Mapping[str, TilePartition], *, packed: bool) -> dict[str, tuple[int, ...]]:
    """Return the indices of the crossbars that each layer in `partitions` uses, by layer name, starting at 0.

    If `packed` is True, layers may share crossbars. Otherwise each piece of a weight matrix has a crossbar of its own.
    """
    if packed:
        return dict(pack_tiles(partitions).crossbars)
    found, first = {}, 0
    for fqn, partition in partitions.items():
        found[fqn] = tuple(range(first, first + partition.n_tiles))
        first += partition.n_tiles
    return found


def _count_tiles(partitions: Iterable[TilePartition]) -> int:
    return sum(partition.n_tiles for partition in partitions)


def _count(crossbars: Iterable[Sequence[int]]) -> int:
    return 1 + max((number for numbers in crossbars for number in numbers), default=-1)

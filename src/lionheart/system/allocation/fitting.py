"""What happens when tiles run out: layers share crossbars, stay digital, or are programmed again for every inference."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

from lionheart.errors import ConfigError, suggest
from lionheart.partition import TilePartition
from lionheart.system.allocation.packing import bound_crossbars, pack_tiles

_PATIENCE = 20  # packings in a row that did not help, after which no more are tried


@final
@dataclass(frozen=True)
class TileFit:
    """Where each layer's weight is when there are only so many tiles. Names are in the order of the partitions.

    Args:
        resident: Layers whose weights stay on tiles.
        digital: Layers for which there is no room.
        reprogrammed: Layers that are programmed again for every inference.
        crossbars: Layer -> numbers of the crossbars that it uses; layers with one in common run one after another.
        n_crossbars: Crossbars in use.
        n_tiles: Crossbars that all layers would need without sharing.
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
    """Return which layers keep their weights on at most `max_tiles` crossbars, and what becomes of the others.

    Layers are taken in `order`, each if it fits beside those already taken; after 20 in a row for which packing found no room,
    no more packings are tried. The others stay digital, or with `reprogram` take turns in crossbars kept free for that: each is
    programmed before its products, in every inference; only a layer that needs more than all crossbars then stays digital.
    Crossbars are shared only if there are too few to do without: first within the groups of `together`, which costs no time,
    then by as few groups as will do.

    Args:
        partitions: The layers' tiles, all of one size.
        max_tiles: Crossbars there are.
        order: Layers by preference; those not named come last.
        packed: Whether several layers may share a crossbar.
        reprogram: Program layers without room again, instead of leaving them digital.
        together: Groups of layers that do not run at the same time, such as those of one core. Which layers have room does not
            depend on them. A layer that is in none is a group of its own.

    Raises:
        ConfigError: The limit is negative, or `order` has an unknown name.
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
        raise ConfigError(f"max_tiles: got {max_tiles}, expected 0 or more", hint="give 0 or more tiles")
    for fqn in order:
        if fqn not in partitions:
            raise ConfigError(f"order: got {fqn!r}, expected a layer", hint=suggest(fqn, partitions, label="layers"))


def _choose_resident(
    partitions: Mapping[str, TilePartition],
    max_tiles: int,
    ranked: Sequence[str],
    turn_sizes: Mapping[str, int],
    *,
    packed: bool,
) -> set[str]:
    """Return the layers that stay; room is kept for the largest of `turn_sizes` among the others."""

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
    """Return the crossbars of each layer: its own, those of its group, or those of all groups that must share."""
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
    """Return the crossbars of each layer, shared or each piece in its own."""
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

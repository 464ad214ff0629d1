"""Packing of layers into crossbars, and what happens when tiles run out."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lionheart.errors import ConfigError, TilingError
from lionheart.partition import TilePartition, partition_matrix
from lionheart.system.allocation import Packing, bound_crossbars, fit_tiles, list_pieces, pack_tiles

LAYERS = st.lists(
    st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 4)), min_size=1, max_size=8
)  # rows, cols, groups


def cut(shapes: list[tuple[int, int, int]], rows: int = 16, cols: int = 12) -> dict[str, TilePartition]:
    return {f"layer{n}": partition_matrix(*shape, rows, cols) for n, shape in enumerate(shapes)}


def single(sizes: tuple[tuple[int, int], ...], side: int) -> dict[str, TilePartition]:
    return {str(n): partition_matrix(*size, 1, side, side) for n, size in enumerate(sizes)}


def overlaps(packing: Packing) -> bool:
    """Count the layers of each device, one device at a time."""
    seen: set[tuple[int, int, int]] = set()
    for piece in packing.pieces:
        for row, col in itertools.product(range(piece.rows), range(piece.cols)):
            device = (piece.crossbar, piece.row + row, piece.col + col)
            if device in seen:
                return True
            seen.add(device)
    return False


def fewest_crossbars(sizes: tuple[tuple[int, int], ...], side: int) -> int:
    """Return the fewest crossbars, by trying every place of every piece."""
    board = {
        (rows, cols): [
            sum(1 << (r * side + c) for r in range(top, top + rows) for c in range(left, left + cols))
            for top in range(side - rows + 1)
            for left in range(side - cols + 1)
        ]
        for rows, cols in sizes
    }

    def fits(index: int, used: tuple[int, ...]) -> bool:
        if index == len(sizes):
            return True
        for number, mask in enumerate(used):
            if number and used[number - 1] == 0:
                break  # empty crossbars are alike
            for place in board[sizes[index]]:
                if not mask & place and fits(index + 1, (*used[:number], mask | place, *used[number + 1 :])):
                    return True
        return False

    return next(n for n in range(1, len(sizes) + 1) if fits(0, (0,) * n))


# --- packing ---


@settings(deadline=None, max_examples=60)
@given(LAYERS)
def test_pieces_never_overlap_and_none_is_lost(shapes: list[tuple[int, int, int]]) -> None:
    layers = cut(shapes)
    packing = pack_tiles(layers)
    assert not overlaps(packing)
    for fqn, partition in layers.items():
        assert [(p.rows, p.cols) for p in packing.pieces if p.fqn == fqn] == list_pieces(partition)
    for piece in packing.pieces:
        assert 0 <= piece.row <= 16 - piece.rows
        assert 0 <= piece.col <= 12 - piece.cols
    assert {piece.crossbar for piece in packing.pieces} == set(range(packing.n_crossbars))
    devices = sum(rows * cols * groups for rows, cols, groups in shapes)
    assert math.ceil(devices / (16 * 12)) <= bound_crossbars(layers.values()) <= packing.n_crossbars
    assert packing.n_crossbars <= sum(partition.n_tiles for partition in layers.values())
    assert packing.utilisation == pytest.approx(devices / (packing.n_crossbars * 16 * 12))
    assert pack_tiles(layers) == packing


@pytest.mark.parametrize("side", [2, 3, 4])
def test_few_pieces_are_packed_optimally(side: int) -> None:
    shapes = list(itertools.product(range(1, side + 1), repeat=2))
    sizes = [c for n in (2, 3) for c in itertools.combinations_with_replacement(shapes, n)]
    for case in sizes:
        assert pack_tiles(single(case, side)).n_crossbars == fewest_crossbars(case, side), case


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=4, max_size=5).map(tuple))
def test_five_pieces_are_packed_optimally(sizes: tuple[tuple[int, int], ...]) -> None:
    assert pack_tiles(single(sizes, 5)).n_crossbars == fewest_crossbars(sizes, 5)


def test_a_pinwheel_fills_a_crossbar() -> None:
    # no cut from side to side separates these five pieces
    packing = pack_tiles(single(((2, 3), (3, 2), (2, 3), (3, 2), (1, 1)), 5))
    assert (packing.n_crossbars, packing.utilisation) == (1, 1.0)


def test_many_pieces_go_on_shelves() -> None:
    # a depthwise convolution: 600 matrices of 9 x 1, 28 rows of 256 in a crossbar
    packing = pack_tiles(
        {"depthwise": partition_matrix(9, 1, 600, 256, 256), "fc": partition_matrix(64, 10, 1, 256, 256)}
    )
    assert packing.n_crossbars == 1
    assert not overlaps(packing)
    sizes = [(20 + n % 13, 3 + n % 23) for n in range(450)]
    big = pack_tiles({str(n): partition_matrix(*size, 1, 64, 64) for n, size in enumerate(sizes)})
    assert not overlaps(big)
    assert big.n_crossbars <= 1.25 * sum(rows * cols for rows, cols in sizes) / 64**2


def test_layers_in_one_crossbar_take_turns() -> None:
    packing = pack_tiles({"a": partition_matrix(8, 4, 1, 16, 12), "b": partition_matrix(8, 4, 1, 16, 12),
                          "c": partition_matrix(16, 12, 1, 16, 12)})  # fmt: skip
    assert packing.n_crossbars == 2
    assert not packing.can_run_together("a", "b")
    assert packing.can_run_together("a", "c")


def test_packings_that_cannot_be() -> None:
    with pytest.raises(TilingError, match="expected one size"):
        pack_tiles({"a": partition_matrix(8, 4, 1, 16, 12), "b": partition_matrix(8, 4, 1, 12, 16)})
    with pytest.raises(TilingError, match="b: got pieces with up to 20 rows"):
        pack_tiles({"b": TilePartition((20,), (4,), 1, 16, 12)})
    assert pack_tiles({}).n_crossbars == 0


# --- tiles that run out ---

THREE = cut(
    [(16, 12, 1), (16, 6, 1), (32, 6, 1)]
)  # 1, 1 and 2 tiles; the last two share crossbars: 1, half, two halves


def test_enough_tiles_are_not_shared() -> None:
    fit = fit_tiles(THREE, 4)
    assert (fit.resident, fit.digital, fit.n_crossbars, fit.n_tiles) == (tuple(THREE), (), 4, 4)
    assert fit.crossbars == {"layer0": (0,), "layer1": (1,), "layer2": (2, 3)}


def test_with_too_few_tiles_layers_share_and_then_stay_digital() -> None:
    halves = cut([(16, 6, 1)] * 4)
    assert fit_tiles(THREE, 3).crossbars == {"layer0": (0,), "layer1": (1,), "layer2": (2,)}
    assert fit_tiles(halves, 3, ["layer2"]).crossbars == {
        "layer2": (0,),
        "layer0": (1,),
        "layer1": (2,),
        "layer3": (2,),
    }
    same_core = fit_tiles(halves, 2, together=[["layer0", "layer3"], ["layer1", "layer2"]]).crossbars
    assert same_core == {"layer0": (0,), "layer1": (1,), "layer2": (1,), "layer3": (0,)}
    assert fit_tiles(THREE, 3, packed=False).digital == ("layer2",)
    two = fit_tiles(THREE, 2, ["layer2", "layer1"])  # three halves, so no room for a whole crossbar
    assert (two.resident, two.digital, two.n_crossbars) == (("layer1", "layer2"), ("layer0",), 2)
    other = fit_tiles(THREE, 2, ["layer0"])  # one whole, and a half beside which two more have no room
    assert (other.resident, other.digital, other.n_crossbars) == (("layer0", "layer1"), ("layer2",), 2)
    assert fit_tiles(THREE, 0).digital == tuple(THREE)


def test_layers_that_are_programmed_again_take_turns() -> None:
    fit = fit_tiles(THREE, 2, ["layer0"], packed=False, reprogram=True)
    # layer2 needs both crossbars, so nothing can stay
    assert (fit.resident, fit.digital, fit.n_crossbars, fit.reprogrammed) == ((), (), 2, tuple(THREE))
    assert fit.crossbars == {"layer0": (0,), "layer1": (0,), "layer2": (0, 1)}
    three = fit_tiles(THREE, 3, ["layer0"], packed=False, reprogram=True)
    assert (three.resident, three.reprogrammed, three.crossbars["layer2"]) == (
        ("layer0",),
        ("layer1", "layer2"),
        (1, 2),
    )
    assert fit_tiles(THREE, 1, packed=False, reprogram=True).digital == ("layer2",)
    assert fit_tiles(cut([(8, 6, 4), (16, 12, 1)]), 1, reprogram=True).crossbars == {"layer0": (0,), "layer1": (0,)}


@settings(deadline=None, max_examples=60)
@given(LAYERS, st.integers(0, 30), st.booleans(), st.booleans(), st.randoms(use_true_random=False))
def test_no_more_crossbars_than_there_are(
    shapes: list[tuple[int, int, int]], limit: int, packed: bool, again: bool, random: st.DataObject
) -> None:
    layers = cut(shapes)
    order = list(layers)
    random.shuffle(order)
    fit = fit_tiles(layers, limit, order, packed=packed, reprogram=again)
    assert fit.n_crossbars <= limit
    assert sorted([*fit.resident, *fit.digital, *fit.reprogrammed]) == sorted(layers)
    assert set(fit.crossbars) == {*fit.resident, *fit.reprogrammed}
    staying = {number for fqn in fit.resident for number in fit.crossbars[fqn]}
    assert staying.isdisjoint(number for fqn in fit.reprogrammed for number in fit.crossbars[fqn])
    if again:
        alone = {fqn: fit_tiles({fqn: layers[fqn]}, limit, packed=packed).digital for fqn in layers}
        assert fit.digital == tuple(fqn for fqn in layers if alone[fqn])
    if not packed:
        used = [number for fqn in fit.resident for number in fit.crossbars[fqn]]
        assert len(used) == len(set(used))


def test_limits_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match="max_tiles: got -1"):
        fit_tiles(THREE, -1)
    with pytest.raises(ConfigError, match="did you mean 'layer2'"):
        fit_tiles(THREE, 1, ["layer9"])

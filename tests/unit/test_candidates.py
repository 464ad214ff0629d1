"""Tile partitions, and which layers may not go on tiles."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from zoo import ZOO

from lionheart.candidates import find_candidates
from lionheart.deprecated import DeprecatedNameWarning
from lionheart.devices import TileSpec
from lionheart.errors import ConfigError, TilingError
from lionheart.graph import LayerGraph, trace_graph
from lionheart.partition import TilePartition, partition_matrix, split_evenly
from lionheart.tasks.images.networks.resnet import ResNet8

TILE = TileSpec.ideal(256, 256)
sizes = st.integers(1, 5_000)
limits = st.integers(1, 600)


@pytest.fixture(scope="module")
def resnet8() -> LayerGraph:
    return trace_graph(ResNet8(), torch.zeros(1, 3, 32, 32))


@given(sizes, limits)
def test_split_covers_every_line_once(size: int, largest: int):
    pieces = split_evenly(size, largest)
    ends = [sum(pieces[: index + 1]) for index in range(len(pieces))]
    covered = [line for end, piece in zip(ends, pieces, strict=True) for line in range(end - piece, end)]
    assert covered == list(range(size))


@given(sizes, limits)
def test_split_is_even_and_as_coarse_as_can_be(size: int, largest: int):
    pieces = split_evenly(size, largest)
    assert max(pieces) <= largest
    assert min(pieces) >= 1
    assert max(pieces) - min(pieces) <= 1
    assert list(pieces) == sorted(pieces, reverse=True)
    assert (len(pieces) - 1) * largest < size  # one piece fewer could not hold all lines


@pytest.mark.parametrize(
    ("size", "largest", "pieces"),
    [  # AIHWKIT 1.2.0, TileModuleArray
        (768, 256, (256,) * 3),
        (3072, 255, (237,) * 4 + (236,) * 9),
        (576, 256, (192,) * 3),
        (256, 256, (256,)),
        (257, 256, (129, 128)),
        (1, 256, (1,)),
        (3, 1, (1, 1, 1)),
    ],
)
def test_split_is_aihwkits(size: int, largest: int, pieces: tuple[int, ...]):
    assert split_evenly(size, largest) == pieces


@pytest.mark.parametrize(("size", "largest"), [(0, 256), (-3, 256), (5, 0), (5, -1)])
def test_split_refuses_what_is_not_positive(size: int, largest: int):
    with pytest.raises(TilingError, match=f"got a matrix size of {size} and a crossbar size of {largest}"):
        split_evenly(size, largest)


@given(sizes, sizes, st.integers(1, 4), limits, limits)
def test_partition_holds_every_weight_once(rows: int, cols: int, groups: int, tile_rows: int, tile_cols: int):
    partition = partition_matrix(rows, cols, groups, tile_rows, tile_cols)
    assert sum(r * c for r in partition.row_sizes for c in partition.col_sizes) * groups == rows * cols * groups
    used = rows * cols * groups
    assert partition.tile_utilisation == pytest.approx(used / (partition.n_tiles * tile_rows * tile_cols))
    assert 0 < partition.tile_utilisation <= 1


def test_partition_by_hand():
    partition = partition_matrix(576, 64, 1, 256, 256)
    assert partition == TilePartition((192, 192, 192), (64,), 1, 256, 256)
    assert partition.n_tiles == 3
    assert partition.tile_utilisation == 576 * 64 / (3 * 65_536)
    assert partition_matrix(9, 1, 8, 256, 256).n_tiles == 8  # each group has a tile of its own


def test_resnet8_candidates(resnet8: LayerGraph):
    candidates = find_candidates(resnet8, TILE)
    assert tuple(candidate.node.fqn for candidate in candidates) == resnet8.fqns
    assert all(candidate.is_mappable for candidate in candidates)
    tiles = {candidate.node.fqn: candidate.partition.n_tiles for candidate in candidates}
    assert tiles == {fqn: 1 for fqn in resnet8.fqns} | {"stack2.conv2": 2, "stack3.conv1": 2, "stack3.conv2": 3}


def test_partition_uses_rows_for_inputs_and_cols_for_outputs(resnet8: LayerGraph):
    candidate = next(c for c in find_candidates(resnet8, TileSpec.ideal(64, 8)) if c.node.fqn == "conv")
    assert (candidate.partition.row_sizes, candidate.partition.col_sizes) == ((27,), (8, 8))


def test_exclude_patterns(resnet8: LayerGraph):
    candidates = find_candidates(resnet8, TILE, exclude=["stack1.*", "fc"])
    refused = {candidate.node.fqn: candidate.reason for candidate in candidates if not candidate.is_mappable}
    assert refused == dict.fromkeys(["stack1.conv1", "stack1.conv2", "fc"], "kept digital by the user")


def test_exclude_that_matches_nothing_is_an_error(resnet8: LayerGraph):
    with pytest.raises(ConfigError, match=r"'stak1\.conv1' matches no projection") as caught:
        find_candidates(resnet8, TILE, exclude=["fc", "stak1.conv1"])
    assert "did you mean 'stack1.conv1'" in caught.value.hint


def test_a_tied_weight_is_one_candidate():
    (tied,) = find_candidates(trace_graph(ZOO["tied"].build(), ZOO["tied"].inputs), TILE)
    assert tied.is_mappable
    assert (tied.node.fqn, tied.node.aliases, tied.partition.n_tiles) == ("first", ("second",), 1)


def test_grouped_convolutions_are_mappable():
    candidates = find_candidates(trace_graph(ZOO["grouped"].build(), ZOO["grouped"].inputs), TILE)
    assert [candidate.is_mappable for candidate in candidates] == [True, True]
    assert [candidate.partition.n_tiles for candidate in candidates] == [2, 8]


def test_users_wish_comes_before_other_reasons():
    graph = trace_graph(ZOO["borrowed"].build(), ZOO["borrowed"].inputs)
    (plain,), (wished,) = find_candidates(graph, TILE), find_candidates(graph, TILE, exclude=["code"])
    assert "outside its layer" in plain.reason
    assert not plain.by_choice
    assert (wished.reason, wished.by_choice) == ("kept digital by the user", True)


def test_a_rule_knows_a_shared_weight_by_each_of_its_names():
    graph = trace_graph(ZOO["tied"].build(), ZOO["tied"].inputs)
    assert find_candidates(graph, TILE, exclude=["second"])[0].by_choice


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("fc", ["fc"]),
        ("stack3.*", ["stack3.conv1", "stack3.conv2", "stack3.shortcut.0"]),
        (r"re:^stack\d\.conv1$", ["stack1.conv1", "stack2.conv1", "stack3.conv1"]),
        ("type:lin*", ["fc"]),
    ],
)
def test_rules_of_every_form(resnet8: LayerGraph, rule: str, expected: list[str]):
    included = find_candidates(resnet8, TILE, include=[rule])
    assert [c.node.fqn for c in included if c.is_mappable] == expected
    assert {c.reason for c in included} == {"", "not included by the user"}
    excluded = find_candidates(resnet8, TILE, exclude=[rule])
    assert [c.node.fqn for c in excluded if not c.is_mappable] == expected
    assert not any(c.is_mappable for c in find_candidates(resnet8, TILE, include=[rule], exclude=[rule]))


@pytest.mark.parametrize(
    ("rule", "message", "hint"),
    [
        ("type:conf2d", "'type:conf2d' matches no projection", "type:conv2d"),
        ("re:stak", "'re:stak' matches no projection", "projections"),
        ("re:(", "not a valid regular expression", "shell pattern"),
    ],
)
def test_rules_that_match_nothing_are_errors(resnet8: LayerGraph, rule: str, message: str, hint: str):
    with pytest.raises(ConfigError) as caught:
        find_candidates(resnet8, TILE, include=[rule])
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_the_old_prefix_of_layer_types_works_with_a_warning(resnet8: LayerGraph):
    with pytest.warns(DeprecatedNameWarning, match="'kind:lin\\*' of exclude is now 'type:lin\\*'") as caught:
        found = find_candidates(resnet8, TILE, exclude=["kind:lin*"])
    assert [c.node.fqn for c in found if not c.is_mappable] == ["fc"]
    assert [each.filename for each in caught] == [__file__]  # names the caller, not the library
    with pytest.warns(DeprecatedNameWarning), pytest.raises(ConfigError, match="'type:conf2d' matches no projection"):
        find_candidates(resnet8, TILE, include=["kind:conf2d"])


def test_a_layer_with_a_forward_of_its_own_is_refused_with_the_reason():
    class Doubled(torch.nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    class Positive(torch.nn.Linear):
        def forward(self, x):
            return torch.nn.functional.linear(x, self.weight.abs(), self.bias)

    net = torch.nn.Sequential(
        Doubled(4, 3), Positive(3, 3), torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(3, 2))
    )
    own, changed, computed = find_candidates(trace_graph(net, torch.randn(1, 4)), TileSpec.ideal())
    assert own.is_mappable  # what it does around the product stays as it is
    assert "Positive overrides forward and uses the weight in 'abs'" in changed.reason
    assert "parametrised" in computed.reason

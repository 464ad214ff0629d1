"""LayerMapping: plain data that survives a round trip, and shares of work."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from zoo import ZOO

from lionheart.errors import ArtifactError, ConfigError
from lionheart.graph import LayerGraph, trace_graph
from lionheart.mapping import LayerMapping, Placement
from lionheart.record import read_record, write_record
from lionheart.tasks.images.networks.resnet import ResNet8

placements = st.dictionaries(st.text(max_size=12), st.sampled_from(Placement), max_size=8)


@pytest.fixture(scope="module")
def graph() -> LayerGraph:
    return trace_graph(ResNet8(), torch.zeros(1, 3, 32, 32))


@given(placements)
def test_json_round_trip(chosen: dict[str, Placement]):
    mapping = LayerMapping(chosen)
    again = read_record(LayerMapping, json.loads(json.dumps(write_record(mapping))), "mapping")
    assert again == mapping
    assert list(again.placements) == list(chosen)  # the network's order survives
    assert all(isinstance(place, Placement) for place in again.placements.values())


@given(placements)
def test_analog_names_are_the_analog_placements(chosen: dict[str, Placement]):
    mapping = LayerMapping(chosen)
    assert set(mapping.analog) == {fqn for fqn in chosen if mapping.is_analog(fqn)}
    assert [chosen[fqn] for fqn in mapping.analog] == [Placement.ANALOG] * len(mapping.analog)


def test_file_round_trip(graph: LayerGraph, tmp_path: Path):
    mapping = LayerMapping.from_analog(graph, ["fc", "conv"])
    mapping.save(tmp_path / "deep" / "mapping.json")
    assert LayerMapping.load(tmp_path / "deep" / "mapping.json") == mapping


def test_json_form_is_what_other_tools_read(graph: LayerGraph):
    data = write_record(LayerMapping.from_analog(graph, ["fc"]))
    assert data["schema_version"] == 1
    assert data["placements"] == dict.fromkeys(graph.fqns, "digital") | {"fc": "analog"}
    assert type(data["placements"]["fc"]) is str


def test_all_digital_and_from_analog(graph: LayerGraph):
    digital = LayerMapping.all_digital(graph)
    assert digital.analog == ()
    assert tuple(digital.placements) == graph.fqns
    chosen = LayerMapping.from_analog(graph, ["fc", "conv"])
    assert chosen.analog == ("conv", "fc")  # in the network's order, whatever the caller's
    assert tuple(chosen.placements) == graph.fqns


def test_with_placement_makes_a_new_mapping(graph: LayerGraph):
    digital = LayerMapping.all_digital(graph)
    changed = digital.with_placement("fc", Placement.ANALOG)
    assert changed.analog == ("fc",)
    assert digital.analog == ()
    assert changed.with_placement("fc", Placement.DIGITAL) == digital


def test_later_changes_of_the_callers_dict_do_not_reach_in():
    chosen = {"a": Placement.DIGITAL}
    mapping = LayerMapping(chosen)
    chosen["a"] = Placement.ANALOG
    assert mapping.analog == ()


def test_unknown_names_suggest(graph: LayerGraph):
    with pytest.raises(ConfigError, match=r"got 'stack2\.conv3'.*\n.*did you mean 'stack2\.conv"):
        LayerMapping.from_analog(graph, ["fc", "stack2.conv3"])
    with pytest.raises(ConfigError, match=r"got 'fcc'.*\n.*did you mean 'fc'"):
        LayerMapping.all_digital(graph).with_placement("fcc", Placement.ANALOG)
    assert not LayerMapping.all_digital(graph).is_analog("fcc")


def test_shares(graph: LayerGraph):
    every = LayerMapping.from_analog(graph, graph.fqns)
    assert (every.analog_mac_share(graph), every.analog_weight_share(graph)) == (1.0, 1.0)
    none = LayerMapping.all_digital(graph)
    assert (none.analog_mac_share(graph), none.analog_weight_share(graph)) == (0.0, 0.0)
    stem = LayerMapping.from_analog(graph, ["conv"])  # 27 x 16 weights, 1024 positions
    assert stem.analog_mac_share(graph) == 27 * 16 * 1024 / 12_501_632
    assert stem.analog_weight_share(graph) == 27 * 16 / 77_360


def test_tied_weight_counts_once_in_its_share():
    # Cause: a tied weight was counted for each name, against a total that counts it once: a share of 2.
    tied = trace_graph(ZOO["tied"].build(), ZOO["tied"].inputs)
    assert LayerMapping.from_analog(tied, tied.fqns).analog_weight_share(tied) == 1.0
    assert LayerMapping.from_analog(tied, tied.fqns).analog_mac_share(tied) == 1.0


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"schema_version": 2, "placements": {}}, "schema_version: got 2, expected one of 1"),
        ({"placements": {}}, "expected a mapping with schema_version"),
        ({"schema_version": 1}, "expected a mapping with placements"),
        ({"schema_version": 1, "placements": ["fc"]}, "placements: got a list, expected an object"),
        ({"schema_version": 1, "placements": {"fc": "anlog"}}, "got 'anlog', expected one of 'analog' or 'digital'"),
        ({"schema_version": 1, "placements": {"fc": None}}, "got None, expected one of"),
    ],
)
def test_damaged_data_is_an_artifact_error(data: dict, message: str):
    with pytest.raises(ArtifactError, match=message):
        read_record(LayerMapping, data, "mapping")


@pytest.mark.parametrize("text", ["[1]", "{", "", "3"])
def test_damaged_file_names_itself(text: str, tmp_path: Path):
    path = tmp_path / "mapping.json"
    path.write_text(text)
    with pytest.raises(ArtifactError, match=r"mapping\.json"):
        LayerMapping.load(path)


def test_missing_file(tmp_path: Path):
    with pytest.raises(ArtifactError, match="no such file"):
        LayerMapping.load(tmp_path / "none.json")

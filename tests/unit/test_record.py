"""Records: written as plain data, read back equal, damaged data refused with all faults named."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError, computed_field

from lionheart.errors import ArtifactError
from lionheart.record import Record, describe_schema, read_record, write_record
from lionheart.runs import RefreshInterval, Results


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Point:
    x: float
    y: int = 0


class Leaf(Record):
    """A part."""

    name: str = Field(description="of it")
    size: float = Field(1.0, description="of it")


class Tree(Record):
    """A whole."""

    colour: Colour = Field(description="of its leaves")
    leaves: tuple[Leaf, ...] = Field((), description="of it")
    place: Point = Field(Point(0.0), description="where it stands")
    more: dict[str, Any] = Field({}, description="whatever else")

    @computed_field(description="how many leaves")  # type: ignore[prop-decorator]
    @property
    def n_leaves(self) -> int:
        """How many leaves."""
        return len(self.leaves)


TREE = Tree(colour=Colour.RED, leaves=(Leaf(name="a"), Leaf(name="b", size=0.1 + 0.2)), place=Point(1.5, 2))
PLAIN = {
    "colour": "red",
    "leaves": [{"name": "a", "size": 1.0}, {"name": "b", "size": 0.30000000000000004}],
    "place": {"x": 1.5, "y": 2},
    "more": {},
    "n_leaves": 2,
}


def test_a_record_is_plain_data_and_back():
    assert TREE.to_json() == PLAIN
    assert Tree.from_json(json.loads(json.dumps(PLAIN)), "tree.json") == TREE
    assert Tree.from_json({**PLAIN, "a later version's": 1}, "tree.json") == TREE


@pytest.mark.parametrize(
    ("kind", "value", "plain"),
    [
        (Point, Point(1.0, 2), {"x": 1.0, "y": 2}),
        (tuple[Leaf, ...], (Leaf(name="a"),), [{"name": "a", "size": 1.0}]),
        (dict[str, Point], {"a": Point(1.0)}, {"a": {"x": 1.0, "y": 0}}),
        (dict[str, float], {"a": 0.1}, {"a": 0.1}),
        (Colour, Colour.BLUE, "blue"),
    ],
)
def test_collections_and_dataclasses_too(kind: Any, value: Any, plain: Any):
    assert write_record(value) == plain
    assert read_record(kind, json.loads(json.dumps(plain)), "here") == value


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_come_back_to_the_bit(value: float):
    found = read_record(Leaf, json.loads(json.dumps(write_record(Leaf(name="a", size=value)))), "here").size
    assert (found, math.copysign(1, found)) == (value, math.copysign(1, value))


def test_all_faults_are_named_at_once():
    damaged = {"colour": "green", "leaves": [{"name": 1}, {"size": "x", "name": "b"}, 3], "place": {"y": 1.5}}
    with pytest.raises(ArtifactError) as caught:
        Tree.from_json(damaged, "tree.json")
    assert caught.value.message.splitlines() == [
        "tree.json.colour: got 'green', expected one of 'red' or 'blue'",
        "tree.json.leaves[0].name: got 1, expected a text",
        "tree.json.leaves[1].size: got a str, expected a finite number",
        "tree.json.leaves[2]: got 3, expected an object",
        "tree.json.place.x: missing",
        "tree.json.place.y: got 1.5, expected a whole number",
    ]
    assert "this version of lionheart wrote" in caught.value.hint


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_never_becomes_null(value: float):
    """Was written as null where a number stood in a plain collection, and read as null, so that an option was None."""
    assert repr(write_record({"a": value})) == repr({"a": value})
    assert repr(write_record([value])) == repr([value])
    assert repr(TREE.replace(more={"a": value}).to_json()["more"]) == repr({"a": value})
    with pytest.raises(ValidationError, match="finite number"):
        Leaf(name="a", size=value)
    for kind, data in ((Leaf, {"name": "a", "size": value}), (dict[str, float | None], {"a": value})):
        with pytest.raises(ArtifactError, match="expected a finite number"):
            read_record(kind, data, "here")


def test_a_record_is_frozen_and_replaced_as_a_whole():
    with pytest.raises(ValidationError, match="frozen"):
        TREE.colour = Colour.BLUE
    blue = TREE.replace(colour=Colour.BLUE)
    assert (blue.colour, blue.leaves, TREE.colour) == (Colour.BLUE, TREE.leaves, Colour.RED)
    with pytest.raises(ValidationError):
        TREE.replace(colour="green")


def test_a_schema_has_what_the_classes_say():
    schema = describe_schema(Results)
    assert (
        schema["properties"]["max_drop_pp"]["description"]
        == "bound on the drop, in the unit of the metric's drop (pp for a share)"
    )
    assert "validation_drop_pp" in schema["properties"]  # what is computed is written too
    costs = schema["$defs"]["CostRecord"]
    assert (
        costs["description"]
        == "Time and energy of one inference, in total and by component, such as memory accesses or tiles."
    )
    assert (
        costs["properties"]["time_breakdown_s"]["description"]
        == "Part of `latency_s` for each component, by its name [s]; None = not recorded."
    )
    assert "samples" not in schema["$defs"]["Accuracy"]["properties"]  # kept in memory alone


def test_numbers_that_are_none_are_named():
    with pytest.raises(ArtifactError, match=r"it\.holds_until_s: got nan, expected a finite number"):
        RefreshInterval.from_json({"holds_until_s": float("nan"), "longest_s": 1.0}, "it")

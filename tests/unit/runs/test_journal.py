"""The journal: what was computed once is read afterwards, whatever a kill cut off; it only grows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_problem import make_accuracy

import lionheart.runs.journal
from lionheart.errors import ArtifactError
from lionheart.record import Record
from lionheart.runs import Accuracy, AgeTrial, Journal, TrainTrace
from lionheart.search import Decision

ROW = AgeTrial(age_s=3.0, drop_pp=0.1, drop_ucb_pp=0.3, within=True)
DECISION = Decision(
    index=0, fqn="L0", macs=16, accepted=True, accuracy=make_accuracy(0.1 + 0.2, scores=(0.1, 0.5)), drop_pp=1 / 3,
    drop_ucb_pp=2 / 3, train=TrainTrace(losses=(1e-300, 2.0), n_steps=2, outcome="cap"), elapsed_s=0.5, analog=("L0",),
)  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


def never() -> Record:
    raise AssertionError("computed again")


def counted(value: object) -> tuple[Callable[[], object], list[int]]:
    calls: list[int] = []

    def compute() -> object:
        calls.append(1)
        return value

    return compute, calls


# ---------------------------------------------------------------------------------------------------------------- once


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (AgeTrial, ROW),
        (Decision, DECISION),
        (dict[str, AgeTrial], {"a": ROW, "b": ROW.replace(within=False)}),
        (tuple[AgeTrial, ...], (ROW, ROW)),
        (dict[str, float], {"0": 0.1 + 0.2, "3": -1e-300}),
        (float, 0.1 + 0.2),
    ],
)
def test_it_is_computed_once_and_read_back_equal(kind: type, value: object, path: Path):
    compute, calls = counted(value)
    journal = Journal(path)
    assert not journal.has("step")
    assert journal.once("step", kind, compute) == value
    assert journal.once("step", kind, never) == value
    again = Journal(path)
    assert again.has("step")
    assert again.once("step", kind, never) == again.read("step", kind) == value
    assert len(calls) == 1
    assert [event["event"] for event in again.events()] == ["step"]


def test_a_line_says_when_it_was_and_how_long_it_took(path: Path):
    Journal(path).once("age 3.0", AgeTrial, lambda: ROW)
    (line,) = Journal(path).events()
    assert line.keys() == {"time", "event", "value", "elapsed_s"}
    assert line["value"] == ROW.to_json()
    assert line["time"].endswith("Z")
    assert line["elapsed_s"] >= 0


def test_what_fails_is_not_written_down(path: Path):
    journal = Journal(path)

    def fail() -> AgeTrial:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        journal.once("step", AgeTrial, fail)
    assert not journal.has("step")
    assert not path.exists()
    assert journal.once("step", AgeTrial, lambda: ROW) == ROW


def test_one_step_may_compute_another(path: Path):
    journal = Journal(path)
    total = journal.once("outer", float, lambda: 1.0 + journal.once("inner", float, lambda: 2.0))
    assert total == 3.0
    assert [event["event"] for event in journal.events()] == ["inner", "outer"]


def test_what_was_never_computed_cannot_be_read(path: Path):
    with pytest.raises(ArtifactError, match=r"journal\.jsonl: got no value for 'age 1\.0'"):
        Journal(path).read("age 1.0", AgeTrial)


def test_a_journal_in_memory_computes_once_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    journal = Journal(None)
    compute, calls = counted(ROW)
    assert journal.once("step 0", AgeTrial, compute) == journal.once("step 0", AgeTrial, compute) == ROW
    journal.note("finished")
    assert len(calls) == 1
    assert (journal.has("step 0"), journal.count("step"), journal.events()) == (True, 1, [])
    journal.remove()
    assert not journal.has("step 0")
    assert list(tmp_path.iterdir()) == []


def test_a_journal_that_is_not_needed_is_removed(path: Path):
    journal = Journal(path)
    journal.once("step", AgeTrial, lambda: ROW)
    journal.remove()
    journal.remove()
    assert not path.exists()
    assert not journal.has("step")


# ------------------------------------------------------------------------------------------------------ steps with numbers


def test_numbered_steps_are_counted_up_to_the_first_gap(path: Path):
    journal = Journal(path)
    assert journal.count("age") == 0
    for number in (0, 1, 3):
        journal.once(f"age {number}", AgeTrial, lambda: ROW)
    journal.once("aged 2", AgeTrial, lambda: ROW)
    assert journal.count("age") == Journal(path).count("age") == 2


def test_wall_times_add_up_by_the_name_of_the_step(path: Path):
    lines = [("age 0", 1.0), ("age 1", 2.0), ("sensitivity", 4.0), ("ages", 8.0), ("projection age", 16.0)]
    path.write_text("".join(json.dumps({"event": key, "value": 0, "elapsed_s": s}) + "\n" for key, s in lines))
    journal = Journal(path)
    assert journal.elapsed_s("age") == 3.0
    assert journal.elapsed_s("age", "sensitivity", "nothing") == 7.0
    assert journal.elapsed_s("age 1") == 2.0
    assert journal.elapsed_s("projection age") == 16.0
    assert journal.elapsed_s() == 0.0


# -------------------------------------------------------------------------------------------------------- damage and kills


@pytest.mark.parametrize(
    ("line", "faults"),
    [
        ({"value": {"age_s": 1.0, "drop_pp": "much", "within": True}}, ["drop_pp: got a str", "drop_ucb_pp: missing"]),
        ({"value": None}, ["age 7: got None, expected an object"]),
        ({"value": [ROW.to_json()]}, ["age 7: got a list, expected an object"]),
    ],
)
def test_a_damaged_line_is_named_with_its_step_and_all_its_faults(line: dict, faults: list[str], path: Path):
    path.write_text(json.dumps({"event": "age 7", **line}) + "\n")
    for ask in (lambda: Journal(path).once("age 7", AgeTrial, never), lambda: Journal(path).read("age 7", AgeTrial)):
        with pytest.raises(ArtifactError) as caught:
            ask()
        described = caught.value.message.splitlines()
        assert len(described) == len(faults)
        for fault, text in zip(faults, described, strict=True):
            assert text.startswith(f"{path}: age 7")
            assert fault in text


def test_a_cut_last_line_costs_that_line_only(path: Path):
    journal = Journal(path)
    for index in range(3):
        journal.once(f"decision {index}", Decision, lambda index=index: DECISION.replace(index=index))
    whole = path.read_bytes()
    last_line = whole.rstrip(b"\n").rfind(b"\n") + 1
    for length in range(last_line, len(whole) + 1):
        path.write_bytes(whole[:length])
        n_kept = 3 if length >= len(whole) - 1 else 2  # only the newline is missing: the event is whole
        journal = Journal(path)
        assert journal.count("decision") == n_kept
        redone = DECISION.replace(index=2, fqn="again")
        last = journal.once("decision 2", Decision, lambda redone=redone: redone)
        assert last.fqn == ("L0" if n_kept == 3 else "again")
        again = Journal(path)
        assert again.read("decision 2", Decision) == last
        assert [event["event"] for event in again.events()] == [f"decision {index}" for index in range(3)]
        assert path.read_bytes().startswith(whole[:length])  # the journal only grows


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_json_lacks_are_refused_before_writing(value: float, path: Path):
    journal = Journal(path)
    with pytest.raises(ValueError, match="not JSON compliant"):
        journal.once("sensitivity", dict[str, float], lambda: {"0": value})
    with pytest.raises(ValueError, match="not JSON compliant"):
        journal.note("decision", accuracy=value)
    assert not journal.has("sensitivity")
    assert journal.events() == []


# ------------------------------------------------------------------------------------------------------------ other events


def test_events_in_order_with_any_text(path: Path):
    journal = Journal(path)
    journal.note("resumed", text="two\nlines \u2028 µ")
    journal.once("step", AgeTrial, lambda: ROW)
    journal.note("resumed", index=1)
    assert [event["event"] for event in journal.events()] == ["resumed", "step", "resumed"]
    assert journal.events()[0]["text"] == "two\nlines \u2028 µ"
    assert len(path.read_bytes().splitlines()) == 3


def test_what_happened_is_nothing_that_was_computed(path: Path):
    journal = Journal(path)
    journal.note("step")
    assert not journal.has("step")
    assert not Journal(path).has("step")
    assert journal.once("step", AgeTrial, lambda: ROW) == ROW


def test_estimates_are_read_back_without_their_samples(path: Path):
    import torch

    samples = torch.tensor([0.0, 1.0])
    estimate = make_accuracy(0.5, n_samples=2, samples=samples)
    assert Journal(path).once("step", Accuracy, lambda: estimate) is estimate
    again = Journal(path).once("step", Accuracy, never)
    assert again == estimate
    assert (again.samples, again.n_samples) == (None, 2)


def test_an_interrupt_right_after_a_write_loses_nothing(path: Path, monkeypatch: pytest.MonkeyPatch):
    """Ctrl-C may come between the line on the disk and what the journal remembers of it."""
    journal, write = Journal(path), lionheart.runs.journal._append_line

    def write_and_stop(*args: Any) -> None:
        write(*args)
        raise KeyboardInterrupt

    journal.once("step 0", int, lambda: 1)
    with monkeypatch.context() as patch:
        patch.setattr(lionheart.runs.journal, "_append_line", write_and_stop)
        with pytest.raises(KeyboardInterrupt):
            journal.once("step 1", int, lambda: 2)
    assert journal.count("step") == 2
    assert journal.once("step 1", int, lambda: 3) == 2

"""Readable results: at most 25 lines of 80 columns, the largest rows first of all, escaped in HTML."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lionheart.tables import MOST_COLUMNS, MOST_LINES, Table, format_html, format_text


def make_table(n_rows: int, *, sizes: bool = True) -> Table:
    rows = tuple((f"layer{i}", str(i)) for i in range(n_rows))
    return Table(("layer", "size"), rows, ("size",), tuple(float(i) for i in range(n_rows)) if sizes else None)


def test_a_short_table_is_whole():
    assert format_text(["two layers", make_table(2)]) == "two layers\n\nlayer   size\nlayer0     0\nlayer1     1"


def test_of_a_long_table_the_largest_rows_are_shown_in_their_order():
    lines = format_text([make_table(60)]).splitlines()
    assert len(lines) == MOST_LINES
    assert lines[1].split() == ["layer37", "37"]
    assert lines[-2].split() == ["layer59", "59"]
    assert lines[-1] == "... 37 more"


def test_without_sizes_the_first_rows_are_shown():
    lines = format_text([make_table(60, sizes=False)]).splitlines()
    assert (lines[1].split()[0], lines[-1]) == ("layer0", "... 37 more")


def test_long_names_are_cut_in_the_middle():
    name = "encoder.layers.11." + "very_long_name." * 10 + "output.dense"
    line = format_text([Table(("layer", "runs"), ((name, "analog"),))]).splitlines()[1]
    assert len(line) <= MOST_COLUMNS
    assert line.startswith("encoder.layers.11.")
    assert "…" in line
    assert "output.dense  analog" in line


TEXTS = st.text(string.ascii_letters + " .", max_size=120)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    n_columns = draw(st.integers(1, 8))
    columns = tuple(f"c{i}" for i in range(n_columns))
    rows = draw(st.lists(st.tuples(*[TEXTS] * n_columns), max_size=60))
    return Table(columns, tuple(rows), right=columns[draw(st.integers(0, n_columns)) :])


@given(st.lists(TEXTS, max_size=5), st.lists(tables(), max_size=3))
def test_everything_fits_a_screen(texts: list[str], many: list[Table]):
    lines = format_text([*texts, *many]).splitlines()
    assert len(lines) <= MOST_LINES
    assert max(map(len, lines), default=0) <= MOST_COLUMNS


@pytest.mark.parametrize("block", ["<b>bold</b> & more", Table(("<i>",), (("<script>",),))])
def test_html_is_escaped(block: str | Table):
    page = format_html([block])
    assert "<b>" not in page
    assert "<i>" not in page
    assert "<script>" not in page
    assert "&lt;" in page

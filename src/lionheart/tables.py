"""Formatting of results as plain text of at most 25 lines and 80 columns, or as HTML for notebooks.

The functions format blocks. A block is a string or a `Table` of strings. This module does not depend on particular types
of results.
"""

from __future__ import annotations

import html
import itertools
import textwrap
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

MOST_LINES = 25
MOST_COLUMNS = 80
_LINES_OF_A_TEXT = 3
_GAP = "  "
_NARROWEST = 8  # characters that a shortened column keeps


@final
@dataclass(frozen=True)
class Table:
    """A table of strings with a heading for each column.

    Args:
        columns: Headings of the columns.
        rows: Rows with one string for each column.
        right: Headings of the columns that are right-aligned; all other columns are left-aligned.
        sizes: Importance of each row. If there is no space for all rows, the rows with the largest sizes are shown, in their
            original order. None = the first rows are shown.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: tuple[str, ...] = ()
    sizes: tuple[float, ...] | None = None

    def shorten(self, n_lines: int) -> tuple[tuple[tuple[str, ...], ...], int]:
        """Return the rows of the table that fit into `n_lines` lines, and the number of omitted rows.

        If rows are omitted, at most ``n_lines - 1`` rows are returned: one line remains for the number of omitted rows.
        """
        if len(self.rows) <= n_lines:
            return self.rows, 0
        n_shown = max(n_lines - 1, 0)
        order = range(len(self.rows))
        if self.sizes is not None:
            sizes = self.sizes
            chosen = sorted(sorted(order, key=lambda index: -sizes[index])[:n_shown])
        else:
            chosen = list(order[:n_shown])
        return tuple(self.rows[index] for index in chosen), len(self.rows) - n_shown


Block = str | Table


class Printable(ABC):
    """Base class of results that `print` and notebooks show as text and tables.

    Subclasses define the method `to_blocks`, which returns the texts and tables.
    """

    @abstractmethod
    def to_blocks(self) -> Sequence[Block]:
        """Return the strings and tables that `print` and notebooks show for the result, from top to bottom."""

    def __str__(self) -> str:
        return format_text(self.to_blocks())

    def _repr_html_(self) -> str:
        return format_html(self.to_blocks())


def format_text(blocks: Sequence[Block]) -> str:
    """Return blocks (strings and tables) as plain text of at most 25 lines and 80 columns. The rest is cut."""
    texts = {index: _wrap(block) for index, block in enumerate(blocks) if isinstance(block, str)}
    tables = {index: block for index, block in enumerate(blocks) if isinstance(block, Table) and block.rows}
    shown = [index for index in range(len(blocks)) if index in texts or index in tables]
    n_blank = sum(index in tables or before in tables for before, index in itertools.pairwise(shown))
    n_fixed = sum(map(len, texts.values())) + len(tables) + n_blank
    n_rows = _share_lines([len(table.rows) for table in tables.values()], MOST_LINES - n_fixed)
    lines: list[str] = []
    counts = dict(zip(tables, n_rows, strict=True))
    for position, index in enumerate(shown):
        if position and (index in tables or shown[position - 1] in tables):
            lines.append("")
        lines += _format_table(tables[index], counts[index]) if index in tables else texts[index]
    return "\n".join(lines[:MOST_LINES])


def format_html(blocks: Sequence[Block]) -> str:
    """Return blocks (strings and tables) as one HTML element. A table has at most 25 lines below its heading."""
    parts = []
    for block in blocks:
        if isinstance(block, str):
            parts.append(f"<p>{html.escape(block)}</p>")
        elif block.rows:
            parts.append(_table_html(block))
    return f"<div>{''.join(parts)}</div>"


def _table_html(table: Table) -> str:
    def write_row(cells: Sequence[str], tag: str) -> str:
        styles = ["right" if column in table.right else "left" for column in table.columns]
        written = [
            f'<{tag} style="text-align:{style}">{html.escape(cell)}</{tag}>'
            for cell, style in zip(cells, styles, strict=True)
        ]
        return f"<tr>{''.join(written)}</tr>"

    rows, n_more = table.shorten(MOST_LINES)
    body = [write_row(row, "td") for row in rows]
    if n_more:
        body.append(f'<tr><td colspan="{len(table.columns)}">... {n_more} more</td></tr>')
    return f"<table><thead>{write_row(table.columns, 'th')}</thead><tbody>{''.join(body)}</tbody></table>"


def _wrap(text: str) -> list[str]:
    lines = [line for part in text.splitlines() for line in textwrap.wrap(part, MOST_COLUMNS) or [""]]
    if len(lines) > _LINES_OF_A_TEXT:
        lines = lines[:_LINES_OF_A_TEXT]
        lines[-1] = f"{lines[-1][: MOST_COLUMNS - 4]} ..."
    return lines


def _share_lines(wanted: Sequence[int], n_lines: int) -> list[int]:
    """Distribute lines among tables, and return the number of lines that each table receives for its rows.

    Each table receives one line in turn, until all its rows have a line or no line remains.

    Args:
        wanted: Number of rows of each table.
        n_lines: Number of available lines. If it is less than twice the number of tables, two lines for each table are used.
    """
    given = [0] * len(wanted)
    left = max(n_lines, 2 * len(wanted))
    while left > 0 and any(have < want for have, want in zip(given, wanted, strict=True)):
        for index, want in enumerate(wanted):
            if given[index] < want and left > 0:
                given[index] += 1
                left -= 1
    return given


def _format_table(table: Table, n_lines: int) -> list[str]:
    rows, n_more = table.shorten(n_lines)
    widths = _choose_widths(table, rows)
    lines = [_format_row(cells, widths, table) for cells in (table.columns, *rows)]
    return [*lines, f"... {n_more} more"] if n_more else lines


def _choose_widths(table: Table, rows: Sequence[Sequence[str]]) -> list[int]:
    """Return the width of each column in characters, such that the table is at most 80 characters wide.

    If the table is too wide, the widest left-aligned column is narrowed step by step. If no such column has more than 8
    characters, the widest of all columns is narrowed.
    """
    widths = [max(map(len, column)) for column in zip(table.columns, *rows, strict=True)]
    left = [index for index, column in enumerate(table.columns) if column not in table.right] or [0]
    while sum(widths) + len(_GAP) * (len(widths) - 1) > MOST_COLUMNS:
        widest = max(left, key=widths.__getitem__)
        if widths[widest] <= _NARROWEST:
            widest = max(range(len(widths)), key=widths.__getitem__)
        widths[widest] -= 1
    return widths


def _format_row(cells: Sequence[str], widths: Sequence[int], table: Table) -> str:
    shown = [
        _cut(cell, width).rjust(width) if column in table.right else _cut(cell, width).ljust(width)
        for cell, width, column in zip(cells, widths, table.columns, strict=True)
    ]
    return _GAP.join(shown).rstrip()


def _cut(text: str, width: int) -> str:
    """Return `text` shortened to `width` characters. If `text` is longer, an ellipsis character replaces its middle."""
    if len(text) <= width:
        return text
    n_end = (width - 1) // 2
    return f"{text[: width - 1 - n_end]}…{text[len(text) - n_end :]}"

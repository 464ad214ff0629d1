"""Results as readable text: tables of at most 25 lines of 80 columns, and the same as HTML for notebooks.

Takes: blocks, each a sentence or a `Table` of texts. Returns: text or HTML. Must not know: what the numbers mean.
"""

from __future__ import annotations

import html
import itertools
import textwrap
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
    """Rows of texts.

    Args:
        columns: Headings.
        rows: Rows with one text for each heading.
        right: Headings of the right-aligned columns.
        sizes: Size of each row. Where there is no space for all rows, the largest ones are shown, in their order. Without
            sizes the first ones are.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: tuple[str, ...] = ()
    sizes: tuple[float, ...] | None = None

    def shorten(self, n_lines: int) -> tuple[tuple[tuple[str, ...], ...], int]:
        """Return the rows that fit into a number of lines, and how many are left out; the latter takes a line."""
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


class Printable:
    """A result that `print` and notebooks show as tables. A subclass says which ones in `to_blocks`."""

    def to_blocks(self) -> Sequence[Block]:
        """Return sentences and tables, in the order in which they are shown."""
        raise NotImplementedError

    def __str__(self) -> str:
        return format_text(self.to_blocks())

    def _repr_html_(self) -> str:
        return format_html(self.to_blocks())


def format_text(blocks: Sequence[Block]) -> str:
    """Write blocks as text of at most `MOST_LINES` lines of `MOST_COLUMNS` columns. Long tables are summarised."""
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
    """Write blocks as HTML; every text is escaped. Long tables are summarised as in text."""
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
    """Share lines among tables: each table gets one in turn until it has all its rows or no line is left."""
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
    """Return the widths of the columns; where they are too wide together, the widest left-aligned ones are cut."""
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
    """Shorten a text in its middle, where names of layers differ least."""
    if len(text) <= width:
        return text
    n_end = (width - 1) // 2
    return f"{text[: width - 1 - n_end]}…{text[len(text) - n_end :]}"

"""Output of the command line on narrow terminals."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from lionheart.cli import console as console_module
from lionheart.cli.console import NameCell, RichProgress, make_table


@pytest.mark.parametrize("text", ["search", "encoder.layer.11.attention.output.dense: 3 of 20 chips, retraining step"])
def test_the_time_left_is_shown_on_a_terminal_of_80_columns(monkeypatch: pytest.MonkeyPatch, text: str):
    # A long description took the place of the last columns.
    stream = io.StringIO()
    console = Console(file=stream, width=80, force_terminal=True, color_system=None)
    monkeypatch.setattr(console_module, "stderr", console)
    with RichProgress().bar(text, 100_000) as bar:
        bar.advance(50_000)
    shown = [line for line in stream.getvalue().split("\n") if "100000" in line]
    assert shown
    assert all("left" in line and line.rstrip().count(":") >= 2 for line in shown)


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("transformer.h.0.attn.c_attn", ["transformer", ".h.0.attn", ".c_attn"]),
        ("encoder.layers.0", ["encoder", ".layers.0"]),
        ("self_attention_layer_norm", ["self", "_attention", "_layer_norm"]),
        ("..a", ["..a"]),
        ("x" * 13, ["x" * 12, "x"]),
        ("a\x1bb", [r"a\x1bb"]),
        ("[bold]", ["[bold]"]),
    ],
)
def test_names_are_wrapped_between_words(name: str, lines: list[str]):
    console = Console(file=io.StringIO(), width=12, color_system=None)
    table = make_table("", "name")
    table.show_header = False
    table.add_row(NameCell(name))
    with console.capture() as capture:
        console.print(table)
    assert [line.rstrip() for line in capture.get().splitlines() if line.strip()] == lines

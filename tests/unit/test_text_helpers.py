"""Text of users and files: control characters are escaped, and long inputs are shortened in every message."""

from __future__ import annotations

import pytest

from lionheart.errors import ArtifactError, ConfigError
from lionheart.text import escape_controls, shorten_message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain ü µ × 模型\n\ttab", "plain ü µ × 模型\n\ttab"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("a\rb\x08c\x7f", r"a\rb\x08c\x7f"),
        ("\x9b2J", r"\x9b2J"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("a\u200bb\ufeff", r"a\u200bb\ufeff"),
        ("runs/\udcfc", r"runs/\udcfc"),
    ],
)
def test_controls_are_escaped(text: str, expected: str):
    """Names of modules and tasks were printed raw, so a run folder could clear a terminal or set the title of its window."""
    assert escape_controls(text) == expected


@pytest.mark.parametrize("error", [ArtifactError, ConfigError])
@pytest.mark.parametrize(
    "message",
    [
        f"preset: got {'x' * 21_000!r}, expected the name of a preset",
        f"{'x' * 21_000}: no such file",
        f"list: got {[0.125] * 5_000}, expected one number",
        f"task: got {'a b ' * 9_000!r}, expected a built-in task",
        "\n".join(f"key_{number}: unknown setting" for number in range(5_000)),
        'name: got "' + "it's " * 5_000 + '", expected less',
    ],
)
def test_messages_are_short(error: type[ArtifactError | ConfigError], message: str):
    """A message repeated up to 21 kB of the user's input, so that its beginning scrolled off the screen."""
    found = error(message, hint=message)
    assert len(found.message) < 2_000
    assert len(found.hint) < 2_000
    assert found.message[:8] == message[:8]
    assert found.message[-6:] in (message[-6:], " lines")


def test_usual_messages_are_kept():
    message = (
        f"/{'folder/' * 22}run.json: schema_version: got {'x' * 70!r}, expected 1\nsecond line of the model's message"
    )
    assert shorten_message(message) == message

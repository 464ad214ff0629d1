"""Functions that make text from users and from files safe to print: escaping of control characters, and shortening."""

from __future__ import annotations

import re

_MOST_QUOTED = 80  # characters of a quoted input that a message repeats
_MOST_OF_A_WORD = 300  # a path may be long, and has no spaces
_MOST_OF_A_LINE = 1_200
_MOST_LINES = 40
_QUOTED = re.compile(rf"(?<!\w)(?:'[^'\n]{{{_MOST_QUOTED + 1},}}'|\"[^\"\n]{{{_MOST_QUOTED + 1},}}\")(?!\w)")
#: Control characters, characters that reverse the direction of text or have no width, and halves of surrogate pairs.
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


def escape_controls(text: str) -> str:
    r"""Return `text` with control characters written as escape sequences of Python, such as ``\x1b``.

    A terminal would execute control characters: they change colours, the title of the window or lines that are already printed.
    Characters that reverse the direction of text and halves of surrogate pairs are escaped too. Line breaks and tabs are kept.
    """
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def shorten_message(text: str) -> str:
    """Return the message of an error in which long inputs of the user are shortened.

    A quoted input is shortened to 80 characters, a word to 300, a line to 1,200 and the message to 40 lines. An ellipsis
    replaces the middle of a shortened text.
    """
    lines = text.split("\n")
    if len(lines) > _MOST_LINES:
        lines = [*lines[: _MOST_LINES - 1], f"... and {len(lines) - _MOST_LINES + 1} more lines"]
    return "\n".join(_shorten_line(line) for line in lines)


def cut_middle(text: str, most: int) -> str:
    """Return `text` shortened to `most` characters. If it is longer, an ellipsis of three dots replaces its middle."""
    if len(text) <= most:
        return text
    n_end = (most - 3) // 2
    return f"{text[: most - 3 - n_end]}...{text[len(text) - n_end :]}"


def shorten_words(text: str, most: int) -> str:
    """Return `text`, in which three dots replace the middle of each word of more than `most` characters."""
    return re.sub(rf"\S{{{most + 1},}}", lambda found: cut_middle(found[0], most), text) if len(text) > most else text


def _shorten_line(line: str) -> str:
    if len(line) <= _MOST_QUOTED:
        return line
    line = _QUOTED.sub(lambda found: f"{found[0][0]}{cut_middle(found[0][1:-1], _MOST_QUOTED)}{found[0][0]}", line)
    return cut_middle(shorten_words(line, _MOST_OF_A_WORD), _MOST_OF_A_LINE)

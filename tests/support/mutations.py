"""Damage for files that a user or another program wrote: strategies of hypothesis that return damaged texts and bytes."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

_DEEP = 50_000

#: JSON values, as text because some of them are no Python values.
ODD_JSON = (
    "null", "true", "-1", "0", "1e400", "-1e400", "NaN", "Infinity", "-Infinity", "1e-320", "9" * 4_400, "-" + "9" * 400,
    '""', '"x"', '"\\u0000"', '"\\u001b[31m"', '"\\ud800"', '"../../victim"', '"/etc/passwd"', '"os:abort"', '"analog"',
    '"' + "y" * 21_000 + '"', '"1e9999"', '"-5 d"', '"\\u202e"', "[]", "{}", "[[]]", "[1, 2]", '{"a": 1}', "[null]",
    "[NaN]", "18446744073709551616", "0.1", "2.5e308", '{"kind": "x"}',
    "[" * _DEEP + "]" * _DEEP,
)  # fmt: skip

#: TOML values.
ODD_TOML = (
    "true", "-1", "0", "0.0", "1e400", "nan", "inf", "-inf", "9" * 4_400, '""', '"x"', "'../../victim'", '"\\u001B[31m"',
    "1979-05-27T07:32:00Z", "1979-05-27", "07:32:00", "[]", "{}", "[[]]", "[1, 2]", "{a = 1}", '["a"]', "[nan]",
    "18446744073709551616", "1e-320", '"1d"', '"-5 d"', '"' + "y" * 21_000 + '"', '"\\uFFFF"', '"nS"', "1_0", "0x1F",
    "[" * 900 + "]" * 900, "[" * _DEEP + "]" * _DEEP,
)  # fmt: skip

ODD_BYTES = (
    b"", b"\x00", b"\xff", b"\xef\xbb\xbf", b"\r", b"\xc3\x28", b"\x1b]0;title\x07", b"{", b"}", b"[", b"]", b'"', b",",
    b"\n", b"\n\n", b"9" * 4_400, b"=", b"# ", b"<script>", b"\\", b"\xed\xa0\x80", b"-", b"e999",
)  # fmt: skip

_KEYS = ("", "x", "version", "kind", "\u001b[31m", "k" * 21_000, "__class__", "../victim", "task")


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield (*path, key)
        yield from _paths(child, (*path, key))


@st.composite
def damaged_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """Return `content` with up to three pieces cut out, doubled, or overwritten by odd bytes."""
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.sampled_from((0, 0, 1, 1, 5, 80, len(content)))))
        piece = draw(st.sampled_from((*ODD_BYTES, content[start:end] * 2)))
        content = content[:start] + piece + content[end:]
    return content


@st.composite
def damaged_json(draw: st.DrawFn, document: Any) -> bytes:
    """Return a JSON text of `document` in which up to three values are odd, missing, renamed, doubled or added."""
    data = {"": copy.deepcopy(document)}  # so that the whole document may be replaced too
    odd: list[str] = []
    for _ in range(draw(st.integers(1, 3))):
        *parents, key = draw(st.sampled_from(list(_paths(data))))
        holder: Any = data
        for each in parents:
            holder = holder[each]
        action = draw(st.sampled_from(("replace", "replace", "replace", "remove", "add", "rename", "double")))
        if action == "replace" or not parents:
            odd.append(draw(st.sampled_from(ODD_JSON)))
            holder[key] = f"@odd {len(odd) - 1}@"
        elif action == "remove":
            del holder[key]
        elif isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
        elif action == "double":
            holder[key] = [holder[key], holder[key]]
        else:
            value = holder.pop(key) if action == "rename" else None
            holder[draw(st.sampled_from(_KEYS))] = value
    text = json.dumps(data[""])
    return re.sub(r'"@odd (\d+)@"', lambda found: odd[int(found[1])], text).encode("utf-8", "surrogatepass")


def damaged_json_file(content: bytes) -> st.SearchStrategy[bytes]:
    """Return a strategy of damaged texts of a JSON file."""
    return damaged_json(json.loads(content)) | damaged_bytes(content)


@st.composite
def damaged_lines(draw: st.DrawFn, content: bytes) -> bytes:
    """Return a file of one JSON document a line, in which lines are damaged, missing, doubled or exchanged."""
    lines = content.splitlines()
    for _ in range(draw(st.integers(1, 2))):
        index = draw(st.integers(0, len(lines) - 1)) if lines else 0
        action = draw(st.sampled_from(("damage", "damage", "damage", "remove", "double", "move", "cut", "insert")))
        if action == "insert" or not lines:
            lines.insert(index, draw(st.sampled_from((b"", b"null", b"[]", b"{}", b"5", b"\xff", b'{"event": "x"}'))))
        elif action == "damage":
            try:
                lines[index] = draw(damaged_json(json.loads(lines[index])))
            except ValueError:  # an earlier round damaged the line
                lines[index] = draw(damaged_bytes(lines[index]))
        elif action == "cut":
            lines[index] = lines[index][: draw(st.integers(0, len(lines[index])))]
            lines[index + 1 :] = lines[index + 1 :] if draw(st.booleans()) else []
        else:
            line = lines[index] if action == "double" else lines.pop(index)
            if action != "remove":
                lines.insert(draw(st.integers(0, len(lines))), line)
    return b"\n".join(lines) + draw(st.sampled_from((b"\n", b"")))


@st.composite
def damaged_toml(draw: st.DrawFn, content: bytes) -> bytes:
    """Return a TOML text in which up to three values are odd, lines are missing or doubled, or keys are renamed."""
    lines = content.decode().splitlines()
    for _ in range(draw(st.integers(1, 3))):
        index = draw(st.integers(0, len(lines) - 1))
        key, equals, value = lines[index].partition("=")
        action = draw(st.sampled_from(("value", "value", "value", "remove", "double", "rename", "table")))
        if action == "value" and equals:
            lines[index] = f"{key}= {draw(st.sampled_from(ODD_TOML))}"
        elif action == "rename":
            new = draw(st.sampled_from(("x", '""', "rows", "unit", '"\\u001B[31m"', "kkk" * 400)))
            lines[index] = f"{new} ={value}" if equals else f"[{new}]"
        elif action == "table":
            lines.insert(index, draw(st.sampled_from(("[x]", "[[tile]]", "[search]", "[tile.device]", "[train.x.y]"))))
        elif action == "double":
            lines.insert(index, lines[index])
        elif len(lines) > 1:
            del lines[index]
    return "\n".join(lines).encode()


def damaged_toml_file(content: bytes) -> st.SearchStrategy[bytes]:
    """Return a strategy of damaged texts of a TOML file."""
    return damaged_toml(content) | damaged_bytes(content)

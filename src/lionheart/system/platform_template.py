"""A commented platform file in which every key is explained, to start one's own from."""

from __future__ import annotations

import textwrap

from lionheart.constants import KINDS
from lionheart.system.platform import PROGRAMMING_UNITS, PlatformSpec
from lionheart.system.platform_files import read_platform_files

_WIDTH = 79
_HEAD = f"""\
#: A platform of your own: lionheart simulate RUN --platform mine.toml
#:
#: Lines that begin with #: explain. The others that begin with # are constants
#: as the platform has them that this file extends: take the # off those that
#: you know better, put your value in and say where it comes from. `source` is
#: empty everywhere, and a constant without a source is refused.
#: kind: {", ".join(KINDS)}.

description = "what it is, in one line"

#: What this file does not give comes from here: the name of a shipped platform
#: (`lionheart platforms`) or the path of a file, relative to this one. Without
#: this line every constant below must be given, but those marked "may be left
#: out", and those of the software, of converters and of programming, which
#: have values that all platforms share.
"""
_EXAMPLES = ("cycles_per_written.relu", "cycles_per_read.avg_pool", "free_ops.dropout")
_MEANINGS = {
    "cycles_per_written": "An operation without a weight matrix, by its name in PyTorch's aten: price of each element that "
    "it writes. One table for each operation; nearly 200 have a price already, see `lionheart platforms --show`.",
    "cycles_per_read": "The same, priced by the elements that it reads.",
    "free_ops": "An operation that costs nothing; the value is the reason.",
    "programming": "What one device of a technology takes to be programmed, for example of pcm: a reset, then n_pulses "
    "pulses, each verified by a read.",
}


def render_template(base: str = "alpine-high-power") -> str:
    """Return the text of a file that extends `base` and shows every key, with its value there, as a comment."""
    constants = read_platform_files(base).constants
    parts = [_HEAD + f'extends = "{base}"\n']
    for key, info in PlatformSpec.model_fields.items():
        if isinstance(info.json_schema_extra, dict):
            note = "" if info.is_required() else "; may be left out"
            value = constants[key].value if key in constants else 64
            parts.append(
                _explain(f"{info.description}{note}") + _block(key, value, str(info.json_schema_extra["unit"]))
            )
    for key in _EXAMPLES:
        text = _MEANINGS[key.partition(".")[0]]
        parts.append(_explain(text) + _block(key, constants[key].value, constants[key].unit))
    rows = [
        _block(f"programming.pcm.{name}", constants[f"programming.pcm.{name}"].value, unit)
        for name, unit in PROGRAMMING_UNITS.items()
    ]
    parts.append(_explain(_MEANINGS["programming"]) + "\n".join(rows))
    return "\n".join(parts)


def _explain(text: str) -> str:
    return "".join(f"#: {line}\n" for line in textwrap.wrap(text, _WIDTH - 3))


def _block(key: str, value: object, unit: str) -> str:
    shown = f'"{value}"' if isinstance(value, str) else repr(value)
    return f'#[{key}]\n#value = {shown}\n#unit = "{unit}"\n#source = ""\n#kind = "assumed"\n'

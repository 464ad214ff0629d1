"""Template of a platform file: a TOML file that explains every key in comments, as a starting point for a user's own file."""

from __future__ import annotations

import textwrap

from lionheart.constants import KINDS, write_value
from lionheart.system.platform import PROGRAMMING_UNITS, PlatformSpec
from lionheart.system.platform_files import read_platform_files

_WIDTH = 79
_HEAD = f"""\
#: A platform of your own: lionheart simulate RUN --platform mine.toml
#:
#: Lines that begin with #: are explanations. Other lines that begin with # are
#: constants with their values in the platform that this file extends. To
#: override a constant, remove the # from its lines, enter your value and name
#: its source. `source` is empty everywhere; a constant without a source is an
#: error.
#: kind: {", ".join(KINDS)}.

description = "description in one line"

#: Constants that this file does not give come from this platform: the name of a
#: shipped platform (`lionheart platforms`) or the path of a file, relative to
#: this file. Without this line every constant below must be given, except those
#: marked "may be left out" and those of the software, of converters and of
#: programming, which have values that all platforms share.
"""
_EXAMPLES = ("cycles_per_written.relu", "cycles_per_read.avg_pool", "free_ops.dropout")
_MEANINGS = {
    "cycles_per_written": "Cost of an operation without a weight matrix for each element that it writes, by the operation's "
    "name in PyTorch's aten. One table for each operation; nearly 200 have a cost already, see `lionheart platforms --show`.",
    "cycles_per_read": "Cost of an operation for each element that it reads.",
    "free_ops": "An operation that costs nothing; the value is the reason.",
    "programming": "Cost of programming one device of a technology, for example pcm: a reset, then n_pulses pulses, each "
    "verified by a read.",
}


def render_template(base: str = "alpine-high-power") -> str:
    """Return the text of a platform file that extends the shipped platform `base`.

    The file contains every key as a comment, with the key's description and its value in `base`.
    """
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
    shown = f'"{value}"' if isinstance(value, str) else write_value(value)
    return f'#[{key}]\n#value = {shown}\n#unit = "{unit}"\n#source = ""\n#kind = "assumed"\n'

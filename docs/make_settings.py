"""Write docs/reference/settings.md: every setting of a run with default, unit and meaning, generated from the code."""

from __future__ import annotations

from pathlib import Path

from lionheart.devices import DEVICES, HWASpec, TileSpec
from lionheart.search import ParetoSpec, SearchSpec
from lionheart.spec import Spec
from lionheart.training import TrainSpec

#: Heading and spec of each table of a settings file.
TABLES: tuple[tuple[str, type[Spec]], ...] = (
    ("[search]", SearchSpec),
    ("[pareto]", ParetoSpec),
    ("[train]", TrainSpec),
    ("[tile]", TileSpec),
    ("[tile.hwa]", HWASpec),
    *((f'[tile.device] with technology = "{name}"', technology.spec) for name, technology in DEVICES.items()),
)


def _write(value: object) -> str:
    """Return a default value as text, as in a settings file."""
    if isinstance(value, Spec):
        value = value.model_dump(mode="json")
    if isinstance(value, tuple):
        return str(value).replace(",)", "]").replace("(", "[").replace(")", "]")
    return "none" if value is None else str(value)


def render_settings() -> str:
    """Return the page."""
    lines = [
        "# Settings",
        "",
        "Generated from the code by `make docs`. `--config` of `lionheart map` and `lionheart pareto` reads a TOML file with",
        "these tables, and `--set search.n_chips=20` changes one setting. Flags override the file.",
        "Keys at the top of the file: `seed` (0), `platforms` (both ALPINE ones), `backend` (lionheart), `compile` (none: "
        "`torch.compile` for evaluations and retrainings of at least 2e12 MACs, if a C++ compiler is installed).",
    ]
    for table, spec in TABLES:
        summary = (spec.__doc__ or "").split("\n\n")[0].replace("\n", " ").strip()
        lines += ["", f"## {table}", "", summary, "", "| setting | default | meaning |", "|---|---|---|"]
        for name, field in spec.model_fields.items():
            value = field.get_default(call_default_factory=True)
            if isinstance(value, Spec) and "kind" not in type(value).model_fields:
                continue  # a table of its own
            default = "required" if field.is_required() else _write(value)
            lines.append(f"| `{name}` | {default} | {(field.description or '').replace('|', chr(92) + '|')} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (Path(__file__).parent / "reference" / "settings.md").write_text(render_settings(), encoding="utf-8")

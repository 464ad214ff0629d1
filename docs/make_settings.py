"""Write docs/settings.md: every setting of a run with its default, unit and meaning, read from the code."""

from __future__ import annotations

from pathlib import Path

from lionheart.search import SearchSpec
from lionheart.specs import DeviceSpec, HWASpec, Spec, TileSpec
from lionheart.training import TrainSpec

TABLES: tuple[tuple[str, type[Spec]], ...] = (
    ("search", SearchSpec),
    ("train", TrainSpec),
    ("tile", TileSpec),
    ("tile.hwa", HWASpec),
    ("tile.device", DeviceSpec),
)


def render_settings() -> str:
    """Return the page."""
    lines = [
        "# Settings",
        "",
        "Made from the code by `make docs`. A TOML file with these tables goes to `lionheart map --config`; flags win over it.",
        "Two keys stand at the top of the file: `seed` (0) and `platforms` (both ALPINE ones).",
    ]
    for table, spec in TABLES:
        summary = (spec.__doc__ or "").split("\n\n")[0].replace("\n", " ").strip()
        lines += ["", f"## [{table}]", "", summary, "", "| setting | default | meaning |", "|---|---|---|"]
        defaults = spec().model_dump(mode="json")
        for name, field in spec.model_fields.items():
            if isinstance(defaults[name], dict):
                continue
            default = "none" if defaults[name] is None else str(defaults[name])
            lines.append(f"| `{name}` | {default} | {(field.description or '').replace('|', chr(92) + '|')} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    Path(__file__).with_name("settings.md").write_text(render_settings(), encoding="utf-8")

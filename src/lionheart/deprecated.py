"""Names of the previous version and the names that replaced them. They work for one more version, with a warning.

Takes: an old name. Returns: the new one. Never imports anything of the package. No other file of the package uses an old name,
except for `lionheart.runs.upgrade`, which reads old files.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from importlib import import_module
from typing import Any

#: Settings class -> old setting -> new setting.
SETTINGS: Mapping[str, Mapping[str, str]] = {
    "SearchSpec": {
        "promise": "confidence_level",
        "confidence": "interval_coverage",
        "choose_corrections": "tune_compensation",
        "find_reprogramming": "refresh_interval",
    },
}

#: Module -> old public name -> module and name that replaced it.
NAMES: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "lionheart": {
        "Measure": ("lionheart.metrics", "Metric"),
        "register_kind": ("lionheart.graph", "register_layer_type"),
        "estimate_system": ("lionheart.system", "estimate_system"),
    },
    "lionheart.graph": {
        "register_kind": ("lionheart.graph", "register_layer_type"),
        "unregister_kind": ("lionheart.graph", "unregister_layer_type"),
    },
    "lionheart.tasks": {"Measure": ("lionheart.metrics", "Metric")},
    "lionheart.metrics": {"Measure": ("lionheart.metrics", "Metric")},
    "lionheart.jobs": {"EFFORTS": ("lionheart.jobs", "PRESETS")},
}

#: Old public names that still give the old function, whose arguments differ from those of the one that replaced it.
REPLACEMENTS: Mapping[str, str] = {"lionheart.estimate_system": "lionheart.estimate_cost"}
#: Old beginning of rules that choose projections -> new one. Files of old runs hold it, so no warning is due.
RULE_PREFIXES: Mapping[str, str] = {"kind": "type"}

#: Name of the random stream of hold-out tests. It keeps its first name, because another name would draw other chips.
HOLDOUT_STREAM = "certify"


class DeprecatedNameWarning(FutureWarning):
    """A name of the previous version is used. The message says which name replaces it."""


def warn_deprecated(old: str, new: str, *, stacklevel: int = 3) -> None:
    """Warn that `old` is now called `new`."""
    text = f"{old} is now {new}; the old name works in this version and will be removed in the next"
    warnings.warn(text, DeprecatedNameWarning, stacklevel=stacklevel)


def find_renamed(module: str, name: str) -> Any:
    """Return what an old public name of a module stands for; the body of the module's ``__getattr__``.

    Raises:
        AttributeError: The module never had that name.
    """
    if name not in NAMES.get(module, {}):
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    home, new = NAMES[module][name]
    old = f"{module}.{name}"
    warn_deprecated(old, REPLACEMENTS.get(old, f"{module}.{new}"), stacklevel=4)
    return getattr(sys.modules.get(home) or import_module(home), new)


def rename_settings(owner: str, settings: Mapping[str, Any], *, is_file: bool = False) -> dict[str, Any]:
    """Return settings of a class under their present names.

    Args:
        owner: Name of the settings class.
        settings: Setting -> value. If both names of a setting are given, the old one stays and is refused as unknown.
        is_file: The settings are those of an old run, so no warning is due.
    """
    renamed = dict(settings)
    for old, new in SETTINGS.get(owner, {}).items():
        if old in renamed and new not in renamed:
            renamed[new] = renamed.pop(old)
            if not is_file:
                warn_deprecated(f"{owner}.{old}", f"{owner}.{new}", stacklevel=5)
    return renamed

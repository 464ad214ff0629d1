"""Deprecated settings, Python names and command-line flags, with their replacements.

Deprecated names still work in this version, but their use causes a warning. This module must not import other modules
of the package. No other module uses a deprecated name, except `lionheart.runs.upgrade`, which reads files of the previous
version.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, final

#: Settings class -> deprecated setting -> present setting.
SETTINGS: Mapping[str, Mapping[str, str]] = {
    "SearchSpec": {
        "promise": "confidence_level",
        "confidence": "interval_coverage",
        "choose_corrections": "tune_compensation",
        "find_reprogramming": "refresh_interval",
    },
}

#: Module -> deprecated public name -> module and name of its replacement.
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


@final
@dataclass(frozen=True)
class OldFlag:
    """Replacement of a deprecated flag of the command line.

    Args:
        replacement: Setting for ``--set`` (``"search.n_chips"``), or flag (``"--preset"``).
        form: ``value`` if the deprecated flag has one value, ``list`` if the flag may be repeated and its values form a list,
            ``switch`` if the flag has no value.
    """

    replacement: str
    form: Literal["value", "list", "switch"] = "value"

    @property
    def is_renamed(self) -> bool:
        """Whether another flag, and not a setting, replaces the deprecated flag."""
        return self.replacement.startswith("--")

    def describe(self) -> str:
        """Return the replacement as written on the command line, such as ``--preset`` or ``--set search.n_chips=...``."""
        if self.is_renamed:
            return self.replacement
        return f"--set {self.replacement}={'true' if self.form == 'switch' else '...'}"


_RUN_FLAGS: Mapping[str, OldFlag] = {
    "--include": OldFlag("search.include", "list"),
    "--exclude": OldFlag("search.exclude", "list"),
    "--backend": OldFlag("backend"),
}
_SEARCH_FLAGS: Mapping[str, OldFlag] = {
    **_RUN_FLAGS,
    "--effort": OldFlag("--preset"),
    "--max-tiles": OldFlag("search.max_tiles"),
    "--platform": OldFlag("platforms", "list"),
    "--chips": OldFlag("search.n_chips"),
    "--final-chips": OldFlag("search.n_chips_final"),
    "--validation-samples": OldFlag("search.validation_samples"),
}
#: Verb of the command line -> deprecated flag -> replacement. The verb ``""`` stands for all verbs.
FLAGS: Mapping[str, Mapping[str, OldFlag]] = {
    "": {"--debug": OldFlag("--verbose", "switch")},
    "map": {
        **_SEARCH_FLAGS,
        "--lifetime": OldFlag("search.lifetime"),
        "--promise": OldFlag("search.confidence_level"),
        "--yield": OldFlag("search.chip_yield"),
        "--strategy": OldFlag("search.strategy"),
        "--objective": OldFlag("search.objective"),
        "--ranking": OldFlag("search.ranking"),
        "--final-samples": OldFlag("search.final_samples"),
        "--choose-corrections": OldFlag("search.tune_compensation", "switch"),
        "--find-reprogramming": OldFlag("search.refresh_interval", "switch"),
        "--max-epochs": OldFlag("search.max_epochs"),
        "--max-minutes": OldFlag("search.max_minutes"),
        "--compile": OldFlag("compile", "switch"),
    },
    "pareto": {**_SEARCH_FLAGS, "--trials": OldFlag("pareto.n_trials")},
    "profile": {**_RUN_FLAGS, "--validation-samples": OldFlag("--samples")},
    "simulate": {"--second-opinion": OldFlag("--cross-check")},
}

#: Name of the random stream of hold-out tests. The name determines the chips drawn, so it must not change.
HOLDOUT_STREAM = "certify"


class DeprecatedNameWarning(FutureWarning):
    """Warning that a deprecated name is used. The message names the replacement."""


def describe_deprecated(old: str, new: str) -> str:
    """Return the text of a warning which states that `new` has replaced the deprecated name `old`."""
    return f"{old} is now {new}; the old name works in this version and will be removed in the next"


def warn_deprecated(old: str, new: str, *, stacklevel: int = 3) -> None:
    """Issue a `DeprecatedNameWarning` which states that `new` has replaced `old`.

    Args:
        old: Deprecated name.
        new: Current name.
        stacklevel: Number of stack frames up to the line that the warning shows, as in `warnings.warn`.
    """
    warnings.warn(describe_deprecated(old, new), DeprecatedNameWarning, stacklevel=stacklevel)


def find_renamed(module: str, name: str) -> Any:
    """Return the object that replaces the deprecated name `name` of `module`, and issue a warning.

    Modules call this function in ``__getattr__``.

    Raises:
        AttributeError: The module has no such deprecated name.
    """
    if name not in NAMES.get(module, {}):
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    home, new = NAMES[module][name]
    old = f"{module}.{name}"
    warn_deprecated(old, REPLACEMENTS.get(old, f"{module}.{new}"), stacklevel=4)
    return getattr(sys.modules.get(home) or import_module(home), new)


def rename_rules(option: str, rules: Iterable[str], *, is_file: bool = False) -> list[str]:
    """Return `rules` with the prefix ``type:`` instead of the deprecated prefix ``kind:``.

    A rule selects projections (weight matrices) by name or, with this prefix, by layer type.

    Args:
        option: Name of the setting that holds the rules, for the warning.
        rules: Rules given by the user.
        is_file: Whether the rules come from the file of an earlier run. Then no warning is given.
    """
    renamed = []
    for rule in rules:
        if rule.startswith("kind:"):
            if not is_file:
                warn_deprecated(f"the rule {rule!r} of {option}", f"'type:{rule[5:]}'", stacklevel=5)
            rule = f"type:{rule[5:]}"
        renamed.append(rule)
    return renamed


def rename_settings(owner: str, settings: Mapping[str, Any], *, is_file: bool = False) -> dict[str, Any]:
    """Return a copy of `settings` with the current instead of the deprecated names of settings.

    Args:
        owner: Name of the settings class, such as ``"SearchSpec"``.
        settings: Values by name of the setting. If the deprecated and the current name of a setting are both given, both are
            kept, and the validation of the settings class rejects the deprecated name.
        is_file: Whether the settings come from the file of an earlier run. Then no warning is given.
    """
    renamed = dict(settings)
    for old, new in SETTINGS.get(owner, {}).items():
        if old in renamed and new not in renamed:
            renamed[new] = renamed.pop(old)
            if not is_file:
                warn_deprecated(f"{owner}.{old}", f"{owner}.{new}", stacklevel=5)
    return renamed

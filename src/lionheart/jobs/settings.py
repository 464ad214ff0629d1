"""Settings of a run, `MapSettings`. They are combined from a preset, a TOML file and values of single settings."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import Field

from lionheart.deprecated import SETTINGS as DEPRECATED
from lionheart.deprecated import rename_settings
from lionheart.devices import TileSpec
from lionheart.errors import ConfigError, suggest
from lionheart.files import parse_toml, read_text
from lionheart.jobs.assignments import assign
from lionheart.search import ParetoSpec, SearchSpec
from lionheart.spec import Spec
from lionheart.training import TrainSpec

#: Name of the preset that Python and the command line use if none is given.
DEFAULT_PRESET = "fast"
Group = TypeVar("Group", bound=Spec)


def _default_group(name: str, spec: type[Group]) -> Group:
    return spec(**_find_preset(DEFAULT_PRESET).get(name, {}))


class MapSettings(Spec):
    """All settings of a run. The settings, the task and the versions of the software determine the results of the run.

    A group that is not given has the values of the preset ``fast``, so ``MapSettings()`` has the settings of the command line.
    A group that is given as a spec or a mapping is used as it is: settings that it lacks have the defaults of `SearchSpec`,
    `TileSpec` and `TrainSpec`, which are those of the paper. `MapSettings.preset` changes single settings of a preset.
    """

    search: SearchSpec = Field(
        default_factory=lambda: _default_group("search", SearchSpec),
        description="settings of the search: bound, time, chips, budget",
    )
    tile: TileSpec = Field(
        default_factory=lambda: _default_group("tile", TileSpec),
        description="settings of the tiles: crossbar, converters, device, noise of hardware-aware training",
    )
    train: TrainSpec = Field(
        default_factory=lambda: _default_group("train", TrainSpec),
        description="settings of the retraining after each conversion",
    )
    pareto: ParetoSpec = Field(default_factory=ParetoSpec, description="settings that only `lionheart pareto` uses")
    platforms: tuple[str, ...] = Field(
        ("alpine-high-power", "alpine-low-power"), description="platforms for which time and energy are estimated"
    )
    seed: int = Field(0, ge=0, description="seed of all random streams")
    backend: str = Field(
        "lionheart", description="simulator of the analog layers: lionheart, or aihwkit if it is installed"
    )
    compile: bool | None = Field(
        None,
        description="whether long evaluations and retrainings use torch.compile, which requires a C++ compiler; None = if one "
        "is installed, for those of at least 2e12 MACs",
    )

    @classmethod
    def preset(cls, name: str = DEFAULT_PRESET, **settings: Any) -> Self:
        """Return the settings of a preset with some settings replaced. The command line uses the same presets.

        Args:
            name: Name of the preset: ``"fast"``, ``"best"``, ``"paper"``, ``"quick"`` or ``"robust"``.
            **settings: Settings to replace. They are settings of `SearchSpec` by name (``max_drop_pp=2``), settings of this
                class (``seed=3``), or groups of settings. If a group is given as a mapping (``train={"max_epochs": 3}``), only
                the settings in the mapping are replaced. If a group is given as a spec, all settings of the group are replaced.

        Raises:
            ConfigError: The preset or a setting is unknown, or a value is invalid.
        """
        merged = _find_preset(name)
        known = {**SearchSpec.model_fields, **cls.model_fields}
        search: dict[str, Any] = {}
        for key, value in rename_settings("SearchSpec", settings).items():
            if key not in known:
                raise ConfigError(
                    f"{cls.__name__}: unknown setting {key!r}", hint=suggest(key, known, label="settings")
                )
            if key in cls.model_fields:
                _merge(merged, {key: value})
            else:
                search[key] = value
        _merge(merged, {"search": search})
        return cls(**merged)


_SHORT: dict[str, Any] = {
    "steps_per_epoch": 64,
    "max_epochs": 5,
    "patience": 2,
    "learning_rate": 0.02,
    "schedule": "cosine",
    "precision": "auto",
}

#: Presets: name -> group -> setting -> value. "fast" and "best" end with a mapping that keeps its bound with 95 % probability
#: (docs/adr/0039).
#: "fast" does not retrain: it chooses a read policy for each projection (docs/adr/0040) and calibrates columns on each chip
#: (docs/adr/0016). "best" retrains once in addition, with the noise of the devices, weights bounded at 2.5 standard deviations,
#: and distillation from the digital network (docs/adr/0038).
#: "paper" is the protocol of Lammie et al., arXiv:2401.09420v3, on the paper's tile with one read: the greedy search with
#: Gaussian noise, retraining on the whole training set until the loss has not decreased for 5 epochs, 20 chips per decision.
#: "quick" and "robust" are earlier defaults with one read and one policy: many short retrainings (docs/adr/0007), and a few
#: longer ones (docs/adr/0012).
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "fast": {
        "search": {
            "n_chips": 5,
            "validation_samples": 2_500,
            "n_chips_final": 10,
            "guarantee": 0.95,
            "strategy": "levels-training-free",
        },
        "tile": {
            "column_calibration": "affine",
            "hwa": {"weight_noise_kind": "device", "weight_clip_sigma": 2.5},
        },
        "train": _SHORT,  # for strategies that retrain
    },
    "best": {
        "search": {
            "n_chips": 5,
            "validation_samples": 2_500,
            "n_chips_final": 10,
            "guarantee": 0.95,
            "strategy": "levels",
        },
        "tile": {"column_calibration": "affine", "hwa": {"weight_noise_kind": "device", "weight_clip_sigma": 2.5}},
        "train": {
            "minutes": 20,
            "patience": None,
            "learning_rate": 0.03,
            "schedule": "one_cycle",
            "precision": "auto",
            "distillation": 0.9,
            "noise_warmup": 0.2,
            "ema_decay": 0.999,
            "recalibrate_every": 1,
        },
    },
    "quick": {
        "search": {"n_chips": 6, "validation_samples": 2_500, "n_chips_final": 10},
        "tile": {"hwa": {"weight_noise_kind": "device", "weight_clip_sigma": 1.5}},
        "train": _SHORT,
    },
    "robust": {
        "search": {
            "n_chips": 6,
            "validation_samples": 2_500,
            "n_chips_final": 10,
            "strategy": "shared",
        },
        "tile": {"column_calibration": "affine", "hwa": {"weight_noise_kind": "device", "weight_clip_sigma": 2.0}},
        "train": {
            "steps_per_epoch": 64,
            "max_epochs": 15,
            "patience": None,
            "learning_rate": 0.02,
            "schedule": "cosine",
            "precision": "auto",
            "distillation": 0.9,
        },
    },
    "paper": {
        "search": {"n_chips": 20, "validation_samples": None},
        "tile": {},
        "train": {
            "steps_per_epoch": None,
            "max_epochs": 50,
            "patience": 5,
            "learning_rate": 0.024,
            "momentum": 0.775,
            "schedule": "cosine",
            "precision": "auto",
        },
    },
}


def read_settings(
    preset: str = DEFAULT_PRESET,
    config: Path | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    assignments: Sequence[str] = (),
) -> MapSettings:
    """Return the settings of a preset, changed first by a TOML file and then by values of single settings.

    The file overrides the preset, `overrides` overrides the file, and `assignments` overrides all others.

    Args:
        preset: Name of a preset in `PRESETS`.
        config: TOML file with tables ``[search]``, ``[tile]``, ``[tile.device]``, ``[tile.hwa]``, ``[train]``, ``[pareto]`` and
            top-level keys; None = no file.
        overrides: Values by group and name of the setting, e.g. ``{"search": {"n_chips": 20}}``. The group ``""`` contains the
            settings outside groups. Values that are None are ignored.
        assignments: Settings as text in the form of ``--set``: ``"search.n_chips=20"`` or ``"n_chips=20"``.

    Raises:
        ConfigError: The preset, a table or a setting is unknown, or a value is invalid.
        ArtifactError: The file cannot be read or is not valid TOML.
    """
    merged = _find_preset(preset)
    if config is not None:
        _merge(merged, _rename_groups(parse_toml(read_text(config), str(config))))
        MapSettings.from_json(merged)  # reports errors in the file that single values would hide
    for group, values in (overrides or {}).items():
        given = {key: value for key, value in values.items() if value is not None}
        _merge(merged, {group: given} if group else given)
    given_names = [text.partition("=")[0].strip().rpartition(".")[2] for text in assignments]
    names = [DEPRECATED["SearchSpec"].get(name, name) for name in given_names]
    for group in ("search", "pareto"):
        _drop_replaced(merged.get(group, {}), names)
    assign(MapSettings, merged, assignments)
    return MapSettings.from_json(merged)


def _rename_groups(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a file with deprecated names replaced by the current names.

    The current names are needed so that values of single settings can override the settings of the file.
    """
    renamed = dict(settings)
    for name, group in settings.items():
        owner: Any = MapSettings.model_fields[name].annotation if name in MapSettings.model_fields else None
        if isinstance(group, dict) and owner is not None:
            renamed[name] = rename_settings(owner.__name__, group)
    return renamed


def _find_preset(name: str) -> dict[str, Any]:
    if name not in PRESETS:
        raise ConfigError(
            f"preset: got {name!r}, expected the name of a preset", hint=suggest(str(name), PRESETS, label="presets")
        )
    return copy.deepcopy(PRESETS[name])


def _merge(target: dict[str, Any], source: Mapping[str, Any]) -> None:
    _drop_replaced(target, source)
    for key, value in source.items():
        if isinstance(value, Mapping) and isinstance(target.get(key), dict):
            _merge(target[key], value)
        else:
            target[key] = copy.deepcopy(value)  # settings of the caller must not change with later values


def _drop_replaced(target: dict[str, Any], names: Collection[str]) -> None:
    """Remove each setting from `target` that a setting in `names` replaces, i.e. gives in another form."""
    for pair in (("max_drop", "max_drop_pp"), ("bounds", "bounds_pp"), ("guarantee", "confidence_level")):
        for new, old in (pair, pair[::-1]):
            if new in names and old not in names:
                target.pop(old, None)

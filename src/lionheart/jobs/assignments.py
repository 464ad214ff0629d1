"""Assignments of values to settings, given as text such as ``search.n_chips=20``.

`assign` parses each value according to the type of the setting, and stores the value in nested dictionaries of settings. The
module `lionheart.jobs.settings` uses this module. This module must not import the command line.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, final, get_args, get_origin

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from lionheart.deprecated import SETTINGS, warn_deprecated
from lionheart.devices import DEVICES, DeviceSpec
from lionheart.errors import ArtifactError, ConfigError, suggest
from lionheart.files import parse_toml
from lionheart.spec import Spec
from lionheart.units import parse_duration

_CONFIG = ConfigDict(allow_inf_nan=False)
_TRUTH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_NONE = ("none", "null")
_EXAMPLE = "for example --set search.n_chips=20"
_SELECTORS = ("technology", "kind")  # settings whose values determine the other settings of their group


@final
@dataclass(frozen=True)
class Setting:
    """One setting to which a value can be assigned.

    Args:
        path: Names of the groups that contain the setting and name of the setting, joined by dots: ``"tile.hwa.weight_noise"``.
        owner: Spec class that defines the setting.
        field: Pydantic field with the type, the default, the limits and the description of the setting.
        choices: Possible values, only for a setting that determines which other settings its group has, e.g. the memory
            technology. Empty for all other settings.
    """

    path: str
    owner: type[Spec]
    field: FieldInfo
    choices: tuple[str, ...] = ()

    def read(self, text: str) -> Any:
        """Convert a text to a value of this setting's type, and check the value against the limits of the setting.

        Raises:
            ConfigError: The text is not a valid value of the setting.
        """
        if self.choices:
            if text not in self.choices:
                raise ConfigError(
                    f"{self.path}: got {text!r}, expected one of the possible values",
                    hint=suggest(text, self.choices, label="possible values"),
                )
            return text
        try:
            value = _read(self.field.annotation, text, is_time="[s]" in (self.field.description or ""))
            annotation: Any = self.field.annotation
            if self.field.metadata:
                annotation = Annotated[(annotation, *self.field.metadata)]
            TypeAdapter(annotation, config=_CONFIG).validate_python(value)
        except ConfigError as error:
            raise ConfigError(f"{self.path}: {error.message}", hint=error.hint or self._meaning()) from None
        except ValidationError as error:
            raise self._refuse(error) from None
        return value

    def _refuse(self, error: ValidationError) -> ConfigError:
        """Convert an error of pydantic to a `ConfigError` that contains the full path of the setting."""
        fault = error.errors()[0]
        where = ".".join([self.path, *(str(part) for part in fault["loc"] if isinstance(part, int))])
        if fault["type"] == "missing":
            return ConfigError(f"{self.path}: got {fault['input']!r}, expected more values", hint=self._meaning())
        inner = fault.get("ctx", {}).get("error")
        if isinstance(inner, ConfigError):
            return ConfigError(f"{where}: {inner.message}", hint=inner.hint or self._meaning())
        return ConfigError(f"{where}: got {fault['input']!r}: {fault['msg']}", hint=self._meaning())

    def _meaning(self) -> str:
        return f"meaning of {self.path}: {self.field.description}"


def list_settings(spec: type[Spec], given: Mapping[str, Any], prefix: str = "") -> dict[str, Setting]:
    """Return all settings of a spec class and its groups, by path, in the order of the fields.

    Args:
        spec: Spec class of the settings.
        given: Values of settings in nested dictionaries. If a group has several possible classes, e.g. one for each memory
            technology, the values select the class.
        prefix: Text before each path, e.g. ``"tile."``.

    Raises:
        ConfigError: A value in `given` selects a class that does not exist, e.g. an unknown memory technology.
    """
    found: dict[str, Setting] = {}
    for name, field in spec.model_fields.items():
        path, inner = f"{prefix}{name}", given.get(name)
        group = _find_group(field, inner if isinstance(inner, Mapping) else {})
        if group is None:
            found[path] = Setting(path, spec, field)
            continue
        found |= list_settings(group, inner if isinstance(inner, Mapping) else {}, f"{path}.")
        selector, choices = _find_selector(field)
        if selector is not None:
            chosen = found[f"{path}.{selector}"]
            found[chosen.path] = Setting(chosen.path, chosen.owner, chosen.field, choices)
    return found


@final
@dataclass(frozen=True)
class SettingRow:
    """Value and description of one setting, as shown in a list of all settings.

    Args:
        value: Value of the setting as in JSON.
        text: Value of the setting as text, as it is written in an assignment.
        meaning: Description of the setting.
    """

    value: Any
    text: str
    meaning: str


def describe_settings(settings: Spec) -> dict[str, SettingRow]:
    """Return the value and the description of each setting in `settings` and its groups, by path such as ``search.n_chips``."""
    data = settings.model_dump(mode="json")
    rows = {}
    for path, setting in list_settings(type(settings), data).items():
        value: Any = data
        for name in path.split("."):
            value = value[name]
        rows[path] = SettingRow(value, _write(value), setting.field.description or "")
    return rows


def _write(value: Any) -> str:
    if isinstance(value, dict):  # a table in one line of TOML
        given = {name: f"'{each}'" if isinstance(each, str) else _write(each) for name, each in value.items()}
        return f"{{{', '.join(f'{name} = {text}' for name, text in given.items() if text != _write(None))}}}"
    if value and isinstance(value, list) and isinstance(value[0], dict):
        return f"[{', '.join(map(_write, value))}]"
    if isinstance(value, list):
        return str(value) if value and isinstance(value[0], list) else ",".join(_write(each) for each in value)
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def assign(spec: type[Spec], settings: dict[str, Any], texts: Sequence[str]) -> None:
    """Parse assignments, and store the assigned values in nested dictionaries of settings.

    Args:
        spec: Spec class of the settings.
        settings: Values of settings in nested dictionaries, changed in place.
        texts: Assignments such as ``"search.n_chips=20"``, in any order. The names of the groups may be omitted if only one
            setting has the name. Each setting may be assigned only once.

    Raises:
        ConfigError: An assignment has no ``=``, no setting or several settings have the given name, a setting is assigned
            twice, or a value is invalid. The error lists all invalid assignments.
    """
    faults: list[ConfigError] = []
    given: dict[str, str] = {}
    selectors_first = sorted(texts, key=_is_selector, reverse=True)  # they determine which settings exist
    for text in selectors_first:
        try:
            key, value = _split(text)
            known = list_settings(spec, settings)
            path = _find_path(known, key)
            if path in given:
                raise ConfigError(
                    f"{path}: assigned twice, as {given[path]!r} and as {value!r}, expected one assignment",
                    hint=f"several values of a list are separated by commas: {path}=A,B"
                    if _is_list(known[path])
                    else "assign the setting once",
                )
            given[path] = value
            _put(spec, settings, path, known[path].read(value))
        except ConfigError as error:
            faults.append(error)
    if faults:
        hints = dict.fromkeys(fault.hint for fault in faults if fault.hint)
        raise ConfigError("\n".join(fault.message for fault in faults), hint="; ".join(hints))


def _split(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not sign or not key.strip():
        raise ConfigError(
            f"--set: got {text!r}, expected a setting, '=' and a value, as in SETTING=VALUE", hint=_EXAMPLE
        )
    return key.strip(), value.strip()


def _is_selector(text: str) -> bool:
    return text.partition("=")[0].strip().rpartition(".")[2] in _SELECTORS


def _find_path(known: Mapping[str, Setting], key: str) -> str:
    """Return the full path of the setting that `key` names, e.g. ``search.n_chips`` for the key ``n_chips``.

    Raises:
        ConfigError: No setting or several settings have this name, or `key` is the name of a group.
    """
    if key in known:
        return key
    fitting = [path for path in known if path.endswith(f".{key}")]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise ConfigError(
            f"--set {key}: {len(fitting)} settings have this name, expected a full name with its groups",
            hint=f"use one of the full names {', '.join(fitting)}",
        )
    renamed = _find_renamed(known, key)
    if renamed is not None:
        return renamed
    inside = [path for path in known if path.startswith(f"{key}.") or f".{key}." in path]
    if inside:
        raise ConfigError(
            f"--set {key}: got the name of a group of settings, expected one setting of this group",
            hint=f"settings of the group: {', '.join(inside)}",
        )
    raise ConfigError(f"--set {key}: unknown setting", hint=_suggest_setting(known, key))


def _find_renamed(known: Mapping[str, Setting], key: str) -> str | None:
    """Return the current path of the setting that has `key` as a deprecated name, and emit a deprecation warning.

    Return None if `key` is not a deprecated name.
    """
    group, _, name = key.rpartition(".")
    for path, setting in known.items():
        for old, new in SETTINGS.get(setting.owner.__name__, {}).items():
            if old == name and path.endswith(f".{new}") and group in ("", path.rpartition(".")[0]):
                warn_deprecated(f"the setting {path.removesuffix(new)}{old}", path)
                return path
    return None


def _suggest_setting(known: Mapping[str, Setting], key: str) -> str:
    group = key.rpartition(".")[0]
    names = {path.rpartition(".")[2]: path for path in reversed(list(known))}
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    near = near or [names[name] for name in difflib.get_close_matches(key.rpartition(".")[2], names, n=1, cutoff=0.6)]
    siblings = [path.rpartition(".")[2] for path in known if path.rpartition(".")[0] == group] if group else []
    groups = dict.fromkeys(path.rpartition(".")[0] for path in known if "." in path)
    start = f"did you mean {near[0]!r}? " if near else ""
    return start + (f"settings of {group}: {', '.join(siblings)}" if siblings else f"groups: {', '.join(groups)}")


def _put(spec: type[Spec], settings: dict[str, Any], path: str, value: Any) -> None:
    """Store a value under the dotted `path` in nested dictionaries of settings, in place.

    If the group of the setting has several possible classes, the setting that selects the class is stored as well.
    """
    name, _, rest = path.partition(".")
    if not rest:
        settings[name] = value
        return
    field = spec.model_fields[name]
    inner = dict(settings[name]) if isinstance(settings.get(name), Mapping) else {}
    group = _find_group(field, inner)
    if group is None:
        raise TypeError(f"{path}: {name!r} is a single setting, so the path must end after this name")
    if field.discriminator is not None:
        inner.setdefault(str(field.discriminator), group.model_fields[str(field.discriminator)].default)
    _put(group, inner, rest, value)
    settings[name] = inner


def _find_group(field: FieldInfo, given: Mapping[str, Any]) -> type[Spec] | None:
    """Return the spec class of a field that is a group of settings; None if the field is a single setting.

    If the group has several possible classes, the values in `given` select the class.
    """
    groups = [each for each in _members(field.annotation) if inspect.isclass(each) and issubclass(each, Spec)]
    if not groups:
        return None
    key = field.discriminator
    if isinstance(key, str):
        for group in groups:
            if group.model_fields[key].default == given.get(key):
                return group
    default = field.get_default(call_default_factory=True)
    if len(groups) > 1 and isinstance(default, Spec):
        return type(default)
    return type(groups[0].__new__(groups[0], **given))  # a memory device: class of its technology


def _find_selector(field: FieldInfo) -> tuple[str | None, tuple[str, ...]]:
    """Return the name and the possible values of the setting that selects the class of a group.

    If the group has only one possible class, the name is None and the tuple of values is empty.
    """
    if field.annotation is DeviceSpec:
        return "technology", DEVICES.names()
    key = field.discriminator
    if isinstance(key, str):
        return key, tuple(each.model_fields[key].default for each in _members(field.annotation))
    return None, ()


def _members(annotation: Any) -> tuple[Any, ...]:
    """Return the member types of a union type, or the type itself if it is no union. ``Annotated`` is removed."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return tuple(found for each in get_args(annotation) for found in _members(each))
    return (annotation,)


def _is_list(setting: Setting) -> bool:
    return any(get_origin(each) is tuple for each in _members(setting.field.annotation))


# --------------------------------------------------------------------------------------------------- text to values


def _read(annotation: Any, text: str, *, is_time: bool) -> Any:
    """Convert the text of a value to the type of a setting. Limits of the setting, such as a minimum, are not checked.

    Args:
        annotation: Type annotation of the setting.
        text: Text of the value.
        is_time: Whether the unit of the setting is seconds. If so, durations such as ``1d`` are accepted as well.

    Raises:
        ConfigError: The text is not a value of the type.
    """
    members = _members(annotation)
    choices = [each for member in members if get_origin(member) is Literal for each in get_args(member)]
    if text in choices:
        return text
    if type(None) in members and text.lower() in _NONE:
        return None
    for member in members:
        if get_origin(member) is tuple:
            return _read_list(get_args(member)[0], text, is_time=is_time)
    if choices:
        raise ConfigError(
            f"got {text!r}, expected one of the possible values", hint=suggest(text, choices, label="possible values")
        )
    for member in members:
        if member in _READERS and str not in members:
            return _READERS[member](text, is_time)
    return text


def _read_list(item: Any, text: str, *, is_time: bool) -> list[Any]:
    """Return the elements of a list given as text: separated by commas, ``1,2``, or as in TOML, ``[1, 2]``; see `_read`."""
    if text.startswith("["):
        try:
            values = parse_toml(f"values = {text}", "list")["values"]
        except ArtifactError as error:
            if str not in _members(item):
                raise ConfigError(
                    f"got {text!r}, expected a list: {error.message}",
                    hint="write a list as 1,2,5, and a list of lists as [[1, 2], [3, 4]]",
                ) from None
        else:
            if str not in _members(item) or all(isinstance(value, str) for value in values):
                return list(values)  # otherwise a shell pattern such as [07]
    return [_read(item, part.strip(), is_time=is_time) for part in text.split(",")] if text else []


def _read_bool(text: str, is_time: bool) -> bool:
    if text.lower() not in _TRUTH:
        raise ConfigError(f"got {text!r}, expected true or false (yes, no, on and off are accepted too)")
    return _TRUTH[text.lower()]


def _read_int(text: str, is_time: bool) -> int:
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"got {text!r}, expected a whole number such as 20") from None


def _read_float(text: str, is_time: bool) -> float:
    try:
        return float(text)
    except ValueError:
        if is_time:
            return parse_duration(text)
        raise ConfigError(f"got {text!r}, expected a number such as 0.5 or 1e-3") from None


_READERS: Mapping[Any, Callable[[str, bool], Any]] = {bool: _read_bool, int: _read_int, float: _read_float}

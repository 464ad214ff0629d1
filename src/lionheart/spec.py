"""The base class of all settings classes. Their constructors reject unknown settings and invalid values."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from lionheart.deprecated import rename_settings
from lionheart.errors import ConfigError, suggest
from lionheart.text import cut_middle

_MOST_OF_INPUT = 300  # characters of a wrong value that a message repeats, so that the reason after it is kept
T = TypeVar("T")


def config_error(
    error: ValidationError, known: Mapping[str, FieldInfo], where: str, positions: Sequence[str] = ()
) -> ConfigError:
    """Return one `ConfigError` that describes all errors in `error`, an exception of pydantic.

    Args:
        error: Exception that contains the validation errors.
        known: Settings of the class by name. Their descriptions are used in the hint, for settings with an invalid value.
        where: Name of the settings class, with which each line of the message begins.
        positions: Names of the arguments that may be passed by position, in order.
    """
    lines, hints, meanings = [], [], []
    for fault in error.errors():
        first, *rest = fault["loc"] or ("(whole)",)
        first = positions[first] if isinstance(first, int) and first < len(positions) else first
        key = ".".join(str(name) for name in (first, *rest))
        inner = fault.get("ctx", {}).get("error")
        if isinstance(inner, ConfigError):  # from nested settings
            lines += [f"{where}.{key}: {line}" for line in inner.message.splitlines()]
            hints += [inner.hint] if inner.hint else []
        elif fault["type"] == "extra_forbidden":
            lines.append(f"{where}.{key}: unknown setting")
            hints.append(suggest(str(fault["loc"][-1]), known, label="known settings"))
        else:
            lines.append(f"{where}.{key}: got {cut_middle(repr(fault['input']), _MOST_OF_INPUT)}: {fault['msg']}")
            name = key.partition(".")[0]
            meanings += [f"{name} is: {known[name].description}"] if name in known and known[name].description else []
    return ConfigError("\n".join(lines), hint="; ".join(dict.fromkeys(hints + meanings)))


def with_config_errors(cls: type[T]) -> type[T]:
    """Change a pydantic dataclass so that invalid arguments of its constructor raise a `ConfigError`, and return the class."""
    decorated: Any = cls
    construct, names = decorated.__init__, [each.name for each in fields(decorated)]

    @functools.wraps(construct)
    def construct_checked(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            construct(self, *args, **kwargs)
        except ValidationError as error:
            found = config_error(error, {}, cls.__name__, names)
            raise ConfigError(found.message, hint=found.hint or f"arguments: {', '.join(names)}") from None

    decorated.__init__ = construct_checked
    return cls


class Spec(BaseModel):
    """Base class of immutable groups of settings. The constructor takes each setting as a keyword argument.

    Raises:
        ConfigError: A setting is unknown or its value is not allowed; the message lists all errors.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)
    schema_version: ClassVar[int] = 1

    def __init__(self, **settings: Any) -> None:
        settings = rename_settings(type(self).__name__, settings)
        try:
            super().__init__(**settings)
        except ValidationError as error:
            raise config_error(error, type(self).model_fields, type(self).__name__) from None

    def replace(self, **changes: Any) -> Self:
        """Return a copy in which the settings named in `changes` have the given values. All settings are validated.

        Settings that were not given to the constructor are not given to the copy either, so ``model_fields_set`` still tells
        which settings have their default because nobody chose a value.

        Raises:
            ConfigError: A setting is unknown or its value is not allowed.
        """
        kept = {name: getattr(self, name) for name in self.model_fields_set}
        return type(self)(**{**kept, **changes})

    def to_json(self) -> dict[str, Any]:
        """Return a dict with the settings and the schema version as plain data (JSON types), which `from_json` accepts."""
        return {"schema_version": self.schema_version, **self.model_dump(mode="json")}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return the settings object for `data`, a mapping that `to_json` returned. Missing settings get their default.

        Raises:
            ConfigError: The schema version is unknown, or a setting is unknown or its value is not allowed.
        """
        settings = dict(data)
        version = settings.pop("schema_version", cls.schema_version)
        if version != cls.schema_version:
            raise ConfigError(
                f"{cls.__name__}.schema_version: got {version!r}, expected {cls.schema_version}",
                hint="another version of lionheart wrote these settings; read them with that version, or create them again",
            )
        return cls(**settings)

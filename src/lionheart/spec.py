"""The base of every spec: frozen, validated once, unknown keys are errors with a suggestion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from lionheart.deprecated import rename_settings
from lionheart.errors import ConfigError, suggest


def config_error(error: ValidationError, known: Mapping[str, FieldInfo], where: str) -> ConfigError:
    """Turn all faults that pydantic found into one `ConfigError`; a hint says what a setting is."""
    lines, hints, meanings = [], [], []
    for fault in error.errors():
        key = ".".join(str(part) for part in fault["loc"]) or "(whole)"
        inner = fault.get("ctx", {}).get("error")
        if isinstance(inner, ConfigError):  # from a spec inside this one
            lines += [f"{where}.{key}: {line}" for line in inner.message.splitlines()]
            hints += [inner.hint] if inner.hint else []
        elif fault["type"] == "extra_forbidden":
            lines.append(f"{where}.{key}: unknown setting")
            hints.append(suggest(str(fault["loc"][-1]), known, label="known settings"))
        else:
            lines.append(f"{where}.{key}: got {fault['input']!r}: {fault['msg']}")
            name = key.partition(".")[0]
            meanings += [f"{name} is: {known[name].description}"] if name in known and known[name].description else []
    return ConfigError("\n".join(lines), hint="; ".join(dict.fromkeys(hints + meanings)))


class Spec(BaseModel):
    """A frozen group of settings. Change one with `replace`, which validates again."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)
    schema_version: ClassVar[int] = 1

    def __init__(self, **settings: Any) -> None:
        settings = rename_settings(type(self).__name__, settings)
        try:
            super().__init__(**settings)
        except ValidationError as error:
            raise config_error(error, type(self).model_fields, type(self).__name__) from None

    def replace(self, **changes: Any) -> Self:
        """Return a new spec with `changes`, validated as a whole."""
        kept = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self)(**{**kept, **changes})

    def to_json(self) -> dict[str, Any]:
        """Return plain data with the schema version, the inverse of `from_json`."""
        return {"schema_version": self.schema_version, **self.model_dump(mode="json")}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ConfigError: The version is unknown or a setting is wrong.
        """
        settings = dict(data)
        version = settings.pop("schema_version", cls.schema_version)
        if version != cls.schema_version:
            raise ConfigError(
                f"{cls.__name__}.schema_version: got {version!r}, expected {cls.schema_version}",
                hint="this file was written by another version of lionheart",
            )
        return cls(**settings)

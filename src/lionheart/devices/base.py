"""The memory device: what every technology has in common, how a weight is held by devices, and which devices are stuck."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias, get_args

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError, model_validator
from pydantic_core import CoreSchema, core_schema

from lionheart.constants import load_constants
from lionheart.errors import ConfigError, suggest
from lionheart.spec import Spec, config_error

_TECHNOLOGY = "conductance physics; see `lionheart devices`"
_DEFAULT_TECHNOLOGY = "pcm"
_LARGEST_BEND = 1e-4  # of the full range: how far from a straight line a pair of conductance tables may lead


def default_of(file: str, name: str) -> Any:
    """Return the value of a constant in ``devices/data``, lists as tuples."""

    def frozen(value: Any) -> Any:
        return tuple(frozen(item) for item in value) if isinstance(value, list) else value

    return frozen(load_constants("lionheart.devices", file)[name].value)


class PairConverter(Spec):
    """Signed weights on pairs of devices, one of each pair at ``g_min``; several pairs share a weight by significance.

    The least significant pair is used first. One pair of significance 1 is AIHWKIT's single pair, more are its dual and N pair.
    """

    kind: Literal["pair"] = Field("pair", description="how devices hold a weight")
    significance: tuple[float, ...] = Field(
        (1.0,), min_length=1, description="factor of each pair's current, least significant first [-]"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        _require_positive(self.significance)
        return self


class CustomPairConverter(Spec):
    """Pairs of devices whose conductances are tables over the weight, linear between equidistant weights -max .. max."""

    kind: Literal["custom_pair"] = Field("custom_pair", description="how devices hold a weight")
    significance: tuple[float, ...] = Field(
        (1.0,), min_length=1, description="factor of each pair's current, in the order of the tables [-]"
    )
    g_plus: tuple[tuple[float, ...], ...] = Field(description="a table for the positive device of each pair [µS]")
    g_minus: tuple[tuple[float, ...], ...] = Field(description="a table for the negative device of each pair [µS]")

    @model_validator(mode="after")
    def _check(self) -> Self:
        _require_positive(self.significance)
        lengths = {len(table) for table in (*self.g_plus, *self.g_minus)}
        if len(self.g_plus) != len(self.significance) or len(self.g_minus) != len(self.significance):
            raise ValueError("g_plus and g_minus need one table for each significance")
        if len(lengths) != 1 or min(lengths) < 2:
            raise ValueError(f"the tables must have one common length of at least 2, got the lengths {sorted(lengths)}")
        if any(g < 0 for table in (*self.g_plus, *self.g_minus) for g in table):
            raise ValueError("g_plus and g_minus hold a negative conductance")
        net = self.net()
        largest, steps = max(abs(g) for g in net), len(net) - 1
        if largest == 0 or any(
            abs(g - largest * (2 * i / steps - 1)) > _LARGEST_BEND * largest for i, g in enumerate(net)
        ):
            raise ValueError(
                f"the sum of significance * (g_plus - g_minus) must rise in a straight line from -max to max, got {net}"
            )
        return self

    def net(self) -> tuple[float, ...]:
        """Return the net conductance at each weight of the tables [µS]."""
        pairs = [
            [factor * (plus - minus) for plus, minus in zip(p, m, strict=True)]
            for factor, p, m in zip(self.significance, self.g_plus, self.g_minus, strict=True)
        ]
        return tuple(sum(column) for column in zip(*pairs, strict=True))


class SingleConverter(Spec):
    """One device a weight: the smallest weight of a crossbar is at ``g_min``, the largest at ``g_max``."""

    kind: Literal["single"] = Field("single", description="how devices hold a weight")


Converter: TypeAlias = Annotated[PairConverter | CustomPairConverter | SingleConverter, Field(discriminator="kind")]


def _require_positive(significance: tuple[float, ...]) -> None:
    if min(significance) <= 0:
        raise ValueError(f"significance must be positive, got {significance}")


#: Spec of each technology, filled as the classes are defined.
TECHNOLOGIES: dict[str, type[DeviceSpec]] = {}


def _find_spec(settings: Mapping[str, Any]) -> type[DeviceSpec]:
    name = settings.get("technology", _DEFAULT_TECHNOLOGY)
    if not isinstance(name, str) or name not in TECHNOLOGIES:
        raise ConfigError(
            f"DeviceSpec.technology: got {name!r}",
            hint=f"{suggest(str(name), TECHNOLOGIES, label='technologies')}; technology is: {_TECHNOLOGY}",
        )
    return TECHNOLOGIES[name]


def _parse(value: Any) -> DeviceSpec:
    if isinstance(value, DeviceSpec):
        return value
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ValueError("expected a DeviceSpec or a table of its settings")
    make: Callable[..., DeviceSpec] = DeviceSpec
    return make(**value)


class DeviceSpec(Spec):
    """A device of any technology: range of conductance, devices a weight, stuck devices.

    ``DeviceSpec(technology="...", ...)`` returns the spec of that technology, which has its own settings besides these;
    without a technology it is PCM. Each technology is a subclass in `lionheart.devices.technologies`.
    """

    #: One line for people, and the file of constants in ``devices/data``.
    summary: ClassVar[str] = ""
    constants_file: ClassVar[str | None] = None

    technology: str = Field(description=_TECHNOLOGY)
    g_max: float = Field(25.0, gt=0, description="largest conductance [µS]")
    g_min: float = Field(0.0, ge=0, description="smallest conductance, that of weight zero on a pair [µS]")
    converter: Converter = Field(default_factory=PairConverter, description="how devices hold a weight")
    stuck_off: float = Field(0.0, ge=0, le=1, description="fraction of devices that are stuck at 0 µS [-]")
    stuck_on: float = Field(0.0, ge=0, le=1, description="fraction of devices that are stuck at g_max [-]")

    def __new__(cls, **settings: Any) -> Self:
        """Return an empty spec of the technology that the settings name."""
        kind: Any = _find_spec(settings) if cls is DeviceSpec else cls
        made: Self = super().__new__(kind)
        return made

    def __init__(self, **settings: Any) -> None:
        try:
            super(Spec, self).__init__(**settings)
        except ValidationError as error:  # all technologies are one group of settings to the user
            raise config_error(error, type(self).model_fields, "DeviceSpec") from None

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        names = get_args(cls.model_fields["technology"].annotation)
        if names:  # a base of several technologies has none
            TECHNOLOGIES[names[0]] = cls

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        if cls.__base__ is not Spec:
            return handler(source)
        handler(source)  # collects the fields
        return core_schema.no_info_plain_validator_function(
            _parse,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda device, info: device.model_dump(mode=info.mode), info_arg=True
            ),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        if cls.__base__ is not Spec:
            return handler(schema)
        return {"oneOf": [handler(kind.__pydantic_core_schema__) for kind in TECHNOLOGIES.values()]}

    @model_validator(mode="after")
    def _check_device(self) -> Self:
        if self.g_min >= self.g_max:
            raise ValueError(f"g_min must be below g_max, got {self.g_min} µS and {self.g_max} µS")
        if self.stuck_off + self.stuck_on > 1:
            raise ValueError(f"stuck_off + stuck_on must be at most 1, got {self.stuck_off} + {self.stuck_on}")
        if isinstance(self.converter, CustomPairConverter):
            largest = max(g for table in (*self.converter.g_plus, *self.converter.g_minus) for g in table)
            if largest > self.g_max:
                raise ValueError(f"converter: a table reaches {largest} µS, above g_max = {self.g_max} µS")
        return self

    @classmethod
    def pcm(cls, **changes: Any) -> DeviceSpec:
        """Return phase-change memory as in AIHWKIT's PCM-like model, with `changes`."""
        return DeviceSpec(technology="pcm", **changes)

    @classmethod
    def pcm_custom_drift(cls, **settings: Any) -> DeviceSpec:
        """Return phase-change memory whose drift exponents are your ``drift_table`` of (g, mean, sigma)."""
        return DeviceSpec(technology="pcm_custom_drift", **settings)

    @classmethod
    def reram_wan2022(cls, **changes: Any) -> DeviceSpec:
        """Return the resistive memory of Wan et al. (2022), known at 1 s, 1 day and 2 days, with `changes`."""
        return DeviceSpec(technology="reram_wan2022", **changes)

    @classmethod
    def reram_cmo(cls, **changes: Any) -> DeviceSpec:
        """Return conductive-metal-oxide/HfOx resistive memory, one device a weight, with `changes`."""
        return DeviceSpec(technology="reram_cmo", **changes)

    @classmethod
    def ideal(cls, **changes: Any) -> DeviceSpec:
        """Return a device that holds its target for ever."""
        return DeviceSpec(technology="ideal", **changes)

    @classmethod
    def from_toml(cls, path: str | Path, **changes: Any) -> DeviceSpec:
        """Read a device that a TOML file defines; docs/devices.md has a template.

        Raises:
            ArtifactError: The file cannot be read, or a number lacks its unit, source or kind.
            ConfigError: A setting is unknown or impossible.
        """
        from lionheart.devices.files import read_table_device

        return DeviceSpec(technology="table", **{**read_table_device(Path(path)), **changes})

    @classmethod
    def from_samples(cls, path: str | Path, **changes: Any) -> DeviceSpec:
        """Read a device from a CSV of measurements: columns target [µS], time [s], conductance [µS].

        Raises:
            ArtifactError: The file cannot be read, or a line is faulty; the message names the line.
            ConfigError: A setting is unknown or impossible.
        """
        from lionheart.devices.files import read_samples

        return DeviceSpec(technology="samples", **{**read_samples(Path(path)), **changes})

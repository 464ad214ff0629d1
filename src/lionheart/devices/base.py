"""The memory device: settings that all technologies share, the protocol of device physics, and the registry of technologies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeVar, final

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError, model_validator
from pydantic_core import CoreSchema, core_schema

from lionheart.constants import load_constants
from lionheart.devices.converter import Converter, CustomPairConverter, PairConverter
from lionheart.errors import ConfigError
from lionheart.registry import Registry
from lionheart.spec import Spec, config_error

if TYPE_CHECKING:
    import torch
    from torch import Tensor

#: Description of the setting that names a technology.
TECHNOLOGY = "name of the device physics"
_WHERE_LISTED = f"{TECHNOLOGY}; see `lionheart devices`"
_DEFAULT_TECHNOLOGY = "pcm"


def default_of(file: str, name: str) -> Any:
    """Return the value of a constant in a TOML file of `lionheart.devices`; lists become tuples."""

    def frozen(value: Any) -> Any:
        return tuple(frozen(item) for item in value) if isinstance(value, list) else value

    return frozen(load_constants("lionheart.devices", file)[name].value)


class DeviceModel(Protocol):
    """The physics of one technology. The argument `device` of its methods is an instance of the technology's spec class.

    Attributes:
        silent_at_zero: Whether a device at 0 µS always reads 0 µS, so that no noise is drawn for the unused device of a pair.
        reads_targets: Whether a read starts from the target conductance in the state instead of the programmed conductance.
    """

    silent_at_zero: bool
    reads_targets: bool

    def program(self, g_target: Tensor, device: Any, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Program devices.

        Args:
            g_target: Target conductances of any shape [µS].
            device: Settings of the technology.
            generator: Source of the programming noise.

        Returns:
            Programmed conductances [µS], shaped like `g_target`, and the state of each device that reading needs. The state is
            shaped like `g_target` and may have additional leading dimensions; for PCM it is the drift exponent [-].
        """

    def read(
        self, g_programmed: Tensor, state: Tensor, device: Any, *, t_inference: float, generator: torch.Generator
    ) -> Tensor:
        """Return the conductances [µS] of one noisy read at `t_inference` [s] after programming."""


@final
@dataclass(frozen=True)
class Technology:
    """A technology of memory devices.

    Args:
        spec: Class of the settings.
        model: Physics of the technology.
    """

    spec: type[DeviceSpec]
    model: DeviceModel


#: All technologies by name. Each module of `lionheart.devices` registers the technologies that it defines.
DEVICES: Registry[Technology] = Registry("DeviceSpec.technology", "technologies", package="lionheart.devices")
Model = TypeVar("Model", bound=DeviceModel)


def register_device(spec: type[DeviceSpec]) -> Callable[[type[Model]], type[Model]]:
    """Return a class decorator that registers a technology; the decorated class is a `DeviceModel`.

    Args:
        spec: Class of the settings. The default value of its field ``technology`` is the name of the technology.

    Raises:
        ConfigError: A technology of this name is already registered.
    """

    def keep(model: type[Model]) -> type[Model]:
        DEVICES.add(spec.model_fields["technology"].default, Technology(spec, model()))
        return model

    return keep


def find_device_model(device: DeviceSpec) -> DeviceModel:
    """Return the physics of the technology of a device.

    Raises:
        ConfigError: The technology is not registered.
    """
    return DEVICES.find(device.technology).model


def _find_spec(settings: Mapping[str, Any]) -> type[DeviceSpec]:
    try:
        return DEVICES.find(str(settings.get("technology", _DEFAULT_TECHNOLOGY))).spec
    except ConfigError as error:
        raise ConfigError(error.message, hint=f"{error.hint}; technology is the {_WHERE_LISTED}") from None


def _parse(value: Any) -> DeviceSpec:
    if isinstance(value, DeviceSpec):
        return value
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ValueError("expected a DeviceSpec or a table of device settings")
    make: Callable[..., DeviceSpec] = DeviceSpec
    return make(**value)


class DeviceSpec(Spec):
    """Settings of a memory device: conductance range, devices per weight, stuck devices, and those of its technology.

    ``DeviceSpec(technology="...", ...)`` returns an instance of the subclass for that technology, which has additional
    settings. The default technology is phase-change memory (``"pcm"``).
    """

    #: Description of the technology in one line, as in ``lionheart devices``.
    summary: ClassVar[str] = ""
    #: TOML file in `lionheart.devices` with the constants of the technology, or None.
    constants_file: ClassVar[str | None] = None

    technology: str = Field(description=_WHERE_LISTED)
    g_max: float = Field(25.0, gt=0, description="largest conductance [µS]")
    g_min: float = Field(0.0, ge=0, description="smallest conductance, on pairs the conductance of weight zero [µS]")
    converter: Converter = Field(default_factory=PairConverter, description="how devices represent a weight")
    stuck_off: float = Field(0.0, ge=0, le=1, description="fraction of devices that are stuck at 0 µS [-]")
    stuck_on: float = Field(0.0, ge=0, le=1, description="fraction of devices that are stuck at g_max [-]")

    def __new__(cls, **settings: Any) -> Self:
        """Return an empty spec of the technology that the settings name."""
        spec: Any = _find_spec(settings) if cls is DeviceSpec else cls
        made: Self = super().__new__(spec)
        return made

    def __init__(self, **settings: Any) -> None:
        try:
            super(Spec, self).__init__(**settings)
        except ValidationError as error:  # messages say DeviceSpec for all technologies
            raise config_error(error, type(self).model_fields, "DeviceSpec") from None

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
        return {"oneOf": [handler(each.spec.__pydantic_core_schema__) for _, each in DEVICES.items()]}

    @model_validator(mode="after")
    def _check_device(self) -> Self:
        if self.g_min >= self.g_max:
            raise ValueError(f"g_min must be below g_max, got {self.g_min} µS and {self.g_max} µS")
        if self.stuck_off + self.stuck_on > 1:
            raise ValueError(f"stuck_off + stuck_on must be at most 1, got {self.stuck_off} + {self.stuck_on}")
        if isinstance(self.converter, CustomPairConverter):
            largest = max(g for table in (*self.converter.g_plus, *self.converter.g_minus) for g in table)
            if largest > self.g_max:
                raise ValueError(
                    f"converter: the largest conductance of a table is {largest} µS, above g_max = {self.g_max} µS"
                )
        return self

    @classmethod
    def pcm(cls, **changes: Any) -> DeviceSpec:
        """Return phase-change memory (PCM) as in AIHWKIT's PCM-like model; `changes` replace default settings."""
        return DeviceSpec(technology="pcm", **changes)

    @classmethod
    def pcm_custom_drift(cls, **settings: Any) -> DeviceSpec:
        """Return phase-change memory with drift exponents from ``drift_table``, rows of (g [µS], mean, sigma)."""
        return DeviceSpec(technology="pcm_custom_drift", **settings)

    @classmethod
    def reram_wan2022(cls, **changes: Any) -> DeviceSpec:
        """Return the resistive memory of Wan et al. (2022), measured at 1 s, 1 day and 2 days; `changes` replace settings."""
        return DeviceSpec(technology="reram_wan2022", **changes)

    @classmethod
    def reram_cmo(cls, **changes: Any) -> DeviceSpec:
        """Return conductive-metal-oxide/HfOx resistive memory with one device per weight; `changes` replace settings."""
        return DeviceSpec(technology="reram_cmo", **changes)

    @classmethod
    def ideal(cls, **changes: Any) -> DeviceSpec:
        """Return a device without noise and drift; `changes` replace default settings."""
        return DeviceSpec(technology="ideal", **changes)

    @classmethod
    def from_toml(cls, path: str | Path, **changes: Any) -> DeviceSpec:
        """Read a device from a TOML file of curves; docs/how-to/devices.md has a template.

        Args:
            path: TOML file.
            changes: Settings that replace those of the file.

        Raises:
            ArtifactError: The file cannot be read, or a number lacks its unit, source or kind of provenance.
            ConfigError: A setting is unknown or its value is not allowed.
        """
        return DEVICES.find("table").spec.from_toml(path, **changes)

    @classmethod
    def from_samples(cls, path: str | Path, **changes: Any) -> DeviceSpec:
        """Read a device from a CSV file of measurements with the columns target [µS], time [s], conductance [µS].

        Args:
            path: CSV file.
            changes: Settings that replace those from the file.

        Raises:
            ArtifactError: The file cannot be read, or a line is invalid; the message names the line.
            ConfigError: A setting is unknown or its value is not allowed.
        """
        return DEVICES.find("samples").spec.from_samples(path, **changes)

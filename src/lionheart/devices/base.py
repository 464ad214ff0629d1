"""Settings that all memory devices have, the protocol of device models, and the registry of device technologies.

A technology is a type of memory device, for example phase-change memory. A device model implements the physics of a technology.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeVar, final

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError, model_validator
from pydantic_core import CoreSchema, core_schema

from lionheart.constants import load_constants
from lionheart.devices.converter import Converter, CustomPairConverter, PairConverter
from lionheart.devices.times import ReadTimes
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
    """Return the value of the constant called `name` in a TOML file of the package `lionheart.devices`.

    A list in the file is returned as a tuple.

    Args:
        file: Name of the TOML file.
        name: Name of the constant.
    """

    def frozen(value: Any) -> Any:
        return tuple(frozen(item) for item in value) if isinstance(value, list) else value

    return frozen(load_constants("lionheart.devices", file)[name].value)


class DeviceModel(Protocol):
    """Protocol of the physics of a memory technology: how devices are programmed and read.

    The argument `device` of both methods holds the settings, as an instance of the technology's subclass of `DeviceSpec`.

    Attributes:
        silent_at_zero: Whether reading a device with a conductance of 0 µS always returns 0 µS. If True, no noise needs to be
            drawn for the unused device of the pair that represents a weight.
        reads_targets: How callers convert the result of `read` to weights. True = with the scale between the exact weights and
            the target conductances. False = with a scale that is computed from the programmed weights.
    """

    silent_at_zero: bool
    reads_targets: bool

    def program(self, g_target: Tensor, device: Any, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the conductances of newly programmed devices, and the state of each device.

        Args:
            g_target: Target conductances of any shape [µS].
            device: Settings of the technology.
            generator: Source of the programming noise.

        Returns:
            Programmed conductances [µS], shaped like `g_target`, and the states that `read` needs. The states have the shape of
            `g_target`, or additional leading dimensions. For phase-change memory a state is a drift exponent [-].
        """

    def read(
        self, g_programmed: Tensor, state: Tensor, device: Any, *, t_inference: float, generator: torch.Generator
    ) -> Tensor:
        """Return the conductances that one noisy read measures [µS], shaped like `g_programmed`.

        Args:
            g_programmed: Programmed conductances [µS].
            state: States of the devices, as returned by `program`.
            device: Settings of the technology.
            t_inference: Time between programming and the read [s].
            generator: Source of the read noise.
        """


@final
@dataclass(frozen=True)
class Technology:
    """A technology of memory devices, as registered in `DEVICES`.

    Args:
        spec: Class of the settings, a subclass of `DeviceSpec`.
        model: Device model, which implements the physics of the technology.
    """

    spec: type[DeviceSpec]
    model: DeviceModel


#: All technologies by name. Each module of `lionheart.devices` registers the technologies that it defines.
DEVICES: Registry[Technology] = Registry("DeviceSpec.technology", "technologies", package="lionheart.devices")
Model = TypeVar("Model", bound=DeviceModel)


def register_device(spec: type[DeviceSpec]) -> Callable[[type[Model]], type[Model]]:
    """Return a class decorator that registers a technology of memory devices.

    The decorated class is a `DeviceModel` that implements the physics of the technology.

    Args:
        spec: Class of the settings of the technology. The default value of the field ``technology`` is the name of the
            technology.

    Raises:
        ConfigError: A technology of this name is already registered. The error is raised when the decorator is applied.
    """

    def keep(model: type[Model]) -> type[Model]:
        DEVICES.add(spec.model_fields["technology"].default, Technology(spec, model()))
        return model

    return keep


def find_device_model(device: DeviceSpec) -> DeviceModel:
    """Return the registered device model of the technology that the setting ``device.technology`` names.

    Raises:
        ConfigError: The technology is not registered.
    """
    return DEVICES.find(device.technology).model


def _find_spec(settings: Mapping[str, Any]) -> type[DeviceSpec]:
    try:
        return DEVICES.find(str(settings.get("technology", _DEFAULT_TECHNOLOGY))).spec
    except ConfigError as error:
        raise ConfigError(
            error.message, hint=f"{error.hint}; run `lionheart devices` for a description of each technology"
        ) from None


def _parse(value: Any) -> DeviceSpec:
    if isinstance(value, DeviceSpec):
        return value
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ValueError(
            f"expected a DeviceSpec, or a mapping from names of device settings to values, got a {type(value).__name__}"
        )
    make: Callable[..., DeviceSpec] = DeviceSpec
    return make(**value)


class DeviceSpec(Spec):
    """Settings that all memory devices have: technology, conductance range, representation of weights, and stuck devices.

    ``DeviceSpec(technology="...", ...)`` returns an instance of the subclass for the given technology. The subclass adds the
    settings of the technology. The default technology is phase-change memory (``"pcm"``).
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
        """Create an instance whose settings have no values yet; ``__init__`` sets the values.

        ``DeviceSpec(...)`` creates an instance of a subclass, which is chosen by the setting ``technology``.
        """
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
            raise ValueError(f"g_min must be less than g_max, got g_min={self.g_min} µS and g_max={self.g_max} µS")
        if self.stuck_off + self.stuck_on > 1:
            raise ValueError(
                f"stuck_off + stuck_on must be at most 1, got stuck_off={self.stuck_off} and stuck_on={self.stuck_on}"
            )
        if isinstance(self.converter, CustomPairConverter):
            largest = max(g for table in (*self.converter.g_plus, *self.converter.g_minus) for g in table)
            if largest > self.g_max:
                raise ValueError(
                    f"converter: conductances in g_plus and g_minus must be at most g_max={self.g_max} µS, got {largest} µS"
                )
        return self

    @property
    def read_times(self) -> ReadTimes:
        """Times after programming at which the device can be read. A technology that knows only some times overrides this."""
        return ReadTimes()

    @classmethod
    def pcm(cls, **changes: Any) -> DeviceSpec:
        """Return the settings of phase-change memory (PCM), by default those of AIHWKIT's PCM-like model.

        Args:
            changes: Settings by name, which replace default values.
        """
        return DeviceSpec(technology="pcm", **changes)

    @classmethod
    def pcm_custom_drift(cls, **settings: Any) -> DeviceSpec:
        """Return the settings of phase-change memory with a user-defined table for the distribution of drift exponents.

        Args:
            settings: Settings of `PCMCustomDriftSpec` by name. The required setting ``drift_table`` is a sequence of rows
                ``(target conductance [µS], mean of the drift exponent [-], standard deviation of the drift exponent [-])``.
        """
        return DeviceSpec(technology="pcm_custom_drift", **settings)

    @classmethod
    def reram_wan2022(cls, **changes: Any) -> DeviceSpec:
        """Return the settings of the resistive memory that Wan et al. (2022) measured 1 s, 1 day and 2 days after programming.

        Args:
            changes: Settings by name, which replace default values.
        """
        return DeviceSpec(technology="reram_wan2022", **changes)

    @classmethod
    def reram_cmo(cls, **changes: Any) -> DeviceSpec:
        """Return the settings of conductive-metal-oxide/HfOx resistive memory.

        Args:
            changes: Settings by name, which replace default values.
        """
        return DeviceSpec(technology="reram_cmo", **changes)

    @classmethod
    def ideal(cls, **changes: Any) -> DeviceSpec:
        """Return the settings of an ideal memory device without noise and drift.

        Args:
            changes: Settings by name, which replace default values.
        """
        return DeviceSpec(technology="ideal", **changes)

    @classmethod
    def from_toml(cls, path: str | Path, **changes: Any) -> DeviceSpec:
        """Return the settings of a user-defined device from a TOML file.

        The file contains curves of programming noise, drift and read noise. A template of the file is in
        docs/how-to/devices.md.

        Args:
            path: TOML file.
            changes: Settings by name, which replace values from the file.

        Raises:
            ArtifactError: The file cannot be read, or a number in the file has no unit or no source, or the file does not state
                whether the number was measured, fitted, derived or assumed.
            ConfigError: A setting is unknown, or the value of a setting is not allowed.
        """
        return DEVICES.find("table").spec.from_toml(path, **changes)

    @classmethod
    def from_samples(cls, path: str | Path, **changes: Any) -> DeviceSpec:
        """Return the settings of a user-defined device from a CSV file of measured conductances.

        The columns of the file are ``target`` [µS], ``time`` after programming [s] and ``conductance`` [µS].

        Args:
            path: CSV file.
            changes: Settings by name, which replace values computed from the file.

        Raises:
            ArtifactError: The file cannot be read, a line is invalid, or there are too few targets or measurements.
            ConfigError: A setting is unknown, or the value of a setting is not allowed.
        """
        return DEVICES.find("samples").spec.from_samples(path, **changes)

"""The platform: cores, memory, tiles and the software's cost coefficients, each with unit, source and kind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from lionheart.constants import Constant, load_constants, parse_constants
from lionheart.errors import ArtifactError, ConfigError, suggest
from lionheart.specs import Spec

_PACKAGE = "lionheart.system"
_SHARED_FILES = ("software.toml", "element_ops.toml")
_PLATFORM_FILES = {"alpine-high-power": "alpine_high_power.toml", "alpine-low-power": "alpine_low_power.toml"}
_TABLE_UNITS = {
    "cycles_per_written": "cycle per element written",
    "cycles_per_read": "cycle per element read",
    "free_ops": "1",
}
_TABLES = tuple(_TABLE_UNITS)


def _quantity(unit: str, description: str, **limits: Any) -> Any:
    """Return a required field that carries the unit its constant must have."""
    return Field(description=f"{description} [{unit}]", json_schema_extra={"unit": unit}, **limits)


class PlatformSpec(Spec):
    """One in-order core with its last-level cache (LLC), DRAM and tiles. Load one with `load_platform`.

    Sources of the numbers are in ``system/data/*.toml``; the equations that use them in ``docs/system_cost.md``.
    """

    name: str = Field(min_length=1, description="name shown in results")

    clock_hz: float = _quantity("Hz", "clock of the core", gt=0)
    n_cores: int = _quantity("1", "cores that share the LLC and the DRAM", ge=1)
    idle_cores: int = _quantity("1", "other cores that idle and are counted in the energy", ge=0)
    active_energy_j_per_cycle: float = _quantity("J/cycle", "core that executes", ge=0)
    wait_energy_j_per_cycle: float = _quantity("J/cycle", "core that waits for memory or for a tile", ge=0)
    idle_energy_j_per_cycle: float = _quantity("J/cycle", "core that idles", ge=0)

    l1_bytes: int = _quantity("B", "capacity of a core's own data cache", gt=0)
    llc_bytes: int = _quantity("B", "capacity of the LLC", gt=0)
    llc_leakage_w: float = _quantity("W", "leakage of the whole LLC", ge=0)
    llc_read_energy_j_per_byte: float = _quantity("J/B", "read of the LLC", ge=0)
    llc_write_energy_j_per_byte: float = _quantity("J/B", "write of the LLC", ge=0)
    llc_line_stall_cycles: float = _quantity("cycle per line read from the last-level cache", "wait of the core", ge=0)
    cache_line_bytes: int = _quantity("B", "bytes of a cache line, and of one DRAM access", gt=0)
    dram_stream_bandwidth_bytes_per_s: float = _quantity("B/s", "DRAM traffic that one core sustains", gt=0)
    dram_bandwidth_bytes_per_s: float = _quantity("B/s", "DRAM traffic that all cores share", gt=0)
    dram_energy_j_per_access: float = _quantity("J", "one DRAM access", ge=0)
    memory_controller_power_w: float = _quantity("W", "memory controller and IO, counted on request", ge=0)

    tile_rows: int = _quantity("1", "inputs of a tile", ge=1)
    tile_cols: int = _quantity("1", "outputs of a tile", ge=1)
    tile_mvm_s: float = _quantity("s", "CM_PROCESS: one MVM of a whole tile", gt=0)
    tile_bandwidth_bytes_per_s: float = _quantity("B/s", "transfer to or from a tile", gt=0)
    tile_ops_per_j: float = _quantity("op/J", "tile in its own technology; a MAC is two operations", gt=0)
    tile_technology_factor: float = _quantity("1", "multiplies the tile's energy in this system", gt=0)

    activation_bytes: int = _quantity("B", "bytes of an activation and of a digital weight", gt=0)
    macs_per_cycle: float = _quantity("MAC/cycle", "digital product kernel, operands in the L1 cache", gt=0)
    conv_macs_per_cycle: float = _quantity("MAC/cycle", "the same of convolutions", gt=0)
    mvms_per_weight_pass: int = _quantity("1", "products computed in one pass over a digital weight matrix", ge=1)
    gather_cycles_per_element: float = _quantity("cycle per patch element", "gather of patches (im2col)", ge=0)
    requantise_cycles_per_output: float = _quantity("cycle per output", "accumulator to int8", ge=0)
    bias_cycles_per_output: float = _quantity("cycle per output", "addition of the bias", ge=0)
    convert_cycles_per_element: float = _quantity(
        "cycle per input or output element of an analog projection", "scaling and rounding between core and tile", ge=0
    )
    io_cycles_per_element: float = _quantity(
        "cycle per element of the network's input and output", "reading the input, writing the result", ge=0
    )
    pack_cycles_per_element: float = _quantity("cycle per int8 element packed for CM_QUEUE", "packing", ge=0)
    unpack_cycles_per_element: float = _quantity(
        "cycle per int8 element unpacked after CM_DEQUEUE", "unpacking and scaling of a tile's output", ge=0
    )
    handover_cycles: float = _quantity("cycle per handover", "hand over to the next core and wake it", ge=0)
    elements_per_queue_instruction: int = _quantity("int8 per CM_QUEUE or CM_DEQUEUE", "elements moved", ge=1)
    queue_instruction_cycles: float = _quantity("cycle per CM_QUEUE or CM_DEQUEUE", "issue", ge=0)
    partial_sum_cycles_per_element: float = _quantity("cycle per partial sum added", "digital addition", ge=0)

    cycles_per_written: Mapping[str, float] = Field(
        description="operation -> price of each element it writes [cycle per element written]"
    )
    cycles_per_read: Mapping[str, float] = Field(
        description="operation -> price of each element it reads [cycle per element read]"
    )
    free_ops: Mapping[str, str] = Field(description="operation that costs nothing -> reason")

    @model_validator(mode="after")
    def _check_ops(self) -> Self:
        tables = {name: set(getattr(self, name)) for name in _TABLES}
        for name, price in {**self.cycles_per_written, **self.cycles_per_read}.items():
            if price < 0:
                raise ValueError(f"{name}: the price must be >= 0 cycles, got {price}")
        for first, second in ((0, 1), (0, 2), (1, 2)):
            twice = tables[_TABLES[first]] & tables[_TABLES[second]]
            if twice:
                raise ValueError(f"{', '.join(sorted(twice))}: priced in both {_TABLES[first]} and {_TABLES[second]}")
        return self


def platform_names() -> tuple[str, ...]:
    """Return the names of the platforms that lionheart ships."""
    return tuple(_PLATFORM_FILES)


def platform_constants(name: str | Path) -> Mapping[str, Constant]:
    """Return every constant of a platform with its unit, source and kind; the platform's own file wins.

    Raises:
        ConfigError: The name is unknown.
        ArtifactError: The file cannot be read, or a constant lacks its unit, source or kind.
    """
    merged: dict[str, Constant] = {}
    for file in _SHARED_FILES:
        merged |= load_constants(_PACKAGE, file)
    own = _own_constants(name)
    for key in own:  # an operation that moves to another table leaves its old one
        table, _, operation = key.partition(".")
        if table in _TABLES:
            for other in _TABLES:
                merged.pop(f"{other}.{operation}", None)
    return {**merged, **own}


def load_platform(name: str | Path) -> PlatformSpec:
    """Load a shipped platform by name, or a user's from a TOML file of the same shape.

    A file gives the constants of ``system/data/alpine_high_power.toml``, each with value, unit, source and kind; it may
    also override the software's cost coefficients and add operations.

    Raises:
        ConfigError: The name is unknown, a constant is missing, unknown or out of range, or has another unit.
        ArtifactError: The file cannot be read.
    """
    where = str(name)
    constants = platform_constants(name)
    settings: dict[str, Any] = {"name": Path(where).stem if _is_file(name) else where}
    settings |= {table: {} for table in _TABLES}
    for key, constant in constants.items():
        table, _, operation = key.partition(".")
        if table in _TABLES and operation:
            settings[table][operation] = constant.value
        else:
            settings[key] = constant.value
    _require_complete(settings, constants, where)
    return PlatformSpec(**settings)


def _is_file(name: str | Path) -> bool:
    return isinstance(name, Path) or name.endswith(".toml")


def _own_constants(name: str | Path) -> Mapping[str, Constant]:
    if not _is_file(name):
        if str(name) not in _PLATFORM_FILES:
            hint = suggest(str(name), _PLATFORM_FILES, label="platforms")
            raise ConfigError(f"platform: got {name!r}, expected a known name or a path to a .toml file", hint=hint)
        return load_constants(_PACKAGE, _PLATFORM_FILES[str(name)])
    try:
        text = Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{name}: cannot be read: {error}", hint="give the path of a platform file") from error
    return parse_constants(text, str(name))


def _require_complete(settings: Mapping[str, Any], constants: Mapping[str, Constant], where: str) -> None:
    """Report all missing constants and wrong units at once."""
    faults = []
    for field, info in PlatformSpec.model_fields.items():
        if field not in settings:
            faults.append(f"{where}:{field}: missing, expected {info.description}")
        elif isinstance(info.json_schema_extra, dict):
            got, expected = constants[field].unit, info.json_schema_extra["unit"]
            if got != expected:
                faults.append(f"{where}:{field}.unit: got {got!r}, expected {expected!r}")
    for key, constant in constants.items():
        expected = _TABLE_UNITS.get(key.partition(".")[0], constant.unit)
        if constant.unit != expected:
            faults.append(f"{where}:{key}.unit: got {constant.unit!r}, expected {expected!r}")
    if faults:
        raise ConfigError("\n".join(faults), hint="the shipped files in lionheart/system/data show every constant")

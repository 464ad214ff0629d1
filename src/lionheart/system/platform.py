"""Platforms: cores, memory, tiles and cost coefficients of the software.

Each constant of a platform has a unit, a source and a kind: ``measured``, ``fitted``, ``derived`` or ``assumed``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from lionheart.constants import Constant
from lionheart.errors import ConfigError, check_type
from lionheart.spec import Spec
from lionheart.system.platform_files import (
    OPERATION_TABLES,
    PLATFORMS,
    TEMPLATE_HINT,
    PlatformFiles,
    nearest,
    read_platform_files,
)

PROGRAMMING_UNITS = {"reset_s": "s", "reset_j": "J", "pulse_s": "s", "pulse_j": "J", "n_pulses": "1"}
_TABLE_UNITS = {
    "cycles_per_written": "cycle per element written",
    "cycles_per_read": "cycle per element read",
    "free_ops": "1",
}
TABLES = (*OPERATION_TABLES, "programming")


def _quantity(unit: str, description: str, **limits: Any) -> Any:
    """Return a required field of `PlatformSpec` with the unit that platform files must give, description and value limits."""
    return Field(description=f"{description} [{unit}]", json_schema_extra={"unit": unit}, **limits)


class PlatformSpec(Spec):
    """A platform: in-order cores with a shared last-level cache (LLC), DRAM and tiles, and cost coefficients of the software.

    `load_platform` returns a platform by name. The numbers and their sources are in ``system/data/*.toml`` and
    ``system/platforms/*.toml``, and the equations are in ``docs/concepts/system-cost.md``.
    """

    name: str = Field(min_length=1, description="name shown in results")
    description: str = Field("", description="description in one line")

    clock_hz: float = _quantity("Hz", "clock frequency of the core", gt=0)
    n_cores: int = _quantity("1", "number of cores, which share the LLC and the DRAM", ge=1)
    idle_cores: int = _quantity("1", "number of idle cores whose energy is counted", ge=0)
    active_energy_j_per_cycle: float = _quantity("J/cycle", "energy of a core that executes", ge=0)
    wait_energy_j_per_cycle: float = _quantity("J/cycle", "energy of a core that waits for memory or for a tile", ge=0)
    idle_energy_j_per_cycle: float = _quantity("J/cycle", "energy of an idle core", ge=0)

    l1_bytes: int = _quantity("B", "capacity of a core's own data cache", gt=0)
    llc_bytes: int = _quantity("B", "capacity of the LLC", gt=0)
    llc_leakage_w: float = _quantity("W", "leakage power of the whole LLC", ge=0)
    llc_read_energy_j_per_byte: float = _quantity("J/B", "energy of a read of the LLC", ge=0)
    llc_write_energy_j_per_byte: float = _quantity("J/B", "energy of a write to the LLC", ge=0)
    llc_line_stall_cycles: float = _quantity(
        "cycle per line read from the last-level cache", "stall of the core for a read of the LLC", ge=0
    )
    cache_line_bytes: int = _quantity("B", "size of a cache line, and of one DRAM access", gt=0)
    dram_stream_bandwidth_bytes_per_s: float = _quantity("B/s", "DRAM bandwidth that one core sustains", gt=0)
    dram_bandwidth_bytes_per_s: float = _quantity("B/s", "DRAM bandwidth that all cores share", gt=0)
    dram_energy_j_per_access: float = _quantity("J", "energy of one DRAM access", ge=0)
    memory_controller_power_w: float = _quantity("W", "power of memory controller and IO, counted on request", ge=0)

    n_tiles: int | None = Field(
        None,
        ge=0,
        description="number of tiles; not given = as many as needed [1]",
        json_schema_extra={"unit": "1"},
    )
    tile_rows: int = _quantity("1", "number of inputs of the tile whose energy is given", ge=1)
    tile_cols: int = _quantity("1", "number of outputs of the tile whose energy is given", ge=1)
    tile_dac_bits: int = _quantity(
        "bit", "resolution of the input converters of the tile whose energy is given", ge=1, le=24
    )
    tile_adc_bits: int = _quantity(
        "bit", "resolution of the output converters of the tile whose energy is given", ge=1, le=24
    )
    tile_mvm_s: float = _quantity("s", "time of CM_PROCESS, one MVM of a whole tile", gt=0)
    tile_bandwidth_bytes_per_s: float = _quantity("B/s", "transfer rate to or from a tile", gt=0)
    tile_ops_per_j: float = _quantity(
        "op/J", "energy efficiency of the tile in its own technology; a MAC is two operations", gt=0
    )
    tile_technology_factor: float = _quantity(
        "1", "factor by which the tile's energy is multiplied in this system", gt=0
    )
    tile_accumulates_reads: bool = _quantity(
        "1",
        "whether a tile adds the outputs of repeated reads; if false, the core takes the outputs of each read and adds them",
    )
    tile_broadcasts_inputs: bool = _quantity(
        "1", "whether inputs are queued once for all row copies of a weight; if false, they are queued for each copy"
    )
    tile_converter_share: float = _quantity("1", "fraction of the tile's energy that the converters use", ge=0, le=1)
    adc_linear_f: float = _quantity("F/bit", "ADC: capacitance proportional to the bits", gt=0)
    adc_exponential_f: float = _quantity("F/4^bit", "ADC: capacitance proportional to 4 to the power of the bits", ge=0)
    dac_linear_f: float = _quantity("F/bit", "DAC: capacitance proportional to the bits", gt=0)
    converter_vdd_v: float = _quantity("V", "supply voltage of the converters in the closed form", gt=0)

    activation_bytes: int = _quantity("B", "size of an activation and of a digital weight", gt=0)
    macs_per_cycle: float = _quantity(
        "MAC/cycle", "rate of the digital matrix-product kernel, operands in the L1 cache", gt=0
    )
    conv_macs_per_cycle: float = _quantity("MAC/cycle", "rate of the kernel of convolutions", gt=0)
    depthwise_macs_per_cycle: float = _quantity("MAC/cycle", "rate of the kernel of depthwise convolutions", gt=0)
    mvms_per_weight_pass: int = _quantity("1", "products computed in one pass over a digital weight matrix", ge=1)
    gather_cycles_per_element: float = _quantity("cycle per patch element", "gathering of patches (im2col)", ge=0)
    requantise_cycles_per_output: float = _quantity("cycle per output", "conversion of accumulators to int8", ge=0)
    bias_cycles_per_output: float = _quantity("cycle per output", "addition of the bias", ge=0)
    convert_input_cycles: float = _quantity(
        "cycle per input element of an analog projection", "scaling and rounding before the tile", ge=0
    )
    convert_output_cycles: float = _quantity(
        "cycle per output element of an analog projection", "scaling and rounding of the sum over tiles", ge=0
    )
    io_cycles_per_element: float = _quantity(
        "cycle per element of the network's input and output", "reading the input, writing the result", ge=0
    )
    pack_cycles_per_element: float = _quantity("cycle per int8 element packed for CM_QUEUE", "packing", ge=0)
    unpack_cycles_per_element: float = _quantity(
        "cycle per int8 element unpacked after CM_DEQUEUE", "unpacking and scaling of a tile's output", ge=0
    )
    handover_cycles: float = _quantity("cycle per handover", "handover to the next core, including its wake-up", ge=0)
    elements_per_queue_instruction: int = _quantity(
        "int8 per CM_QUEUE or CM_DEQUEUE", "elements moved by one instruction", ge=1
    )
    queue_instruction_cycles: float = _quantity(
        "cycle per CM_QUEUE or CM_DEQUEUE", "cycles of one queue instruction", ge=0
    )
    partial_sum_cycles_per_element: float = _quantity(
        "cycle per partial sum added", "digital addition of partial sums", ge=0
    )

    sparse_mac_cycles: float = _quantity(
        "cycle per product of a digital weight", "product of one weight on the core, added to an output of a tile", ge=0
    )

    cycles_per_written: Mapping[str, float] = Field(
        description="operation -> cost of each element that it writes [cycle per element written]"
    )
    cycles_per_read: Mapping[str, float] = Field(
        description="operation -> cost of each element that it reads [cycle per element read]"
    )
    free_ops: Mapping[str, str] = Field(description="operation that costs nothing -> reason")

    programming: Mapping[str, float] = Field(
        description="technology.quantity -> cost of programming one device: reset_s, reset_j: first pulse [s, J]; pulse_s, "
        "pulse_j: each further pulse [s, J]; n_pulses: number of further pulses, each verified by a read [1]"
    )

    @model_validator(mode="after")
    def _check_tables(self) -> Self:
        tables = {name: set(getattr(self, name)) for name in OPERATION_TABLES}
        for name, price in {**self.cycles_per_written, **self.cycles_per_read, **self.programming}.items():
            if price < 0:
                raise ValueError(f"constant {name!r}: got {price}, expected 0 or more")
        for first, second in ((0, 1), (0, 2), (1, 2)):
            one, other = OPERATION_TABLES[first], OPERATION_TABLES[second]
            twice = tables[one] & tables[other]
            if twice:
                raise ValueError(
                    f"{', '.join(map(repr, sorted(twice)))}: listed in both [{one}] and [{other}], expected in only one table"
                )
        return self


_SWITCHES = frozenset(name for name, info in PlatformSpec.model_fields.items() if info.annotation is bool)


def platform_names() -> tuple[str, ...]:
    """Return the names of the platforms that are shipped with LionHeart."""
    return PLATFORMS.names()


def platform_constants(name: str | Path) -> Mapping[str, Constant]:
    """Return every constant of a platform with its unit, source and kind (measured, fitted, derived or assumed), by name.

    The result includes the constants of the platforms that this platform extends.

    Args:
        name: Name of a shipped platform, or path to a user's ``.toml`` file. A `PlatformSpec` is returned unchanged.

    Raises:
        ConfigError: The name is unknown, or the platform files contain errors.
        ArtifactError: A file cannot be read.
    """
    files = read_platform_files(name)
    if files.faults:
        raise ConfigError("\n".join(files.faults), hint=TEMPLATE_HINT)
    return files.constants


def load_platform(name: str | Path | PlatformSpec) -> PlatformSpec:
    """Load a shipped platform by name, or a user's platform from a TOML file (format: ``docs/how-to/platforms.md``).

    A file gives constants, each with value, unit, source and kind (``measured``, ``fitted``, ``derived`` or ``assumed``). A
    file may extend another platform with ``extends = "..."``.

    Args:
        name: Name of a shipped platform, or path to a user's ``.toml`` file.

    Raises:
        ConfigError: The name is unknown, or constants are missing, unknown, out of range, of a wrong type or unit, or without a
            source. The message lists all errors, each with file and key.
        ArtifactError: A file cannot be read.
    """
    if isinstance(name, PlatformSpec):
        return name
    check_type(name, (str, Path), "platform", hint="give the name of a platform, or the path of a TOML file")
    files = read_platform_files(name)
    faults = [*files.faults, *_find_key_faults(files)]
    settings: dict[str, Any] = {"name": files.name, "description": files.description} | {key: {} for key in TABLES}
    for key, constant in files.constants.items():
        if _describe_type_fault(key, constant.value):
            continue
        table, _, rest = key.partition(".")
        if table in TABLES and rest:
            settings[table][rest] = constant.value
        elif key in PlatformSpec.model_fields:
            settings[key] = constant.value
    faults += _find_range_faults(settings, files)
    faults += _find_missing(settings, files)
    if faults:
        raise ConfigError("\n".join(faults), hint=TEMPLATE_HINT)
    return PlatformSpec(**settings)


def scalar_units() -> dict[str, str]:
    """Return the unit of each platform constant that is a single value, by name of the constant."""
    return {
        name: str(info.json_schema_extra["unit"])
        for name, info in PlatformSpec.model_fields.items()
        if isinstance(info.json_schema_extra, dict)
    }


def _find_key_faults(files: PlatformFiles) -> Iterator[str]:
    """Yield a message for each unknown key, wrong unit and wrong type, in the order of the constants in the files."""
    for key, constant in files.constants.items():
        where = f"{files.origins[key]}:{key}"
        unit = _expected_unit(key)
        if unit is None:
            yield f"{where}: unknown constant{nearest(key, _known_keys(files))}"
            continue
        if constant.unit != unit and constant.unit:  # a missing unit has already been reported
            yield f"{where}.unit: got {constant.unit!r}, expected {unit!r}"
        fault = _describe_type_fault(key, constant.value)
        if fault:
            yield f"{where}: {fault}"


def _known_keys(files: PlatformFiles) -> list[str]:
    technologies = {
        key.split(".")[1] for key in files.constants if key.startswith("programming.") and key.count(".") == 2
    }
    programming = [f"programming.{technology}.{name}" for technology in technologies for name in PROGRAMMING_UNITS]
    return [*scalar_units(), *(f"{table}." for table in OPERATION_TABLES), *programming]


def _expected_unit(key: str) -> str | None:
    """Return the unit that the constant `key` must have; None if there is no constant of this name."""
    table, _, rest = key.partition(".")
    if table in _TABLE_UNITS and rest:
        return _TABLE_UNITS[table]
    if table == "programming":
        technology, _, name = rest.rpartition(".")
        return PROGRAMMING_UNITS.get(name) if technology else None
    return scalar_units().get(key)


def _describe_type_fault(key: str, value: object) -> str:
    if key.startswith("free_ops."):
        return "" if isinstance(value, str) and value.strip() else f"got {value!r}, expected the reason as a string"
    if key in _SWITCHES:
        return "" if isinstance(value, bool) else f"got {value!r}, expected true or false"
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return "" if is_number else f"got {value!r}, expected a number"


def _find_range_faults(settings: Mapping[str, Any], files: PlatformFiles) -> Iterator[str]:
    """Yield a message for each value that `PlatformSpec` rejects.

    Missing values are taken from a valid platform so that the given values can be checked.
    """
    own = {key for key in settings if key in files.constants}
    whole = settings
    if _find_missing(settings, files, every=True):
        proxy = read_platform_files("alpine-high-power").constants
        whole = {key: proxy[key].value for key in scalar_units() if key in proxy} | dict(settings)
    try:
        PlatformSpec(**whole)
    except ConfigError as error:
        for line in error.message.splitlines():
            key, _, text = line.removeprefix("PlatformSpec.").partition(": ")
            where = f"{files.origins[key]}:{key}" if key in own else files.name
            yield f"{where}: {text.replace(': Input should be ', ', expected ').replace(': Value error,', ':')}"


def _find_missing(settings: Mapping[str, Any], files: PlatformFiles, *, every: bool = False) -> list[str]:
    """Return a message for each required constant that is missing.

    If an extended file was not found, no messages are returned unless `every` is True. With ``every=True``, messages are also
    returned for constants whose entries in the files have errors.
    """
    if not (files.is_whole or every):
        return []
    faulty = " ".join(files.faults)
    return [
        f"{files.name}:{key}: missing, expected {info.description}"
        for key, info in PlatformSpec.model_fields.items()
        if info.is_required()
        and key not in settings
        and (every or (key not in files.constants and f":{key}:" not in faulty and f":{key}." not in faulty))
    ]

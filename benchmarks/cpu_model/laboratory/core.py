"""An interval model of a CPU core: from instructions and cache misses to active, waiting and idle cycles.

The busiest resource limits the speed of the core: issue slots, SIMD pipes, memory ports, ALUs. The stalls of split
vector loads, mispredicted branches and cache misses are added; an out-of-order core hides the fraction that fits its
window. Every function is pure. The cores are in ``benchmarks/cpu_model/laboratory/cores.toml``, each number with unit,
source and kind.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any, final

from pydantic import Field

from laboratory.constants import read_file
from lionheart.constants import Constant
from lionheart.errors import ConfigError, suggest
from lionheart.spec import Spec

_FILE = "cores.toml"
_VECTOR_BITS = 128  # width of a NEON register
_BITS_PER_BYTE = 8


@final
@dataclass(frozen=True)
class InstructionMix:
    """Instructions by class, of a kernel or per unit of work; the default of a class is 0.

    The classes are disjoint. A SIMD instruction writes one 128-bit register.

    Args:
        scalar_int: Integer arithmetic, address updates, moves between register files.
        int_mul: Integer multiplications in scalar registers.
        branch: Branches, calls, returns.
        scalar_load: Loads to scalar registers, and prefetches.
        scalar_store: Stores of scalar registers.
        vector_load: Loads to SIMD registers.
        vector_store: Stores of SIMD registers.
        simd_int: Integer SIMD other than multiplications: adds, widening moves, shifts, saturation, minima, permutations.
        simd_multiply: Integer SIMD multiplications and multiply-accumulates; 16 results of 8 bits widen in two of them.
        simd_float: Floating-point SIMD, conversions from and to float included.
        vector_load_bytes: Bytes of `vector_load`, at least 8 each [B].
        vector_store_bytes: Bytes of `vector_store`, at least 8 each [B].
        mispredicted: Branches whose direction is mispredicted; they are also counted in `branch`.
    """

    scalar_int: float = 0.0
    int_mul: float = 0.0
    branch: float = 0.0
    scalar_load: float = 0.0
    scalar_store: float = 0.0
    vector_load: float = 0.0
    vector_store: float = 0.0
    simd_int: float = 0.0
    simd_multiply: float = 0.0
    simd_float: float = 0.0
    vector_load_bytes: float = 0.0
    vector_store_bytes: float = 0.0
    mispredicted: float = 0.0

    def __add__(self, other: InstructionMix) -> InstructionMix:
        return InstructionMix(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def __mul__(self, factor: float) -> InstructionMix:
        return InstructionMix(*(value * factor for value in astuple(self)))

    @property
    def scalar(self) -> float:
        """Instructions that touch no SIMD register."""
        return self.scalar_int + self.int_mul + self.branch + self.scalar_load + self.scalar_store

    @property
    def simd(self) -> float:
        """SIMD arithmetic instructions."""
        return self.simd_int + self.simd_multiply + self.simd_float

    @property
    def instructions(self) -> float:
        """All instructions."""
        return self.scalar + self.simd + self.vector_load + self.vector_store


@final
@dataclass(frozen=True)
class CacheMisses:
    """Cache lines that a core moves beyond its L1 data cache.

    Args:
        l1_lines: Lines that miss in L1, from any level.
        dram_lines: Missing lines that come from DRAM, including lines requested by another core.
        dram_traffic_lines: This core's share of the lines on the DRAM bus, write-backs included.
    """

    l1_lines: float = 0.0
    dram_lines: float = 0.0
    dram_traffic_lines: float = 0.0

    def __add__(self, other: CacheMisses) -> CacheMisses:
        return CacheMisses(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def __mul__(self, factor: float) -> CacheMisses:
        return CacheMisses(*(value * factor for value in astuple(self)))


def _quantity(unit: str, description: str, **limits: Any) -> Any:
    """Return a required field with the unit of its constant."""
    return Field(description=f"{description} [{unit}]", json_schema_extra={"unit": unit}, **limits)


class CoreSpec(Spec):
    """A core with its caches and its DRAM; see `load_core` and `replace`."""

    name: str = Field(min_length=1, description="name shown in results")
    clock_hz: float = _quantity("Hz", "clock", gt=0)

    in_order: bool = _quantity("1", "whether instructions issue in program order", strict=True)
    issue_width: float = _quantity("instruction/cycle", "instructions issued, or decoded out of order", gt=0)
    scalar_per_cycle: float = _quantity(
        "instruction/cycle", "scalar instructions sustained; they depend on another", gt=0
    )
    int_alus: float = _quantity("instruction/cycle", "integer ALUs", gt=0)
    int_multipliers: float = _quantity("instruction/cycle", "integer multipliers, in multiplications started", gt=0)
    memory_ops_per_cycle: float = _quantity("access/cycle", "loads and stores together", gt=0)
    loads_per_cycle: float = _quantity("access/cycle", "loads", gt=0)
    stores_per_cycle: float = _quantity("access/cycle", "stores", gt=0)
    vector_load_bits: int = _quantity("bit/access", "SIMD data of one load access", gt=0)
    vector_store_bits: int = _quantity("bit/access", "SIMD data of one store access", gt=0)
    vector_loads_block_simd: bool = _quantity("1", "whether a vector load takes the SIMD issue slot", strict=True)
    split_load_stall_cycles: float = _quantity("cycle/access", "stall for each further access of a vector load", ge=0)
    simd_int_bits_per_cycle: float = _quantity("bit/cycle", "all pipes, integer SIMD", gt=0)
    simd_multiply_bits_per_cycle: float = _quantity("bit/cycle", "all pipes, results of integer multiplications", gt=0)
    simd_float_bits_per_cycle: float = _quantity("bit/cycle", "all pipes, floating point", gt=0)
    sustained_share: float = _quantity("1", "share of the busiest resource's rate that is sustained", gt=0, le=1)
    reorder_window: float = _quantity("instruction", "instructions in flight; 0 in order", ge=0)
    mispredict_cycles: float = _quantity("cycle", "cost of a mispredicted branch", ge=0)

    line_bytes: int = _quantity("B", "cache line", gt=0)
    l1_bytes: int = _quantity("B", "L1 data cache", gt=0)
    l2_bytes: int = _quantity("B", "L2 cache, shared by the cores", gt=0)
    l2_latency_cycles: float = _quantity("cycle", "L1 miss that hits in L2", ge=0)
    l2_bytes_per_cycle: float = _quantity("B/cycle", "L2 to one core", gt=0)
    l2_shared_bytes_per_cycle: float = _quantity("B/cycle", "L2 to all cores together", gt=0)
    outstanding_l1_misses: float = _quantity("1", "L1 misses under way at once", ge=1)
    dram_latency_s: float = _quantity("s", "access to DRAM that no prefetcher foresaw", ge=0)
    outstanding_dram_lines: float = _quantity(
        "1", "lines under way from DRAM at once for one core, prefetches included", ge=1
    )
    dram_bytes_per_s: float = _quantity("B/s", "DRAM stream, shared by the cores", gt=0)


@final
@dataclass(frozen=True)
class CoreTime:
    """Cycles of one core.

    Args:
        active_cycles: Cycles of execution, including pipeline stalls.
        wait_cycles: Cycles of waiting for L2 or DRAM.
        idle_cycles: Cycles of waiting for other cores.
        clock_hz: Clock of the core [Hz].
        bottleneck: Busiest resource.
    """

    active_cycles: float
    wait_cycles: float
    idle_cycles: float
    clock_hz: float
    bottleneck: str

    @property
    def cycles(self) -> float:
        """All cycles."""
        return self.active_cycles + self.wait_cycles + self.idle_cycles

    @property
    def latency_s(self) -> float:
        """Time from start to end [s]."""
        return self.cycles / self.clock_hz


def core_names() -> tuple[str, ...]:
    """Return the names of the available cores."""
    return tuple(dict.fromkeys(key.partition(".")[0] for key in read_file(_FILE)))


def core_constants(name: str) -> Mapping[str, Constant]:
    """Return every constant of a core with its unit, source and kind.

    Raises:
        ConfigError: The name is unknown.
    """
    found = {
        key.partition(".")[2]: constant for key, constant in read_file(_FILE).items() if key.startswith(f"{name}.")
    }
    if not found:
        hint = suggest(name, core_names(), label="cores")
        raise ConfigError(f"core: got {name!r}, expected a known name", hint=hint)
    return found


def load_core(name: str) -> CoreSpec:
    """Load a shipped core by name.

    Raises:
        ConfigError: The name is unknown, or a constant is missing, unknown, out of range or in another unit.
    """
    constants = core_constants(name)
    faults = [
        f"{_FILE}:{name}.{key}.unit: got {constants[key].unit!r}, expected {extra['unit']!r}"
        for key, info in CoreSpec.model_fields.items()
        if key in constants
        and isinstance(extra := info.json_schema_extra, dict)
        and constants[key].unit != extra["unit"]
    ]
    if faults:
        raise ConfigError("\n".join(faults), hint="fix the file")
    return CoreSpec(name=name, **{key: constant.value for key, constant in constants.items()})


def resource_cycles(mix: InstructionMix, core: CoreSpec) -> Mapping[str, float]:
    """Return the busy cycles of each resource of a core for `mix` with all data in L1.

    A vector load of more bits than the load path has takes several accesses. On a core whose vector loads take the SIMD
    issue slot (Cortex-A53: neither a 64-bit nor a 128-bit load issues beside SIMD arithmetic) they count there too.
    """
    load_accesses = max(mix.vector_load, mix.vector_load_bytes * _BITS_PER_BYTE / core.vector_load_bits)
    store_accesses = max(mix.vector_store, mix.vector_store_bytes * _BITS_PER_BYTE / core.vector_store_bits)
    loads, stores = mix.scalar_load + load_accesses, mix.scalar_store + store_accesses
    integer = (mix.simd_int + mix.simd_multiply) * _VECTOR_BITS / core.simd_int_bits_per_cycle
    floating = mix.simd_float * _VECTOR_BITS / core.simd_float_bits_per_cycle
    blocked = load_accesses if core.vector_loads_block_simd else 0.0
    return {
        "issue": mix.instructions / core.issue_width,
        "scalar": mix.scalar / core.scalar_per_cycle,
        "integer ALU": mix.scalar_int / core.int_alus,
        "integer multiplier": mix.int_mul / core.int_multipliers,
        "SIMD": integer + floating + blocked,
        "SIMD multiplier": mix.simd_multiply * _VECTOR_BITS / core.simd_multiply_bits_per_cycle + blocked,
        "load": loads / core.loads_per_cycle,
        "store": stores / core.stores_per_cycle,
        "memory port": (loads + stores) / core.memory_ops_per_cycle,
    }


def _stall_cycles(mix: InstructionMix, core: CoreSpec) -> float:
    """Return the cycles lost to split vector loads and to mispredicted branches."""
    accesses = mix.vector_load_bytes * _BITS_PER_BYTE / core.vector_load_bits
    split = max(accesses - mix.vector_load, 0.0)
    return split * core.split_load_stall_cycles + mix.mispredicted * core.mispredict_cycles


def _wait_cycles(misses: CacheMisses, active_cycles: float, core: CoreSpec, n_active_cores: int) -> float:
    """Return the cycles of waiting for L2 and DRAM that the reorder window does not hide.

    A miss costs ``latency / misses in flight``, and its transfer occupies the path from L2 and the DRAM bus, which all
    active cores share. The window hides ``reorder_window / issue_width`` cycles of each latency, at most the remaining
    work. Transfers from L2 overlap with the work.
    """
    window = core.reorder_window / core.issue_width
    l2_wait = misses.l1_lines * max(core.l2_latency_cycles - window, 0.0) / core.outstanding_l1_misses
    path = max(1.0 / core.l2_bytes_per_cycle, n_active_cores / core.l2_shared_bytes_per_cycle)
    l2_transfer = misses.l1_lines * core.line_bytes * path
    dram_latency = core.dram_latency_s * core.clock_hz
    latency = misses.dram_lines * dram_latency / core.outstanding_dram_lines
    traffic_bytes = n_active_cores * misses.dram_traffic_lines * core.line_bytes
    dram_wait = max(latency, traffic_bytes / core.dram_bytes_per_s * core.clock_hz)
    hidden = dram_wait * min(window / dram_latency, 1.0) if dram_latency else 0.0
    return max(l2_wait - min(hidden, active_cycles), l2_transfer - active_cycles) + dram_wait


def time_kernel(mix: InstructionMix, misses: CacheMisses, core: CoreSpec, *, n_active_cores: int = 1) -> CoreTime:
    """Return the cycles of one core for its own work while `n_active_cores` cores do the same.

    ``active = busiest resource / sustained_share + split loads x stall + mispredictions x cost``; the wait is added; it
    excludes the cycles that the window hides.

    Args:
        mix: Instructions of this core.
        misses: Cache lines of this core.
        core: Core specification.
        n_active_cores: Number of cores that share the DRAM, >= 1.

    Returns:
        Active and waiting cycles; a single kernel has no idle cycles.

    Raises:
        ConfigError: `n_active_cores` is less than 1.

    Assumes:
        Code is scheduled so that arithmetic latencies are hidden; dependent chains are not modelled. L2 hits of different
        cores do not queue.

    Source:
        Interval analysis after Eyerman et al., ACM TOCS 27(2), 2009; constants in benchmarks/cpu_model/laboratory/cores.toml.
    """
    if n_active_cores < 1:
        raise ConfigError(f"n_active_cores: got {n_active_cores}, expected at least 1", hint="count the core itself")
    busy = resource_cycles(mix, core)
    bottleneck = max(busy, key=busy.__getitem__)
    active = busy[bottleneck] / core.sustained_share + _stall_cycles(mix, core)
    return CoreTime(active, _wait_cycles(misses, active, core, n_active_cores), 0.0, core.clock_hz, bottleneck)


def time_parallel(
    mix: InstructionMix, misses: CacheMisses, core: CoreSpec, *, n_cores: int, n_chunks: int, fork_join_s: float = 0.0
) -> CoreTime:
    """Return the mean cycles of `n_cores` equal cores that share the work of a kernel in equal chunks.

    The busiest core has ``ceil(n_chunks / n_cores)`` chunks; the others wait for it. A single core has no fork and join.

    Args:
        mix: Instructions of the whole kernel.
        misses: Cache misses of the whole kernel for each core; lines and traffic are divided over the chunks like the
            instructions.
        core: Core specification.
        n_cores: Number of cores, >= 1.
        n_chunks: Number of indivisible pieces of work, >= 1.
        fork_join_s: Time to wake the cores and to synchronise them again [s].

    Raises:
        ConfigError: `n_cores` or `n_chunks` is less than 1.
    """
    if n_cores < 1 or n_chunks < 1:
        raise ConfigError(
            f"n_cores, n_chunks: got {n_cores}, {n_chunks}, expected at least 1 each", hint="one core has one chunk"
        )
    share = math.ceil(n_chunks / n_cores) / n_chunks
    n_active = min(n_cores, n_chunks)
    busiest = time_kernel(mix * share, misses * share, core, n_active_cores=n_active)
    total = busiest.cycles + (fork_join_s * core.clock_hz if n_cores > 1 else 0.0)
    mean = 1.0 / (n_cores * share)  # work of the mean core divided by work of the busiest core
    active, wait = busiest.active_cycles * mean, busiest.wait_cycles * mean
    return CoreTime(active, wait, total - active - wait, core.clock_hz, busiest.bottleneck)

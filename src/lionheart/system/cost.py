"""Conversion of work (numbers of cycles, bytes and products on tiles) into time and energy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import final

from lionheart.system.platform import PlatformSpec
from lionheart.system.tile_energy import mvm_energy
from lionheart.system.work import Work


@final
@dataclass(frozen=True)
class Cost:
    """Time and energy of a piece of work, such as a layer in one inference, by named component.

    The totals are the sums over the components.

    Args:
        time_s: Time of each component [s].
        energy: Energy of each component [J].
        dram_bytes: Bytes moved to or from DRAM. All cores share the bandwidth of the DRAM.
    """

    time_s: Mapping[str, float] = field(default_factory=dict)
    energy: Mapping[str, float] = field(default_factory=dict)
    dram_bytes: float = 0.0

    @property
    def reads_j(self) -> float:
        """Energy of all reads of tiles [J]: the components of the tiles, i.e. arrays, converters and repeated reads."""
        return sum(joules for name, joules in self.energy.items() if name.startswith("tile_"))

    @property
    def latency_s(self) -> float:
        """Total time [s], i.e. the sum over all components."""
        return sum(self.time_s.values())

    @property
    def energy_j(self) -> float:
        """Total energy [J], i.e. the sum over all components."""
        return sum(self.energy.values())


def price_work(work: Work, platform: PlatformSpec, *, count_memory_controller: bool = False) -> Cost:
    """Return the time and energy of `work`, by component.

    The time is the number of active cycles divided by the clock frequency, plus the waiting time. The energy is the sum of
    these terms:

    - number of active cycles times the energy of an active cycle of the core;
    - number of wait cycles times the energy of a wait cycle of the core;
    - number of active and wait cycles times the number of idle cores and the energy of an idle cycle;
    - number of bytes read from and written to the last-level cache (LLC) times the energy of a byte;
    - leakage power of the LLC times the time;
    - number of cache lines transferred to or from DRAM times the energy of a DRAM access;
    - number of products on tiles times the energy of one product (`mvm_energy`), and the same for each further read, as one
      component;
    - power of the memory controller and IO times the time, if `count_memory_controller` is True.
    """
    active, wait_s = sum(work.active_cycles.values()), sum(work.wait_s.values())
    time_s = {name: cycles / platform.clock_hz for name, cycles in work.active_cycles.items()}
    for name, seconds in work.wait_s.items():
        time_s[name] = time_s.get(name, 0.0) + seconds
    wait_cycles, latency_s = wait_s * platform.clock_hz, sum(time_s.values())
    energy = {
        "core_active": active * platform.active_energy_j_per_cycle,
        "core_wait": wait_cycles * platform.wait_energy_j_per_cycle,
        "core_idle": platform.idle_cores * (active + wait_cycles) * platform.idle_energy_j_per_cycle,
        "llc_access": work.llc_read_bytes * platform.llc_read_energy_j_per_byte
        + work.llc_write_bytes * platform.llc_write_energy_j_per_byte,
        "llc_leakage": platform.llc_leakage_w * latency_s,
        "dram": work.dram_lines * platform.dram_energy_j_per_access,
    }
    if work.tile is not None:
        one = mvm_energy(platform, work.tile)
        energy |= {name: work.tile_mvms * joules for name, joules in one.items()}
        energy["tile_repeated_reads"] = work.repeated_mvms * sum(one.values())
    if count_memory_controller:
        energy["memory_controller"] = platform.memory_controller_power_w * latency_s
    return Cost(
        {name: value for name, value in time_s.items() if value},
        {name: value for name, value in energy.items() if value},
        work.dram_lines * platform.cache_line_bytes,
    )


def add_costs(costs: Iterable[Cost]) -> Cost:
    """Return the sum of several costs. Times and energies of components with the same name are added."""
    time_s: dict[str, float] = {}
    energy: dict[str, float] = {}
    dram_bytes = 0.0
    for cost in costs:
        dram_bytes += cost.dram_bytes
        for total, part in ((time_s, cost.time_s), (energy, cost.energy)):
            for name, value in part.items():
                total[name] = total.get(name, 0.0) + value
    return Cost(time_s, energy, dram_bytes)


def split_cost(cost: Cost, parts: int) -> Cost:
    """Return `cost` divided by `parts`: the cost of each part if the work is divided into `parts` equal parts."""
    return Cost(
        {name: value / parts for name, value in cost.time_s.items()},
        {name: value / parts for name, value in cost.energy.items()},
        cost.dram_bytes / parts,
    )


def scale_cost(cost: Cost, factor: float) -> Cost:
    """Return `cost` with all times, energies and DRAM bytes multiplied by `factor`, without components that are then zero."""
    return Cost(
        {name: value * factor for name, value in cost.time_s.items() if value * factor},
        {name: value * factor for name, value in cost.energy.items() if value * factor},
        cost.dram_bytes * factor,
    )

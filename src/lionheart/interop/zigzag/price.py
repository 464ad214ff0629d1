"""Latency and energy computed by ZigZag for projections (weight matrices) and for an in-memory computing array.

For each projection, ZigZag searches for the loop order with the smallest energy-delay product. For the array, a closed-form
model gives the cost.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

from zigzag.datatypes import OADimension
from zigzag.hardware.architecture.imc_array import ImcArray
from zigzag.mapping.temporal_mapping import TemporalMappingType
from zigzag.opt.loma.engine import NoValidLoopOrderingFoundException
from zigzag.stages.evaluation.cost_model_evaluation import CostModelStage
from zigzag.stages.main import MainStage
from zigzag.stages.mapping.spatial_mapping_generation import SpatialMappingGeneratorStage
from zigzag.stages.mapping.temporal_mapping_generator_stage import TemporalMappingGeneratorStage
from zigzag.stages.results.reduce_stages import MinimalEDPStage
from zigzag.stages.workload_iterator import WorkloadStage

from lionheart.errors import UnsupportedLayerError
from lionheart.graph import LayerGraph
from lionheart.interop.zigzag.describe import LEVELS, Shape, build_core, build_workload, describe_shapes, read_core
from lionheart.progress import SILENT, Progress
from lionheart.system import PlatformSpec

LPF_LIMIT = (
    4  # loop prime factors in a search; a larger limit is much slower and changes little: docs/results/zigzag.md
)
BITS_PER_CYCLE = (1, 2, 8)  # input bits that ZigZag's in-memory array processes in one cycle
_STAGES = (
    WorkloadStage,
    MinimalEDPStage,
    SpatialMappingGeneratorStage,
    MinimalEDPStage,
    TemporalMappingGeneratorStage,
    CostModelStage,
)


@final
@dataclass(frozen=True)
class ZigZagCost:
    """Cost per inference of one projection (weight matrix) on the digital vector core, computed by ZigZag.

    Args:
        fqn: Fully qualified name of the projection.
        cycles: Number of clock cycles, including the first loads and the last stores.
        bound_cycles: Number of multiply-accumulate operations divided by the number of lanes, a lower bound of `cycles`.
        latency_s: Duration of `cycles` at the clock frequency of the platform [s].
        energy: Energy of the lanes and of each memory, by component name [J].
    """

    fqn: str
    cycles: float
    bound_cycles: float
    latency_s: float
    energy: Mapping[str, float]

    @property
    def energy_j(self) -> float:
        """Total energy of the projection per inference [J]."""
        return sum(self.energy.values())


@final
@dataclass(frozen=True)
class ArrayCost:
    """Cost of one matrix-vector multiplication on an in-memory computing array, by ZigZag's closed-form model.

    The multiplication uses all rows and columns of the array.

    Args:
        bits_per_cycle: Number of input bits that the array processes in one cycle.
        latency_s: Duration of the multiplication [s].
        energy: Energy of each array component, by component name [J].
    """

    bits_per_cycle: int
    latency_s: float
    energy: Mapping[str, float]

    @property
    def energy_j(self) -> float:
        """Total energy of the matrix-vector multiplication [J]."""
        return sum(self.energy.values())


def price_with_zigzag(
    graph: LayerGraph, platform: PlatformSpec, *, lpf_limit: int = LPF_LIMIT, progress: Progress = SILENT
) -> tuple[ZigZagCost, ...]:
    """Return the cost of each projection (weight matrix) on the digital vector core, computed by ZigZag.

    ZigZag searches only once for all projections that are described by equal matrix products. Pressing Ctrl+C
    interrupts the computation.

    Args:
        graph: Layer graph of the network.
        platform: Platform that defines the clock frequency, memories and energies of the core.
        lpf_limit: Largest number of prime factors into which ZigZag splits the loop sizes in the search for the best loop
            order. A search with a larger limit is slower.
        progress: Progress display, with one step for each search.

    Returns:
        One cost for each projection, in the order of the layer graph.

    Raises:
        UnsupportedLayerError: ZigZag finds no valid loop order for a projection.
    """
    shapes = describe_shapes(graph, platform)
    found: dict[Shape, ZigZagCost] = {}
    with progress.bar("ZigZag", len(set(shapes.values()))) as bar:
        for fqn, shape in shapes.items():
            if shape not in found:
                bar.describe(f"ZigZag: {fqn}")
                found[shape] = _price_shape(fqn, shape, platform, lpf_limit)
                bar.advance()
    costs = ((fqn, found[shape]) for fqn, shape in shapes.items())
    return tuple(ZigZagCost(fqn, c.cycles, c.bound_cycles, c.latency_s, c.energy) for fqn, c in costs)


def _price_shape(fqn: str, shape: Shape, platform: PlatformSpec, lpf_limit: int) -> ZigZagCost:
    with _quiet():
        try:
            best = _search_mappings(build_core(platform, shape.home), build_workload(shape, platform), lpf_limit)
        except NoValidLoopOrderingFoundException as error:
            size = f"{shape.rows}x{shape.cols} matrix (groups: {shape.groups}, matrix-vector multiplications: {shape.n_mvms})"
            raise UnsupportedLayerError(
                f"{fqn}: ZigZag found no valid loop order for a {size}",
                hint="check the memory sizes of the platform: the operands may not fit in the memories",
            ) from error
    energy = dict.fromkeys(("lanes", *LEVELS), 0.0)
    energy["lanes"] = best.mac_energy * 1e-12
    for levels in best.mem_energy_breakdown.values():
        for name, picojoules in zip(LEVELS, levels, strict=False):  # DRAM does not hold every operand
            energy[name] += picojoules * 1e-12
    cycles = float(best.latency_total2)
    bound = shape.macs / read_core("vector_lanes")
    return ZigZagCost(fqn, cycles, bound, cycles / platform.clock_hz, energy)


def _search_mappings(core: Any, workload: Any, lpf_limit: int) -> Any:
    """Return ZigZag's evaluation of the loop order with the smallest energy-delay product.

    ZigZag's own command has additional stages, which draw and save the loop order. These stages are omitted here because they
    fail for layers that fill all lanes at once.
    """
    main = MainStage(
        list(_STAGES),
        accelerator=core,
        workload=workload,
        loma_lpf_limit=lpf_limit,
        loma_show_progress_bar=False,
        temporal_mapping_type=TemporalMappingType.UNEVEN,
    )
    return main.run()[0][0]


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the warnings that ZigZag logs within the context."""
    logger = logging.getLogger("zigzag")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def price_array(platform: PlatformSpec, bits_per_cycle: int) -> ArrayCost:
    """Return the cost of one matrix-vector multiplication on an analog in-memory computing array, computed by ZigZag.

    Args:
        platform: Platform whose numbers of tile rows and columns define the size of the array.
        bits_per_cycle: Number of input bits that the array processes in one cycle, a power of two.
    """
    input_bits = read_core("array_input_bits")
    with _quiet():
        array = ImcArray(
            is_analog_imc=True,
            bit_serial_precision=bits_per_cycle,
            input_precision=[input_bits, input_bits],
            adc_resolution=read_core("array_adc_bits"),
            cells_size=input_bits,
            cells_area=0.0,  # area affects neither time nor energy
            dimension_sizes={OADimension("D1"): platform.tile_cols, OADimension("D2"): platform.tile_rows},
        )
    n_cycles = input_bits / bits_per_cycle
    energy = {name: pj * n_cycles * 1e-12 for name, pj in array.get_peak_energy_single_cycle().items() if pj}
    return ArrayCost(bits_per_cycle, array.tclk * n_cycles * 1e-9, energy)

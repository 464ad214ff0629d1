"""Costs by ZigZag's library: the best mapping of each product, and the closed form of an in-memory array."""

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

LPF_LIMIT = 4  # loop prime factors in a search; more take much longer and change little: docs/results/zigzag.md
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
    """ZigZag's cost of one projection on the vector core, per inference.

    Args:
        fqn: The projection.
        cycles: Clock cycles, including loads before the products and stores after them.
        bound_cycles: MACs divided by lanes, a lower bound for every mapping.
        latency_s: Latency of the cycles at the platform's clock [s].
        energy: Energy of the lanes and of each memory [J].
    """

    fqn: str
    cycles: float
    bound_cycles: float
    latency_s: float
    energy: Mapping[str, float]

    @property
    def energy_j(self) -> float:
        """Energy per inference [J]."""
        return sum(self.energy.values())


@final
@dataclass(frozen=True)
class ArrayCost:
    """ZigZag's closed-form cost of one MVM of a whole in-memory array.

    Args:
        bits_per_cycle: Input bits that the array processes in one cycle.
        latency_s: Time of the MVM [s].
        energy: Energy of each component [J].
    """

    bits_per_cycle: int
    latency_s: float
    energy: Mapping[str, float]

    @property
    def energy_j(self) -> float:
        """Energy of the MVM [J]."""
        return sum(self.energy.values())


def price_with_zigzag(
    graph: LayerGraph, platform: PlatformSpec, *, lpf_limit: int = LPF_LIMIT, progress: Progress = SILENT
) -> tuple[ZigZagCost, ...]:
    """Return ZigZag's cost of every projection on a vector core with the platform's clock, memories and energies.

    Each distinct shape is computed once. The function can be interrupted at any time.

    Args:
        graph: Layer graph of the network.
        platform: Platform with clock, memories and energies.
        lpf_limit: Largest number of loop prime factors in the search for the best loop order.
        progress: Progress display, one step for each shape.

    Raises:
        UnsupportedLayerError: ZigZag finds no mapping of a projection.
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
            size = f"{shape.rows}x{shape.cols}, {shape.groups} groups, {shape.n_mvms} MVMs"
            raise UnsupportedLayerError(
                f"{fqn}: ZigZag finds no order of the loops of {size}", hint="the operands may not fit the memories"
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
    """Return ZigZag's evaluation of the mapping with the smallest energy-delay product.

    The list of stages is LionHeart's. ZigZag's own command adds stages that draw and save, which fail on layers that fill the
    lanes at once.
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
    """Suppress ZigZag's messages about its search on standard error, for example on unrollings limited by a port."""
    logger = logging.getLogger("zigzag")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def price_array(platform: PlatformSpec, bits_per_cycle: int) -> ArrayCost:
    """Return ZigZag's closed-form cost of one MVM of an analog in-memory array of the size of the platform's tile.

    Args:
        platform: Platform with the numbers of tile rows and columns.
        bits_per_cycle: Input bits that the array processes in one cycle, a power of two.
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

"""Work of a projection or an operation for the core, the memory and the tiles, before conversion to time and energy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

from lionheart.devices import TileSpec
from lionheart.errors import ConfigError, suggest
from lionheart.graph import DigitalOp, LayerNode
from lionheart.partition import TilePartition
from lionheart.system.platform import PlatformSpec
from lionheart.system.tile_energy import TilePoint, tile_point


@final
@dataclass(frozen=True)
class Work:
    """Work of one row of the estimate in one inference. The keys of both mappings are time components.

    Args:
        active_cycles: Cycles in which the core executes, by component.
        wait_s: Time in which the core waits for memory or a tile, by component [s].
        llc_read_bytes: Bytes read from the last-level cache (LLC).
        llc_write_bytes: Bytes written to the LLC.
        dram_lines: Cache lines moved to or from DRAM.
        tile_mvms: Number of products of a whole tile at `tile`, whether or not its devices hold a weight.
        tile: Size and converters that determine their energy; required if there are products.
    """

    active_cycles: Mapping[str, float] = field(default_factory=dict)
    wait_s: Mapping[str, float] = field(default_factory=dict)
    llc_read_bytes: float = 0.0
    llc_write_bytes: float = 0.0
    dram_lines: float = 0.0
    tile_mvms: float = 0.0
    tile: TilePoint | None = None


def _n_patches(node: LayerNode) -> int:
    """Return the number of elements gathered by im2col: none for a linear layer or a kernel of size 1.

    The kernel is larger than 1 if a group's matrix has more rows than the input has channels. The graph does not hold
    the kernel, but im2col repeats elements, so a kernel of size 1 never needs more elements than the input has.
    """
    is_gathered = node.is_convolution and node.rows * node.groups * node.n_mvms > node.n_inputs
    return node.rows * node.groups * node.n_mvms if is_gathered else 0


def _stream(read_bytes: float, write_bytes: float, in_dram: bool, platform: PlatformSpec) -> tuple[float, float]:
    """Return the core's wait [s] and the DRAM lines of a stream; writes are buffered and wait only for DRAM."""
    read_lines = math.ceil(read_bytes / platform.cache_line_bytes)
    if in_dram:
        lines = read_lines + math.ceil(write_bytes / platform.cache_line_bytes)
        return lines * _dram_line_s(platform), lines
    return read_lines * platform.llc_line_stall_cycles / platform.clock_hz, 0


def _activation_traffic(node: LayerNode, platform: PlatformSpec) -> tuple[float, float, float, float]:
    """Return (bytes read, bytes written, wait [s], DRAM lines) of a projection's activations."""
    read, written = (n * platform.activation_bytes for n in (node.n_inputs, node.n_outputs))
    wait_s, lines = _stream(read, written, read + written > platform.llc_bytes, platform)
    return read, written, wait_s, lines


@final
@dataclass(frozen=True)
class Residency:
    """Bytes that share the last-level cache (LLC) with a digital weight matrix.

    Args:
        resident_bytes: Size of all digital weights, read once per inference. It determines the misses of the first pass over
            a matrix.
        concurrent_bytes: Size of the matrices that are read repeatedly at the same time, including this one. It determines
            the misses of later passes in the same inference.
    """

    resident_bytes: float
    concurrent_bytes: float


def overflow_share(n_bytes: float, capacity: float) -> float:
    """Return the share of reads that miss if ``n_bytes`` are read repeatedly through a cache of `capacity` bytes.

    The share is 0 if the bytes fit, and otherwise the share that does not fit. A strict least-recently-used cache would always
    miss; random replacement also misses more often than this (`traffic.missing_share`), but with it the coefficients fit the
    published gains of ALPINE less well.
    """
    return max(1.0 - capacity / n_bytes, 0.0) if n_bytes > 0 else 0.0


def _weight_traffic(node: LayerNode, residency: Residency, platform: PlatformSpec) -> tuple[float, float, float]:
    """Return (bytes read from the LLC, wait [s], DRAM lines) of a digital weight matrix over all its passes."""
    size = node.weights * platform.activation_bytes
    n_passes = max(math.ceil(node.n_mvms / platform.mvms_per_weight_pass), 1)
    lines = math.ceil(size / platform.cache_line_bytes)
    later = (n_passes - 1) * lines * overflow_share(size, platform.l1_bytes)
    from_dram = lines * overflow_share(residency.resident_bytes, platform.llc_bytes)
    from_dram += later * overflow_share(residency.concurrent_bytes, platform.llc_bytes)
    line_s = platform.llc_line_stall_cycles / platform.clock_hz
    wait_s = (lines + later) * line_s + from_dram * _dram_line_s(platform)
    return (lines + later) * platform.cache_line_bytes, wait_s, from_dram


def _dram_line_s(platform: PlatformSpec) -> float:
    """Return the time of one cache line from DRAM when one core streams [s]."""
    return platform.cache_line_bytes / platform.dram_stream_bandwidth_bytes_per_s


def _products_per_cycle(node: LayerNode, platform: PlatformSpec) -> float:
    """Return the rate of a projection's digital kernel [MAC/cycle]; several groups of one output each are depthwise."""
    if not node.is_convolution:
        return platform.macs_per_cycle
    is_depthwise = node.groups > 1 and node.cols == 1
    return platform.depthwise_macs_per_cycle if is_depthwise else platform.conv_macs_per_cycle


def digital_projection(node: LayerNode, platform: PlatformSpec, residency: Residency) -> Work:
    """Return the work of a projection on the digital core.

    Every ``mvms_per_weight_pass`` products read all weights once. The first pass reads from the LLC or DRAM; later passes read
    from the core's own cache the part that fits in it.

    Args:
        node: Projection.
        platform: Cost coefficients.
        residency: Bytes that share the LLC.
    """
    n_outputs = node.cols * node.groups * node.n_mvms
    read, written, activation_s, activation_lines = _activation_traffic(node, platform)
    weight_bytes, weight_s, weight_lines = _weight_traffic(node, residency, platform)
    rate = _products_per_cycle(node, platform)
    return Work(
        active_cycles={
            "im2col": _n_patches(node) * platform.gather_cycles_per_element,
            "mac_kernel": node.macs / rate,
            "bias": n_outputs * platform.bias_cycles_per_output * node.has_bias,
            "requantise": n_outputs * platform.requantise_cycles_per_output,
        },
        wait_s={"weight_memory": weight_s, "activation_memory": activation_s},
        llc_read_bytes=read + weight_bytes,
        llc_write_bytes=written + weight_lines * platform.cache_line_bytes,
        dram_lines=activation_lines + weight_lines,
    )


def _transfer(n_elements: int, n_instructions: int, platform: PlatformSpec) -> tuple[float, float]:
    """Return (issue cycles, wait [s]) of moving int8 elements to or from tiles; the port limits the rate."""
    issue = n_instructions * platform.queue_instruction_cycles
    port_s = n_elements / platform.tile_bandwidth_bytes_per_s
    return issue, max(port_s - issue / platform.clock_hz, 0.0)


def analog_projection(
    node: LayerNode, partition: TilePartition, platform: PlatformSpec, tile: TileSpec | None = None
) -> Work:
    """Return the work of a projection on tiles, which one core serves one after another.

    Each column of tiles gets its own copy of the input; the core packs an element once and queues it to each column. Tiles of
    one projection process one after another. Partial sums over rows of tiles are added digitally. The converters are those of
    `tile`; without `tile` the energy per operation is the platform's at any size.
    """
    n_row_tiles, n_col_tiles = len(partition.row_sizes), len(partition.col_sizes)
    calls = node.groups * node.n_mvms
    width = platform.elements_per_queue_instruction
    n_packed, n_unpacked = node.rows * calls, node.cols * n_row_tiles * calls
    n_queue = sum(math.ceil(rows / width) for rows in partition.row_sizes) * n_col_tiles * calls
    n_dequeue = sum(math.ceil(cols / width) for cols in partition.col_sizes) * n_row_tiles * calls
    queue_cycles, queue_wait_s = _transfer(n_packed * n_col_tiles, n_queue, platform)
    dequeue_cycles, dequeue_wait_s = _transfer(n_unpacked, n_dequeue, platform)
    n_outputs, n_mvms = node.cols * calls, partition.n_tiles * node.n_mvms
    read, written, activation_s, activation_lines = _activation_traffic(node, platform)
    point, n_products = tile_point(platform, partition.tile_rows, partition.tile_cols, tile)
    return Work(
        active_cycles={
            "im2col": _n_patches(node) * platform.gather_cycles_per_element,
            "convert": node.n_inputs * platform.convert_input_cycles + n_outputs * platform.convert_output_cycles,
            "queue": n_packed * platform.pack_cycles_per_element + queue_cycles,
            "dequeue": n_unpacked * platform.unpack_cycles_per_element + dequeue_cycles,
            "partial_sums": (n_unpacked - n_outputs) * platform.partial_sum_cycles_per_element,
            "bias": n_outputs * platform.bias_cycles_per_output * node.has_bias,
        },
        wait_s={
            "process": n_mvms * platform.tile_mvm_s,
            "queue": queue_wait_s,
            "dequeue": dequeue_wait_s,
            "activation_memory": activation_s,
        },
        llc_read_bytes=read,
        llc_write_bytes=written,
        dram_lines=activation_lines,
        tile_mvms=n_mvms * n_products,
        tile=point,
    )


def has_price(op: DigitalOp, platform: PlatformSpec) -> bool:
    """Return whether a platform has a cost for an operation without a weight matrix, or declares it free."""
    tables = (platform.free_ops, platform.cycles_per_written, platform.cycles_per_read)
    return op.macs > 0 or any(op.name in table for table in tables)


def element_op(op: DigitalOp, platform: PlatformSpec) -> tuple[Work, str]:
    """Return the work of an operation without a weight matrix, and the reason if it is free (empty otherwise).

    Raises:
        ConfigError: The operation has neither a cost nor a reason to be free.
    """
    size = platform.activation_bytes
    if op.macs > 0:
        cycles = op.macs / platform.macs_per_cycle + op.n_elements * platform.requantise_cycles_per_output
        return _element_work("products", cycles, op.n_operands * size, op.n_elements * size, platform), ""
    if op.name in platform.free_ops:
        return Work(), platform.free_ops[op.name]
    if op.name in platform.cycles_per_written:
        cycles, n_read = op.n_elements * platform.cycles_per_written[op.name], op.n_elements
    elif op.name in platform.cycles_per_read:
        cycles, n_read = op.n_operands * platform.cycles_per_read[op.name], op.n_operands
    else:
        known = {*platform.cycles_per_written, *platform.cycles_per_read, *platform.free_ops}
        raise ConfigError(
            f"{platform.name}: operation {op.name!r} ({op.n_elements} elements written) has no cost, "
            "expected cycles per element or a reason to be free",
            hint=f"in a platform file add [cycles_per_written.{op.name}] or [cycles_per_read.{op.name}] with value, unit, "
            f"source and kind, or declare it free: [free_ops.{op.name}] with the reason as its value; "
            + suggest(op.name, known, label="operations with a cost"),
        )
    return _element_work("element_ops", cycles, n_read * size, op.n_elements * size, platform), ""


def network_io(n_elements: int, platform: PlatformSpec) -> Work:
    """Return the work of reading the network's input and writing its result; the same in every mapping."""
    return Work(active_cycles={"network_io": n_elements * platform.io_cycles_per_element})


def _element_work(name: str, cycles: float, read: float, written: float, platform: PlatformSpec) -> Work:
    wait_s, lines = _stream(read, written, read + written > platform.llc_bytes, platform)
    return Work({name: cycles}, {"activation_memory": wait_s}, read, written, lines)

"""Work of a projection (weight matrix) or of another operation: numbers of cycles, bytes and products on tiles.

The module `lionheart.system.cost` converts work into time and energy.
"""

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
from lionheart.system.read_policy import FittedPolicy
from lionheart.system.tile_energy import TilePoint, tile_point


@final
@dataclass(frozen=True)
class Work:
    """Work of one projection (weight matrix) or operation in one inference.

    The keys of `active_cycles` and `wait_s` are names of time components.

    Args:
        active_cycles: Cycles in which the core executes, by component.
        wait_s: Time in which the core waits for memory or for a tile, by component [s].
        llc_read_bytes: Bytes read from the last-level cache (LLC).
        llc_write_bytes: Bytes written to the LLC.
        dram_lines: Number of cache lines moved to or from DRAM.
        tile_mvms: Number of matrix-vector products, each of a whole tile with the size in `tile`, even if some devices are
            unused.
        repeated_mvms: Number of further reads of tiles for these products, each as expensive as a product.
        tile: Size and converter resolutions for the energy of a product; required if `tile_mvms` is not 0.
    """

    active_cycles: Mapping[str, float] = field(default_factory=dict)
    wait_s: Mapping[str, float] = field(default_factory=dict)
    llc_read_bytes: float = 0.0
    llc_write_bytes: float = 0.0
    dram_lines: float = 0.0
    tile_mvms: float = 0.0
    repeated_mvms: float = 0.0
    tile: TilePoint | None = None


def _n_patches(node: LayerNode) -> int:
    """Return the number of elements that im2col copies into patches per inference; 0 for a linear layer or a kernel of size 1.

    The layer graph does not contain the kernel size. The kernel is larger than 1 if the patches have more elements than the
    input, because im2col then repeats elements.
    """
    is_gathered = node.is_convolution and node.rows * node.groups * node.n_mvms > node.n_inputs
    return node.rows * node.groups * node.n_mvms if is_gathered else 0


def _stream(read_bytes: float, write_bytes: float, in_dram: bool, platform: PlatformSpec) -> tuple[float, float]:
    """Return the wait of the core for activations [s], and the number of cache lines transferred to or from DRAM.

    If `in_dram` is True, the activations are in DRAM, otherwise in the last-level cache (0 lines). Writes to the cache are
    buffered, so the core does not wait for them.
    """
    read_lines = math.ceil(read_bytes / platform.cache_line_bytes)
    if in_dram:
        lines = read_lines + math.ceil(write_bytes / platform.cache_line_bytes)
        return lines * _dram_line_s(platform), lines
    return read_lines * platform.llc_line_stall_cycles / platform.clock_hz, 0


def _activation_traffic(node: LayerNode, platform: PlatformSpec) -> tuple[float, float, float, float]:
    """Return the memory traffic of the inputs and outputs of a projection (weight matrix) in one inference.

    The returned tuple contains the bytes read, the bytes written, the wait of the core [s], and the number of cache lines
    transferred to or from DRAM.
    """
    read, written = (n * platform.activation_bytes for n in (node.n_inputs, node.n_outputs))
    wait_s, lines = _stream(read, written, read + written > platform.llc_bytes, platform)
    return read, written, wait_s, lines


@final
@dataclass(frozen=True)
class Residency:
    """Numbers of bytes that compete with a digital weight matrix for the last-level cache (LLC).

    Args:
        resident_bytes: Size of all digital weights, which are read at least once per inference. This size determines the misses
            in the first pass over a matrix.
        concurrent_bytes: Size of the matrices that are read repeatedly at the same time, including the matrix itself. This size
            determines the misses in later passes of the same inference.
    """

    resident_bytes: float
    concurrent_bytes: float


def overflow_share(n_bytes: float, capacity: float) -> float:
    """Return the fraction of reads that miss a cache of `capacity` bytes if `n_bytes` bytes are read repeatedly, 0 to 1.

    If not all bytes fit in the cache, the fraction is ``1 - capacity / n_bytes``. A cache with strict least-recently-used
    replacement would then always miss. A cache with random replacement would also miss more often, but with such a model the
    fitted coefficients reproduce the published gains of ALPINE less well.
    """
    return max(1.0 - capacity / n_bytes, 0.0) if n_bytes > 0 else 0.0


def _weight_traffic(node: LayerNode, residency: Residency, platform: PlatformSpec) -> tuple[float, float, float]:
    """Return the traffic of a digital weight matrix for all passes over the matrix in one inference.

    The returned tuple contains the bytes read from the last-level cache, the wait of the core [s], and the number of cache
    lines read from DRAM.
    """
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
    """Return the time in which a single core reads one cache line from DRAM, if the lines are read one after another [s]."""
    return platform.cache_line_bytes / platform.dram_stream_bandwidth_bytes_per_s


def _products_per_cycle(node: LayerNode, platform: PlatformSpec) -> float:
    """Return the rate at which the digital core computes the products of a projection (weight matrix) [MAC/cycle].

    A convolution with several groups of one output each is depthwise and has its own rate.
    """
    if not node.is_convolution:
        return platform.macs_per_cycle
    is_depthwise = node.groups > 1 and node.cols == 1
    return platform.depthwise_macs_per_cycle if is_depthwise else platform.conv_macs_per_cycle


def digital_projection(node: LayerNode, platform: PlatformSpec, residency: Residency) -> Work:
    """Return the work of a projection (weight matrix) on the digital core.

    One pass over all weights serves ``mvms_per_weight_pass`` products. The first pass reads the weights from the last-level
    cache (LLC) or DRAM. In later passes, the weights that fit in the core's own cache are read from that cache, and the
    other weights from the LLC or DRAM.

    Args:
        node: Projection.
        platform: Cost coefficients.
        residency: Numbers of bytes that compete with the weights for the LLC.

    Returns:
        Work of the projection. A projection that is never multiplied, such as an expert that no token reaches, has no work.
    """
    if node.n_mvms == 0:
        return Work()
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
    """Return the core cycles and the additional wait [s] for moving `n_elements` int8 elements to or from tiles.

    The core executes `n_instructions` instructions that move the elements, and then waits until the port of the tiles has
    transferred the remaining elements.
    """
    issue = n_instructions * platform.queue_instruction_cycles
    port_s = n_elements / platform.tile_bandwidth_bytes_per_s
    return issue, max(port_s - issue / platform.clock_hz, 0.0)


def analog_projection(
    node: LayerNode, partition: TilePartition, platform: PlatformSpec, tile: TileSpec | None = None
) -> Work:
    """Return the work of a projection (weight matrix) on tiles. One core serves the tiles one after another.

    Each column of tiles receives its own copy of the input. The core packs each input element once and sends the packed
    element to every column and to every row copy of the weights. The tiles of a projection compute one after another. The core
    adds the partial sums of the tiles in a column digitally. It also adds the outputs of column copies, and those of repeated
    reads if the tile does not.

    Args:
        node: Projection.
        partition: Tiles of the projection.
        platform: Cost coefficients.
        tile: Tile that gives the converter resolutions and the read policy; None = each operation takes the same energy as on
            the platform's tile, and each tile is read once.
    """
    policy = FittedPolicy.of(tile, partition)
    n_row_tiles, n_col_tiles = len(partition.row_sizes), len(partition.col_sizes)
    calls = node.groups * node.n_mvms
    width = platform.elements_per_queue_instruction
    n_sent = n_col_tiles * (1 if platform.tile_broadcasts_inputs else policy.row_copies)
    n_taken = policy.column_copies * (1 if platform.tile_accumulates_reads else policy.n_reads)
    n_packed, n_partial = node.rows * calls, node.cols * n_row_tiles * calls
    n_queue = sum(math.ceil(rows / width) for rows in partition.row_sizes) * n_sent * calls
    n_dequeue = sum(math.ceil(cols / width) for cols in partition.col_sizes) * n_row_tiles * n_taken * calls
    queue_cycles, queue_wait_s = _transfer(n_packed * n_sent, n_queue, platform)
    dequeue_cycles, dequeue_wait_s = _transfer(n_partial * n_taken, n_dequeue, platform)
    n_outputs, n_mvms = node.cols * calls, partition.n_tiles * node.n_mvms
    read, written, activation_s, activation_lines = _activation_traffic(node, platform)
    point, n_products = tile_point(platform, partition.tile_rows, partition.tile_cols, tile)
    digital_bytes = policy.digital_weights * platform.activation_bytes * (node.n_mvms > 0)
    return Work(
        active_cycles={
            "im2col": _n_patches(node) * platform.gather_cycles_per_element,
            "convert": node.n_inputs * platform.convert_input_cycles + n_outputs * platform.convert_output_cycles,
            "queue": n_packed * platform.pack_cycles_per_element + queue_cycles,
            "dequeue": n_partial * n_taken * platform.unpack_cycles_per_element + dequeue_cycles,
            "partial_sums": (n_partial - n_outputs) * platform.partial_sum_cycles_per_element,
            "bias": n_outputs * platform.bias_cycles_per_output * node.has_bias,
            "average": n_partial * (n_taken - 1) * platform.partial_sum_cycles_per_element,
            "input_range": _count_range_cycles(node, n_row_tiles, platform, policy.input_range),
            "digital_weights": policy.digital_weights * node.n_mvms * platform.sparse_mac_cycles,
        },
        wait_s={
            "process": n_mvms * platform.tile_mvm_s,
            "queue": queue_wait_s,
            "dequeue": dequeue_wait_s,
            "activation_memory": activation_s,
            "tile_repeated_reads": n_mvms * (policy.n_reads - 1) * platform.tile_mvm_s,
            "weight_memory": _stream(digital_bytes, 0, False, platform)[0],
        },
        llc_read_bytes=read + digital_bytes,
        llc_write_bytes=written,
        dram_lines=activation_lines,
        tile_mvms=n_mvms * n_products,
        repeated_mvms=n_mvms * (policy.n_reads - 1) * n_products,
        tile=point,
    )


def _count_range_cycles(node: LayerNode, n_row_tiles: int, platform: PlatformSpec, input_range: str) -> float:
    """Return the core cycles in one inference that find the full-scale values of the inputs and scale inputs and outputs.

    A static or learned range is known before the inference and costs nothing. Otherwise the core takes the magnitude of each
    input of a sample or vector, finds the largest, divides once, multiplies the inputs, and multiplies the outputs of the
    tiles. With the range of a sample, each input and each sum over tiles is counted once. With the range of a vector, these are
    the inputs of each row of tiles, after im2col, and the outputs of each row of tiles.
    """
    calls = node.groups * node.n_mvms
    if input_range == "sample":
        n_ranges = node.n_calls if node.is_convolution else node.n_mvms
        n_inputs, n_scaled = node.n_inputs, node.cols * calls
    elif input_range == "dynamic":
        n_ranges = n_row_tiles * calls
        n_inputs, n_scaled = node.rows * calls, node.cols * n_row_tiles * calls
    else:
        return 0.0
    if node.n_mvms == 0:
        return 0.0
    steps = (("abs", n_inputs, n_inputs), ("amax", n_ranges, n_inputs), ("div", n_ranges, n_ranges),
             ("mul", n_inputs + n_scaled, n_inputs + n_scaled))  # fmt: skip
    works = (element_op(DigitalOp(name, 1, written, read), platform)[0] for name, written, read in steps)
    return sum(sum(work.active_cycles.values()) for work in works)


def has_price(op: DigitalOp, platform: PlatformSpec) -> bool:
    """Return whether the platform has a cost for an operation without a weight matrix, or declares the operation free."""
    tables = (platform.free_ops, platform.cycles_per_written, platform.cycles_per_read)
    return op.macs > 0 or any(op.name in table for table in tables)


def element_op(op: DigitalOp, platform: PlatformSpec) -> tuple[Work, str]:
    """Return the work of an operation without a weight matrix, and the reason why the operation is free.

    The reason is empty if the operation is not free.

    Raises:
        ConfigError: The platform has no cost for the operation and does not declare the operation free.
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
            "expected a cost in cycles per element, or an entry that declares the operation free",
            hint=f"in a platform file, add [cycles_per_written.{op.name}] or [cycles_per_read.{op.name}] with value, unit, "
            f"source and kind, or declare the operation free with [free_ops.{op.name}], whose value is the reason; "
            + suggest(op.name, known, label="operations with a cost"),
        )
    return _element_work("element_ops", cycles, n_read * size, op.n_elements * size, platform), ""


def network_io(n_elements: int, platform: PlatformSpec) -> Work:
    """Return the work of reading the network's input and writing its output, which is the same in every mapping.

    Args:
        n_elements: Number of elements in the input and output together.
        platform: Cost coefficients.
    """
    return Work(active_cycles={"network_io": n_elements * platform.io_cycles_per_element})


def _element_work(name: str, cycles: float, read: float, written: float, platform: PlatformSpec) -> Work:
    wait_s, lines = _stream(read, written, read + written > platform.llc_bytes, platform)
    return Work({name: cycles}, {"activation_memory": wait_s}, read, written, lines)

"""Cache lines that a layer moves, from the layer's shape, the kernel's blocks and the cache sizes."""

from __future__ import annotations

import math

from laboratory.core import CacheMisses, CoreSpec
from laboratory.kernels import GemmKernel, GemmShape


def missing_share(footprint_bytes: float, cache_bytes: float) -> float:
    """Return the share of lines evicted from a cache with random replacement before their next use.

    Each miss evicts a random line, so a line survives the ``footprint x share`` misses between two uses with probability
    ``exp(-footprint x share / cache)``, and ``share = 1 - exp(-share x footprint / cache)``: 0 up to the size of the cache,
    0.58 at 1.5 times and 0.80 at twice its size.

    Args:
        footprint_bytes: Memory accessed between two uses, including the lines themselves [B], >= 0.
        cache_bytes: Capacity [B], > 0.

    Returns:
        Share [-] in [0, 1), which grows with the footprint.
    """
    ratio = footprint_bytes / cache_bytes
    if ratio <= 1.0:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        if 1.0 - math.exp(-middle * ratio) > middle:
            low = middle
        else:
            high = middle
    return low


def activation_misses(read_bytes: float, write_bytes: float, weight_bytes: float, core: CoreSpec) -> CacheMisses:
    """Return the lines of reading a layer's input and writing its output, each once and in order.

    Lines that do not fit in L2 together with the weights come from DRAM; the output is then written back.
    """
    read, written = (math.ceil(n / core.line_bytes) for n in (read_bytes, write_bytes))
    missing = missing_share(read_bytes + write_bytes + weight_bytes, core.l2_bytes)
    return CacheMisses(read + written, read * missing, (read + written) * missing)


def gemm_misses(
    shape: GemmShape,
    kernel: GemmKernel,
    element_bytes: int,
    core: CoreSpec,
    *,
    input_bytes: float,
    network_bytes: float,
    n_cores: int = 1,
) -> CacheMisses:
    """Return the lines that a product moves.

    Each block of `kernel.rows` positions reads all weights. The weights come from L1 if they fit there,
    else from L2, else from DRAM.
    Cores that work on neighbouring positions read the same weights at about the same time, so that a line from DRAM
    serves all of them. The inputs of a block are read again for each block of columns, from L1 if they fit there with
    the weights.

    Args:
        shape: Shape of the product.
        kernel: Kernel of the product.
        element_bytes: Bytes of a value.
        core: Core specification.
        input_bytes: Size of the input tensor [B]; gathered taps read it several times.
        network_bytes: Other memory that one inference accesses [B]; determines whether the weights are still in L2.
        n_cores: Number of cores that share the positions.

    Returns:
        Lines of all cores together, for `time_parallel`.

    Assumes:
        Packed weights, square kernels. A convolution reads its input once for each row of taps if the weights have evicted
        it from L1.
    """
    tap_rows = shape.depth * shape.taps
    weight_bytes = tap_rows * shape.cols * shape.groups * element_bytes
    output_bytes = shape.positions * shape.cols * shape.groups * element_bytes
    weight_lines, input_lines = (math.ceil(n / core.line_bytes) for n in (weight_bytes, input_bytes))
    block_bytes, panel_bytes = (n * tap_rows * element_bytes for n in (kernel.rows, kernel.cols))
    pass_bytes = weight_bytes / shape.groups + block_bytes
    l1_again = missing_share(pass_bytes, core.l1_bytes)
    l2_first, l2_again = missing_share(network_bytes, core.l2_bytes), missing_share(pass_bytes, core.l2_bytes)
    passes = math.ceil(shape.positions / kernel.rows)
    abreast = min(n_cores, passes)
    traffic = weight_lines * (l2_first + (math.ceil(passes / abreast) - 1) * l2_again)
    l1_lines = weight_lines * (abreast + (passes - abreast) * l1_again)
    n_panels = math.ceil(shape.cols / kernel.cols)
    block_lines = passes * shape.groups * math.ceil(block_bytes / core.line_bytes)
    l1_lines += block_lines * (n_panels - 1) * missing_share(block_bytes + panel_bytes, core.l1_bytes)
    l1_lines += input_lines * (math.isqrt(shape.taps) - 1) * l1_again
    weights = CacheMisses(l1_lines, abreast * traffic, traffic)
    return weights + activation_misses(input_bytes, output_bytes, weight_bytes, core)

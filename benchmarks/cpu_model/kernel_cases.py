"""Cases of benchmarks/cpu_model/count_kernels.py: calls of each kernel at several sizes, with the work of each call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

GROUP = {
    "add_s8": 8, "rescale_s8": 8, "relu_s8": 16, "quantise_s8": 8, "dequantise_s8": 8, "accumulate_s8": 8,
    "sigmoid_f32": 4, "tanh_f32": 4, "relu_f32": 4, "add_f32": 4,
    "queue": 4, "dequeue": 4, "naive_queue": 4, "naive_dequeue": 4,
}  # fmt: skip


@dataclass(frozen=True)
class Point:
    """Calls of a kernel: C++ text, and number of units of work; one call unless `units` has another number."""

    call: str
    units: Mapping[str, float]


@dataclass(frozen=True)
class Kernel:
    """A kernel, its units of work, and the counted calls."""

    name: str
    about: str
    units: Mapping[str, str]
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Window:
    """A square window over a square image, as in lh_window."""

    size: int
    channels: int
    kernel: int
    stride: int = 1
    pad: int = 0

    @property
    def out(self) -> int:
        return (self.size + 2 * self.pad - self.kernel) // self.stride + 1

    @property
    def text(self) -> str:
        pairs = [(self.kernel,) * 2, (self.stride,) * 2, (self.pad,) * 2, (1, 1), (self.out,) * 2]
        numbers = [self.size, self.size, self.channels, *(n for pair in pairs for n in pair)]
        return f"const lh_window w = {{{', '.join(map(str, numbers))}}}; "

    def inside(self, at: int) -> int:
        """Return the number of window taps inside the image along one axis for the output at `at`."""
        first = at * self.stride - self.pad
        return sum(0 <= first + tap < self.size for tap in range(self.kernel))

    @property
    def taps(self) -> int:
        """Taps inside the image, summed over all outputs."""
        return sum(self.inside(at) for at in range(self.out)) ** 2

    @property
    def lines(self) -> int:
        """Rows of the window inside the image, summed over all outputs."""
        return sum(self.inside(at) for at in range(self.out)) * self.out

    @property
    def clipped_lines(self) -> int:
        """Rows of the window that the left or right border cuts, summed over all outputs."""
        n_clipped = sum(self.inside(at) < self.kernel for at in range(self.out))
        return self.lines // self.out * n_clipped


def _element(name: str, about: str, call: str) -> Kernel:
    """Return a kernel over n elements, some of them after the last whole group."""
    group = GROUP[name]
    units = {
        "element": f"element in a whole group of {group}",
        "tail_element": f"element after the last whole group of {group}",
    }
    points = []
    if name in ("queue", "dequeue"):
        units["tail"] = units.pop("tail_element").replace("element after", "incomplete group after")
    for n in (64, 256, 1024, 4096, 10, 13, 77, 1003):
        work = {"element": n // group * group, "tail_element": n % group, "tail": int(n % group > 0)}
        points.append(Point(call.replace("N", str(n)), work))
    return Kernel(name, about, units, tuple(points))


def _products_s8(name: str, about: str, rows: tuple[int, ...]) -> Kernel:
    """Return int8 products: blocks of 4 columns, then single columns; groups of 8 products, then single products."""
    units = {
        "mac": "MAC in a whole block of 4 columns and group of 8 products",
        "edge_mac": "MAC after the last block of 4 columns, in a group of 8 products",
        "tail_mac": "MAC after the last group of 8 products of a column",
        "output": "output in a whole block of 4 columns",
        "edge_output": "output after the last block of 4 columns",
    }
    if rows != (1,):
        units["column"] = "column, whatever the number of rows"
    sizes = [(m, n, k) for m in rows for n in (16, 64, 256, 10, 5) for k in (16, 32, 144, 576, 1024)]
    sizes += [(m, n, k) for m in rows for n in (16, 64) for k in (27, 75)]
    points = []
    for m, n, k in sizes:
        edge, tail = n % 4, k % 8
        work = {"mac": m * (n - edge) * (k - tail), "edge_mac": m * edge * (k - tail), "tail_mac": m * n * tail}
        work |= {"output": m * (n - edge), "edge_output": m * edge, "column": n}
        points.append(Point(f"lh_gemm_s8({m}, {n}, {k}, sa, {k}, sb, {k}, ia, {n});", work))
    return Kernel(name, about, units, tuple(points))


def _products_f32(name: str, about: str, rows: tuple[int, ...]) -> Kernel:
    """Return float products: blocks of 16 columns, then of 4 columns."""
    units = {
        "mac": "MAC in a whole block of 16 columns", "edge_mac": "MAC after the last block of 16 columns, in fours",
        "output": "output in a whole block of 16 columns", "edge_output": "output after the last block of 16 columns",
    }  # fmt: skip
    if rows != (1,):
        units["column"] = "column, whatever the number of rows"
    points = []
    for m, n, k in [(m, n, k) for m in rows for n in (16, 64, 256, 28, 4) for k in (16, 32, 144, 576)]:
        edge = n % 16
        work = {"mac": m * (n - edge) * k, "edge_mac": m * edge * k}
        work |= {"output": m * (n - edge), "edge_output": m * edge, "column": n}
        points.append(Point(f"lh_gemm_f32({m}, {n}, {k}, fa, {k}, fb, {n}, fc, {n});", work))
    return Kernel(name, about, units, tuple(points))


CONVOLUTIONS = (
    Window(32, 3, 3, 1, 1), Window(32, 16, 3, 1, 1), Window(16, 32, 3, 1, 1), Window(16, 32, 3, 2, 1), Window(8, 64, 3, 1, 1),
    Window(32, 16, 1, 2, 0), Window(8, 128, 3, 1, 1), Window(28, 3, 7, 2, 3), Window(14, 16, 5, 1, 2), Window(16, 48, 3, 1, 0),
    Window(64, 8, 3, 2, 1), Window(12, 24, 3, 1, 1), Window(10, 64, 4, 2, 1), Window(32, 12, 5, 2, 2), Window(9, 256, 3, 1, 1),
    Window(14, 64, 1, 2, 0), Window(16, 80, 3, 1, 1), Window(56, 4, 7, 2, 3), Window(6, 192, 3, 1, 1), Window(11, 40, 5, 1, 0),
    Window(24, 10, 3, 1, 1), Window(20, 20, 3, 2, 1), Window(18, 28, 3, 1, 0), Window(7, 24, 5, 1, 2), Window(12, 6, 5, 1, 0),
    Window(10, 96, 3, 1, 0), Window(8, 36, 3, 1, 1), Window(16, 24, 7, 2, 3), Window(13, 5, 3, 1, 1), Window(28, 128, 1, 2, 0),
)  # fmt: skip
DEPTHWISE = (
    Window(48, 8, 3, 1, 1), Window(24, 32, 3, 1, 1), Window(12, 64, 3, 2, 1), Window(6, 128, 3, 1, 1), Window(12, 32, 5, 1, 2),
    Window(48, 16, 3, 1, 1), Window(12, 16, 3, 1, 1), Window(24, 64, 3, 2, 1), Window(8, 256, 3, 1, 1), Window(25, 8, 3, 2, 1),
    Window(10, 64, 5, 1, 2), Window(14, 48, 3, 1, 0), Window(7, 96, 7, 1, 3), Window(5, 24, 3, 1, 1), Window(20, 40, 5, 2, 2),
)  # fmt: skip
POOLS = (
    Window(32, 16, 2, 2), Window(16, 64, 2, 2), Window(32, 32, 3, 2, 1), Window(16, 128, 3, 2, 1), Window(8, 256, 2, 2),
    Window(32, 64, 2, 2), Window(14, 32, 2, 2), Window(12, 16, 3, 3), Window(28, 16, 2, 2), Window(8, 64, 3, 1, 1),
    Window(6, 512, 2, 2), Window(20, 48, 3, 2, 0), Window(20, 16, 5, 5), Window(24, 96, 3, 2, 1), Window(10, 192, 5, 5),
)  # fmt: skip

GATHER_UNITS = {
    "element": "element of a patch",
    "line": "row of the window inside the image",
    "clipped_line": "row of the window that the left or right border cuts, on top of line",
    "border_patch": "patch that any border cuts, on top of patch or call",
}
PLACES = (
    (8, 1, 1, 0),
    (16, 1, 1, 0),
    (16, 2, 0, 16),
    (32, 1, 2, 0),
    (64, 2, 0, 64),
    (24, 1, 1, 8),
)  # channels, step, pad, more


def _gather_work(w: Window, depth: int) -> dict[str, int]:
    """Return the work of gathering all patches of a window, of `depth` elements each."""
    n_inside = sum(w.inside(at) == w.kernel for at in range(w.out))
    work = {"element": w.out**2 * depth, "line": w.lines, "clipped_line": w.clipped_lines}
    return work | {"border_patch": w.out**2 - n_inside**2}


def _im2col(kind: str, about: str, pad: int) -> Kernel:
    """Return the gathering of all patches, each padded to a multiple of `pad` elements."""
    source, target = ("sa", "sb") if kind == "s8" else ("fa", "fb")
    units = (
        GATHER_UNITS
        | {"patch": "patch"}
        | ({"padded_patch": "patch that is padded, on top of patch"} if pad > 1 else {})
    )
    points = []
    for w in CONVOLUTIONS:
        depth = -(-w.channels * w.kernel**2 // pad) * pad
        call = f"lh_im2col_{kind}(&w, {source}, 0, {w.out}, 0, {w.channels}, {target}, {depth});"
        is_padded = depth > w.channels * w.kernel**2
        work = _gather_work(w, depth) | {"patch": w.out**2, "padded_patch": w.out**2 * is_padded}
        points.append(Point(w.text + call, work))
    return Kernel(f"im2col_{kind}", f"lh_im2col_{kind}: {about}", units, tuple(points))


def _gather_patch() -> Kernel:
    """Return the gathering of one patch per call, for a tile."""
    points = []
    for w in CONVOLUTIONS:
        depth = w.channels * w.kernel**2
        loops = f"for (int r = 0; r < {w.out}; ++r) for (int c = 0; c < {w.out}; ++c) "
        call = f"lh_gather_patch_s8(&w, sa, r, c, 0, {w.channels}, sb, {depth});"
        points.append(Point(w.text + loops + call, _gather_work(w, depth) | {"call": w.out**2}))
    about = "lh_gather_patch_s8: one patch a call, not padded"
    return Kernel("gather_patch_s8", about, dict(GATHER_UNITS), tuple(points))


def _place() -> Kernel:
    points = []
    for size, channels, step, pad, more in [(size, c, s, p, more) for size in (8, 16, 32) for c, s, p, more in PLACES]:
        out = -(-size // step) + 2 * pad
        call = f"lh_place_s8(sa, {size}, {size}, {channels}, {step}, {step}, sb, {out}, {out}, {channels + more}, {pad}, {pad}, 0);"
        pixels = (-(-size // step)) ** 2
        work = {"element": pixels * channels, "pixel": pixels, "zero": out**2 * (channels + more)}
        points.append(Point(call, work))
    units = {"element": "element copied", "pixel": "pixel copied", "zero": "element of the output, set to zero first"}
    return Kernel("place_s8", "lh_place_s8: an image into a larger one of zeros", units, tuple(points))


def _naive_im2col() -> Kernel:
    points = []
    for w in CONVOLUTIONS:
        work = {"element": w.out**2 * w.channels * w.kernel**2, "patch": w.out**2}
        points.append(Point(f"{w.text}naive_im2col_s8(w, sa, sb);", work))
    about = "baseline: one loop per dimension and index arithmetic for each element"
    return Kernel("naive_im2col_s8", about, {"element": "element of a patch", "patch": "patch"}, tuple(points))


def _depthwise() -> Kernel:
    points = []
    for w in DEPTHWISE:
        call = f"{w.text}for (int row = 0; row < {w.out}; ++row) lh_depthwise_s8(&w, sa, sb, row, ia);"
        edge = w.channels % 16
        work = {"mac": w.taps * (w.channels - edge), "edge_mac": w.taps * edge, "line": w.lines * -(-w.channels // 16)}
        work |= {
            "output": w.out**2 * (w.channels - edge),
            "edge_output": w.out**2 * edge,
            "pixel": w.out**2,
            "call": w.out,
        }
        points.append(Point(call, work))
    units = {
        "mac": "MAC inside the image, in a whole group of 16 channels",
        "edge_mac": "MAC inside the image, in a group of 8 channels at the end",
        "line": "row of the window inside the image and group of channels",
        "output": "output in a whole group of 16 channels",
        "edge_output": "output in a group of 8 channels at the end",
        "pixel": "output pixel",
    }
    about = "lh_depthwise_s8: one kernel per channel, one output row a call"
    return Kernel("depthwise_s8", about, units, tuple(points))


def _pool(name: str, about: str, call: str, group: int, windows: tuple[Window, ...]) -> Kernel:
    points = []
    for w in windows:
        work = {"element": w.taps * w.channels, "line": w.lines * (w.channels // group)}
        work |= {"output": w.out**2 * w.channels, "pixel": w.out**2}
        points.append(Point(w.text + call, work))
    units = {
        "element": "element inside a window",
        "line": f"row of a window and group of {group} channels",
        "output": "output",
        "pixel": "output pixel",
    }
    return Kernel(name, about, units, tuple(points))


def _requantise() -> Kernel:
    sizes = (
        (1, 64),
        (1, 256),
        (64, 16),
        (256, 32),
        (64, 128),
        (1, 10),
        (16, 10),
        (64, 12),
        (4, 1000),
        (256, 64),
        (32, 24),
        (8, 100),
        (49, 40),
    )
    points = tuple(
        Point(
            f"lh_requantise({rows}, {cols}, ia, ib, ic, id, 0, 127, sb, {cols});",
            {"output": rows * (cols // 8 * 8), "tail_output": rows * (cols % 8), "row": rows},
        )
        for rows, cols in sizes
    )
    units = {
        "output": "output in a whole group of 8",
        "tail_output": "output after the last group of 8 of a row",
        "row": "row",
    }
    return Kernel(
        "requantise",
        "lh_requantise: int32 sums and bias to int8, one multiplier a column, ReLU included",
        units,
        points,
    )


def _softmax() -> Kernel:
    sizes = ((1, 10), (1, 64), (1, 1000), (16, 64), (128, 128), (64, 10), (16, 99))
    units = {
        "element": "element in a whole group of 4",
        "tail_element": "element after the last group of 4",
        "row": "row",
    }
    points = []
    for rows, cols in sizes:
        work = {"element": rows * (cols // 4 * 4), "tail_element": rows * (cols % 4), "row": rows}
        points.append(Point(f"lh_softmax_f32({rows}, {cols}, fa, fb);", work))
    return Kernel("softmax_f32", "lh_softmax_f32: softmax of each row", units, tuple(points))


def _pools() -> Iterator[Kernel]:
    about = "lh_max_pool_s8: largest value; channels in groups of 16"
    yield _pool("max_pool_s8", about, "lh_max_pool_s8(&w, sa, sb);", 16, POOLS)
    windows = (*POOLS, Window(8, 64, 8), Window(4, 512, 4), Window(25, 64, 25), Window(5, 16, 5))
    about = "lh_average_pool_s8: scaled mean; channels in groups of 8"
    yield _pool("average_pool_s8", about, "lh_average_pool_s8(&w, sa, 1500000000, 35, ia, sb);", 8, windows)


def _naive_gemv() -> Kernel:
    units = {"mac": "MAC", "output": "output"}
    sizes = [(n, k) for n in (16, 64, 256) for k in (64, 256, 576, 1024)]
    points = [Point(f"naive_gemv_s8({n}, {k}, sa, sb, ia);", {"mac": n * k, "output": n}) for n, k in sizes]
    about = "baseline: two plain loops, int8 to int32, vectorised by the compiler"
    return Kernel("naive_gemv_s8", about, units, tuple(points))


def kernels() -> Iterator[Kernel]:
    """Return all kernels of lionheart_kernels.h, the transfers of aimc.hh, and plain baselines."""
    yield _products_s8("gemm_s8", "lh_gemm_s8, 4 rows at a time", (4, 16, 64))
    yield _products_s8("gemv_s8", "lh_gemm_s8 with one row", (1,))
    yield _products_f32("gemm_f32", "lh_gemm_f32, 4 rows at a time", (4, 16, 64))
    yield _products_f32("gemv_f32", "lh_gemm_f32 with one row", (1,))
    yield _depthwise()
    yield _im2col("s8", "patches, each padded to a multiple of 16 elements", 16)
    yield _im2col("f32", "patches, not padded", 1)
    yield _gather_patch()
    yield _place()
    yield _requantise()
    add = "lh_add_s8(N, sa, 20000, sb, 30000, 15, -128, 127, sc);"
    yield _element("add_s8", "lh_add_s8: sum of two int8 tensors, each with its scale", add)
    rescale = "lh_rescale_s8(N, sa, 1500000000, 31, -128, 127, sb);"
    yield _element("rescale_s8", "lh_rescale_s8: int8 to int8 of another scale", rescale)
    yield _element("relu_s8", "lh_relu_s8", "lh_relu_s8(N, sa, 0, 127, sb);")
    yield _element("quantise_s8", "lh_quantise_s8: float to int8", "lh_quantise_s8(N, fa, 31.5f, sb);")
    yield _element("dequantise_s8", "lh_dequantise_s8: int8 to float", "lh_dequantise_s8(N, sa, 0.03125f, fb);")
    yield _element("accumulate_s8", "lh_accumulate_s8: partial sums of several tiles", "lh_accumulate_s8(N, sa, ia);")
    yield from _pools()
    yield _element("sigmoid_f32", "lh_sigmoid_f32", "lh_sigmoid_f32(N, fa, fb);")
    yield _element("tanh_f32", "lh_tanh_f32", "lh_tanh_f32(N, fa, fb);")
    yield _softmax()
    yield _element("relu_f32", "lh_relu_f32", "lh_relu_f32(N, fa, fb);")
    yield _element("add_f32", "lh_add_f32", "lh_add_f32(N, fa, fb, fc);")
    yield _element("queue", "queueVector of aimc.hh: int8 to a tile", "queue_vector(N, sa, 3);")
    yield _element("dequeue", "dequeueVector of aimc.hh: int8 from a tile", "dequeue_vector(N, sb, 3);")
    yield _naive_gemv()
    yield _naive_im2col()
    yield _element("naive_queue", "baseline: elements packed one by one with shifts", "naive_queue(N, sa);")
    yield _element("naive_dequeue", "baseline: elements unpacked one by one with shifts", "naive_dequeue(N, sb);")

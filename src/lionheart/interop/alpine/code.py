"""Generation of the C++ code for the layers of an emitted program."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np

from lionheart.interop.alpine.layout import KINDS, Constants, PlacedTile, cut_tiles, region_id, round_up
from lionheart.interop.alpine.operations import Window
from lionheart.interop.alpine.quantised import (
    QuantisedAdd,
    QuantisedClamp,
    QuantisedPlace,
    QuantisedPool,
    QuantisedProduct,
    Step,
)
from lionheart.interop.alpine.tiles import Tiles

_GROUP = 16  # the product kernel is fastest on multiples of 16
_PIXELS = 32  # number of output pixels whose input patches are gathered at a time


@final
@dataclass
class Workspace:
    """Sizes of the buffers that all layers of an emitted program share [elements].

    The buffers hold input patches, integer sums, tile outputs, DAC codes, and patches in the order of the rows of the tiles.
    Each size is the largest size that a layer needs.
    """

    patches: int = 0
    sums: int = 0
    outputs: int = 0
    codes: int = 0
    grouped: int = 0

    def need(self, *, patches: int = 0, sums: int = 0, outputs: int = 0, codes: int = 0, grouped: int = 0) -> None:
        """Enlarge the size of each buffer to at least the given number of elements."""
        self.codes = max(self.codes, codes)
        self.grouped = max(self.grouped, grouped)
        self.patches = max(self.patches, patches)
        self.sums = max(self.sums, sums)
        self.outputs = max(self.outputs, outputs)


@final
@dataclass
class LayerCode:
    """Generator of the C++ function of one layer.

    Args:
        number: Number that identifies the layer, from 1 in execution order.
        step: Quantised operation that the layer computes.
        constants: Constants of the program, to which `write` appends the weights and parameters of the layer.
        space: Sizes of the buffers that all layers share; `write` enlarges the buffers if necessary.
        first_tile: Number that identifies the first tile with weights of the layer; further tiles have consecutive numbers.
        tiles: Tiles that store weights of the layer, set by `write`; empty for digital layers.
        kinds: Kinds of work in the layer, such as ``product`` or ``pool``, set by `write`.
    """

    number: int
    step: Step
    constants: Constants
    space: Workspace
    first_tile: int
    tiles: list[PlacedTile] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)

    @property
    def function(self) -> str:
        """Name of the layer's C++ function."""
        operation = self.step.operation
        label = getattr(operation, "fqn", "") or operation.name
        return f"layer_{self.number:02d}_" + re.sub(r"\W+", "_", label)

    def write(self) -> str:
        """Return the source code of the layer's C++ function. The call also sets `tiles` and `kinds`."""
        step = self.step
        if isinstance(step, QuantisedProduct):
            body = self._analog(step, step.tiles) if step.tiles else self._digital(step)
        elif isinstance(step, QuantisedAdd):
            body = self._add(step)
        elif isinstance(step, QuantisedPool):
            body = self._pool(step)
        elif isinstance(step, QuantisedClamp):
            body = self._clamp(step)
        else:
            body = self._place(step)
        parameters = ", ".join(f"const int8_t *{name}" for name in ("x", "y")[: len(step.operation.inputs)])
        lines = [
            f"// {self.describe()}",
            f"LAYER void {self.function}({parameters}, int8_t *out) {{",
            *body,
            "    LH_REGION(0);",
            "}",
        ]
        return "\n".join(lines) + "\n"

    def describe(self) -> str:
        """Return a one-line description of the layer with its name, operation and output size.

        For products, the description also contains the size of the weight matrix and the placement.
        """
        step, shape = self.step, self.step.operation.shape
        size = f"-> {shape.height} x {shape.width} x {shape.channels}"
        if not isinstance(step, QuantisedProduct):
            return f"{step.operation.module or 'network'}: {type(step.operation).__name__.lower()} {size}"
        operation = step.operation
        n_tiles = step.tiles.partition.n_tiles if step.tiles else 0
        where = f"analog on {n_tiles} tile{'s' if n_tiles > 1 else ''}" if n_tiles else "digital"
        kernel = "x".join(map(str, operation.window.kernel))
        groups = f" in {operation.groups} groups" if operation.groups > 1 else ""
        matrix = f"{operation.rows} x {operation.cols}{groups}"
        return f"{operation.fqn or operation.name}: {kernel} product, {matrix} {size}, {where}"

    def _mark(self, kind: str) -> str:
        if kind not in self.kinds:
            self.kinds.append(kind)
            self.kinds.sort(key=KINDS.__getitem__)
        return f"LH_REGION({region_id(self.number, kind)});  // {kind}"

    def _constant(self, array: Any, kind: str = "int8_t") -> str:
        return f"(const {kind} *)(lh_weights + {self.constants.add(array)})"

    def _requantisation(self, step: QuantisedProduct) -> list[str]:
        return [
            f"    const int32_t *bias = {self._constant(step.bias, 'int32_t')};",
            f"    const int32_t *multiplier = {self._constant(step.multiplier, 'int32_t')};",
            f"    const int32_t *shift = {self._constant(step.shift, 'int32_t')};",
        ]

    # ---- digital products

    def _digital(self, step: QuantisedProduct) -> list[str]:
        operation = step.operation
        head = [*self._requantisation(step), _window_text(operation.window)]
        if operation.is_depthwise:
            return [*head, *self._depthwise(step)]
        length = round_up(operation.rows, _GROUP)
        padded = np.pad(step.weights, ((0, 0), (0, 0), (0, length - operation.rows)))
        head.append(f"    const int8_t *weights = {self._constant(padded)};")
        if operation.window.is_pixel and operation.groups == 1:
            return [head[0], head[1], head[2], head[4], *self._pixels(step, length)]
        return [*head, *self._patches(step, length)]

    def _pixels(self, step: QuantisedProduct, length: int) -> list[str]:
        operation = step.operation
        channels, cols = operation.window.source.channels, operation.cols
        pixels = operation.shape.height * operation.shape.width
        self.space.need(sums=min(pixels, _PIXELS) * cols)
        low, high = step.bounds
        return [
            f"    for (int at = 0; at < {pixels}; at += {_PIXELS}) {{",
            f"        int n = {pixels} - at < {_PIXELS} ? {pixels} - at : {_PIXELS};",
            f"        {self._mark('product')}",
            f"        lh_gemm_s8(n, {cols}, {length}, x + (size_t)at * {channels}, {channels},",
            f"                   weights, {length}, sums, {cols});",
            f"        {self._mark('requantise')}",
            f"        lh_requantise(n, {cols}, sums, bias, multiplier, shift, {low}, {high},",
            f"                      out + (size_t)at * {cols}, {cols});",
            "    }",
        ]

    def _patches(self, step: QuantisedProduct, length: int) -> list[str]:
        operation = step.operation
        (out_h, out_w), cols, groups = operation.window.out, operation.cols, operation.groups
        count, total = operation.window.source.channels // groups, cols * groups
        rows = min(out_h, max(1, _PIXELS // out_w))
        self.space.need(patches=rows * out_w * length, sums=rows * out_w * cols)
        low, high = step.bounds
        target = f"out + (size_t)row * {out_w * total} + g * {cols}"
        parameters = ", ".join(f"{name} + g * {cols}" for name in ("bias", "multiplier", "shift"))
        return [
            f"    for (int row = 0; row < {out_h}; row += {rows}) {{",
            f"        int n = {out_h} - row < {rows} ? {out_h} - row : {rows};",
            f"        for (int g = 0; g < {groups}; ++g) {{",
            f"            {self._mark('im2col')}",
            f"            lh_im2col_s8(&w, x, row, n, g * {count}, {count}, patches, {length});",
            f"            {self._mark('product')}",
            f"            lh_gemm_s8(n * {out_w}, {cols}, {length}, patches, {length},",
            f"                       weights + (size_t)g * {cols * length}, {length}, sums, {cols});",
            f"            {self._mark('requantise')}",
            f"            lh_requantise(n * {out_w}, {cols}, sums, {parameters},",
            f"                          {low}, {high}, {target}, {total});",
            "        }",
            "    }",
        ]

    def _depthwise(self, step: QuantisedProduct) -> list[str]:
        (out_h, out_w), channels = step.operation.window.out, step.operation.groups
        self.space.need(sums=out_w * channels)
        weights = self._constant(step.weights[:, 0, :].T)  # (kernel_h * kernel_w, channels)
        low, high = step.bounds
        return [
            f"    const int8_t *weights = {weights};",
            f"    for (int row = 0; row < {out_h}; ++row) {{",
            f"        {self._mark('depthwise')}",
            "        lh_depthwise_s8(&w, x, weights, row, sums);",
            f"        {self._mark('requantise')}",
            f"        lh_requantise({out_w}, {channels}, sums, bias, multiplier, shift, {low}, {high},",
            f"                      out + (size_t)row * {out_w * channels}, {channels});",
            "    }",
        ]

    # ---- products on tiles

    def _analog(self, step: QuantisedProduct, tiles: Tiles) -> list[str]:
        operation = step.operation
        self.tiles = list(cut_tiles(step, self.first_tile, self.constants))
        per_group = len(self.tiles) // operation.groups
        (out_h, out_w), cols, groups = operation.window.out, operation.cols, operation.groups
        total, count = cols * groups, operation.window.source.channels // groups
        self.space.need(patches=operation.rows, sums=cols, outputs=max(tile.cols for tile in self.tiles))
        low, high = step.bounds
        whole = operation.window.is_pixel and groups == 1
        gather = [
            f"            {self._mark('im2col')}",
            f"            lh_gather_patch_s8(&w, x, row, col, g * {count}, {count}, patches, {operation.rows});",
            "            const int8_t *inputs = patches;",
        ]
        direct = [f"            const int8_t *inputs = x + ((size_t)row * {out_w} + col) * {count};"]
        parameters = ", ".join(f"{name} + g * {cols}" for name in ("bias", "multiplier", "shift"))
        add = "lh_accumulate_s8(tile.cols, outputs, sums + tile.col);"
        factors: list[str] = []
        if tiles.factors is not None:
            add = "lh_accumulate_scaled_s8(tile.cols, outputs, factors + tile.factor, sums + tile.col);"
            factors = [f"    const int16_t *factors = {self._constant(tiles.factors, 'int16_t')};"]
        return [
            *self._requantisation(step),
            *factors,
            *([] if whole else [_window_text(operation.window)]),
            f"    static const Tile tiles[{groups}][{per_group}] = {{",
            *self._tile_table(groups),
            "    };",
            *self._codes(step, tiles),
            f"    for (int row = 0; row < {out_h}; ++row)",
            f"        for (int col = 0; col < {out_w}; ++col) for (int g = 0; g < {groups}; ++g) {{",
            *(direct if whole else gather),
            *self._regroup(tiles),
            "            for (const Tile &tile : tiles[g]) {",
            f"                {self._mark('queue')}",
            "                queueVector(tile.rows, (int8_t *)inputs + tile.row, tile.tid);",
            "            }",
            f"            {self._mark('process')}",
            "            for (const Tile &tile : tiles[g]) aimcProcess(tile.tid);  // at the same time",
            f"            {self._mark('partial_sums')}",
            f"            lh_zero(sums, {4 * cols});",
            "            for (const Tile &tile : tiles[g]) {",
            f"                {self._mark('dequeue')}",
            "                dequeueVector(tile.cols, outputs, tile.tid);",
            f"                {self._mark('partial_sums')}",
            f"                {add}",
            "            }",
            f"            {self._mark('requantise')}",
            f"            lh_requantise(1, {cols}, sums, {parameters},",
            f"                          {low}, {high}, out + ((size_t)row * {out_w} + col) * {total} + g * {cols}, {total});",
            "        }",
        ]

    def _codes(self, step: QuantisedProduct, tiles: Tiles) -> list[str]:
        """Return the lines that convert the inputs of a layer to DAC codes, if the inputs are no codes."""
        if tiles.rescale is None:
            return []
        size = step.operation.window.source.size
        self.space.need(codes=size)
        multiplier, shift = tiles.rescale
        return [
            f"    {self._mark('requantise')}",
            f"    lh_rescale_s8({size}, x, {multiplier}, {shift}, -127, 127, codes);",
            "    x = codes;",
        ]

    def _regroup(self, tiles: Tiles) -> list[str]:
        """Return the lines that bring the inputs of one product into the order of the rows of the tiles."""
        if tiles.order is None:
            return []
        self.space.need(grouped=len(tiles.order))
        starts = np.flatnonzero(np.diff(tiles.order, prepend=-2) != 1)
        counts = np.diff(starts, append=len(tiles.order))
        segments = ", ".join(f"{{{tiles.order[at]}, {n}}}" for at, n in zip(starts, counts, strict=True))
        return [
            f"            {self._mark('im2col')}",
            f"            static const lh_segment segments[] = {{{segments}}};",
            f"            lh_regroup_s8({len(starts)}, segments, inputs, grouped);",
            "            inputs = grouped;",
        ]

    def _tile_table(self, groups: int) -> list[str]:
        """Return one line of C++ for each channel group, with six numbers for each tile of the group.

        The numbers are the tile number, the first input, the number of inputs, the first output, the number of outputs, and the
        index of the first factor.
        """
        lines = []
        for group in range(groups):
            entries = [(t.tid, t.row, t.rows, t.col, t.cols, t.factor) for t in self.tiles if t.group == group]
            lines.append("        {" + ", ".join("{" + ", ".join(map(str, entry)) + "}" for entry in entries) + "},")
        return lines

    # ---- other operations

    def _add(self, step: QuantisedAdd) -> list[str]:
        low, high = step.bounds
        left, right = step.multipliers
        n = step.operation.shape.size
        return [
            f"    {self._mark('add')}",
            f"    lh_add_s8({n}, x, {left}, y, {right}, {step.shift}, {low}, {high}, out);",
        ]

    def _pool(self, step: QuantisedPool) -> list[str]:
        head = [_window_text(step.operation.window), f"    {self._mark('pool')}"]
        if step.operation.is_max:
            return [*head, "    lh_max_pool_s8(&w, x, out);"]
        self.space.need(sums=step.operation.shape.channels)
        return [*head, f"    lh_average_pool_s8(&w, x, {step.multiplier}, {step.shift}, sums, out);"]

    def _clamp(self, step: QuantisedClamp) -> list[str]:
        low, high = step.bounds
        return [f"    {self._mark('clamp')}", f"    lh_relu_s8({step.operation.shape.size}, x, {low}, {high}, out);"]

    def _place(self, step: QuantisedPlace) -> list[str]:
        operation, shape = step.operation, step.operation.shape
        source = operation.source
        numbers = [source.height, source.width, source.channels, *operation.step]
        target = [shape.height, shape.width, shape.channels, *operation.corner]
        return [
            f"    {self._mark('place')}",
            f"    lh_place_s8(x, {', '.join(map(str, numbers))}, out, {', '.join(map(str, target))});",
        ]


def _window_text(window: Window) -> str:
    source = window.source
    pairs = [window.kernel, window.stride, window.padding, window.dilation, window.out]
    numbers = [source.height, source.width, source.channels, *(n for pair in pairs for n in pair)]
    return f"    static const lh_window w = {{{', '.join(map(str, numbers))}}};"

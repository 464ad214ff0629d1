"""Conversion of a PyTorch network to a `Program` of floating-point operations, based on `torch.export`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from lionheart.data import eval_mode
from lionheart.errors import ConfigError, GraphError
from lionheart.interop.alpine.operations import Add, Clamp, Place, Pool, Product, Program, Window
from lionheart.interop.alpine.walk import Walker, argument_of, dims_of, pair_of


def trace_program(model: nn.Module, samples: Tensor) -> Program:
    """Trace a network with `torch.export` and return a `Program` of floating-point operations.

    The program also contains the largest magnitude of each operation's output over the calibration samples.

    Args:
        model: Floating-point network. The function traces and runs it in evaluation mode.
        samples: Calibration inputs ``(n, channels, height, width)``, ``(n, tokens, features)`` or ``(n, features)``.

    Raises:
        ConfigError: `samples` is not a tensor of 2 to 4 dimensions with at least one sample.
        UnsupportedLayerError: An operation cannot be exported. The message names the operation and its module.
        GraphError: `torch.export` cannot trace the network, or the output of an operation is not finite for the samples.
    """
    if not isinstance(samples, Tensor) or samples.dim() not in (2, 3, 4) or len(samples) == 0:
        raise ConfigError(
            f"export: samples: got {_describe(samples)}, expected a tensor with 2 to 4 dimensions and at least one sample",
            hint="pass one tensor (n, ...); only networks with one input tensor can be exported",
        )
    with eval_mode(model):
        try:
            exported = torch.export.export(model, (samples[:1],))
        except Exception as error:  # torch raises many exception types; each means that the network cannot be exported
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise GraphError(
                f"export: torch.export cannot trace {type(model).__name__}: {reason}",
                hint="check that the forward pass does not branch on data and accepts inputs of the shape of the samples",
            ) from error
    builder = _Builder(exported)
    operations = builder.build()
    stored = {node: tensor for node, (_, tensor) in builder.tensors.items()}
    ranges = _record_ranges(exported.graph_module, stored, samples, {builder.source, *(op.name for op in operations)})
    return Program(
        source=builder.source,
        shapes=builder.shapes,
        operations=tuple(operations),
        result=builder.result,
        ranges=ranges,
        samples=channels_last(samples),
        output_dims=builder.output_dims,
    )


def _describe(samples: Any) -> str:
    return f"shape {tuple(samples.shape)}" if isinstance(samples, Tensor) else type(samples).__name__


def channels_last(samples: Tensor) -> NDArray[np.float32]:
    """Return `samples` as float32 images ``(n, height, width, channels)``.

    A vector becomes an image of one pixel. A sequence becomes an image of height 1 with one pixel for each token.
    """
    images = samples.detach().float().cpu()
    if images.dim() == 4:
        return np.ascontiguousarray(images.permute(0, 2, 3, 1).numpy())
    return images.reshape(len(images), 1, -1, images.shape[-1]).numpy()


class _Recorder(fx.Interpreter):
    """Interpreter that runs an exported network and records the largest magnitude of the output of each node in `names`."""

    def __init__(self, module: fx.GraphModule, names: set[str]) -> None:
        super().__init__(module)
        self.largest = dict.fromkeys(sorted(names), 0.0)

    def run_node(self, n: fx.Node) -> Any:
        out = super().run_node(n)
        if n.name in self.largest:
            self.largest[n.name] = max(self.largest[n.name], float(out.detach().abs().max()))
        return out


def _record_ranges(
    module: fx.GraphModule, stored: Mapping[str, Tensor], samples: Tensor, names: set[str]
) -> dict[str, float]:
    """Return the largest magnitude of the output of each graph node in `names` over `samples`, by node name.

    `stored` holds the parameters and buffers of the network, by node name.
    """
    recorder = _Recorder(module, names)
    inputs = [node.name for node in module.graph.nodes if node.op == "placeholder"]
    with torch.no_grad():
        for sample in samples[:, None]:
            recorder.run(*(stored.get(name, sample) for name in inputs))
    for name, largest in recorder.largest.items():
        if not math.isfinite(largest):
            raise GraphError(
                f"export: the output of node {name!r} is not finite for the calibration samples, expected only finite numbers",
                hint="check the weights and the calibration samples for NaN and infinity",
            )
    return recorder.largest


@final
class _Builder(Walker):
    """Converter of a graph from `torch.export` to the operations of a `Program`.

    The class has one handler method for each supported ATen operation.
    """

    # ---- products

    def _on_conv2d(self, node: fx.Node) -> None:
        source = self._require_image(node)
        stride, padding, dilation = (pair_of(argument_of(node, i, default)) for i, default in ((3, 1), (4, 0), (5, 1)))
        name, weight = self._tensor(node, 1)
        bias = self._tensor(node, 2)[1]
        if weight is None:
            raise self._refused(node)
        kernel = (weight.shape[2], weight.shape[3])
        if isinstance(padding[0], str):
            same = padding[0] == "same"
            padding = tuple(d * (k - 1) // 2 if same else 0 for d, k in zip(dilation, kernel, strict=True))
        shape = self._shape(node)
        window = Window(source, kernel, stride, padding, dilation, (shape.height, shape.width))
        product = Product(
            **self._common(node),
            fqn=name.removesuffix(".weight"),
            window=window,
            weight=weight.transpose(0, 2, 3, 1),
            bias=np.zeros(len(weight)) if bias is None else bias,
            groups=int(argument_of(node, 6, 1)),
        )
        self._emit(node, product)

    def _on_linear(self, node: fx.Node) -> None:
        name, weight = self._tensor(node, 1)
        bias = self._tensor(node, 2)[1]
        self._input(node)
        if weight is None or len(dims_of(node)) == 4:
            raise self._refused(node, "on an image")
        order = self._order(node)
        if order is not None:
            weight = weight.reshape(-1, *order).transpose(0, 2, 3, 1).reshape(len(weight), -1)
        source = self._shape(node.all_input_nodes[0])
        window = Window(source, (1, 1), (1, 1), (0, 0), (1, 1), (source.height, source.width))
        zeros = np.zeros(len(weight))
        self._emit(
            node,
            Product(
                **self._common(node),
                fqn=name.removesuffix(".weight"),
                window=window,
                weight=weight[:, None, None, :],
                bias=zeros if bias is None else bias,
                pixels=None if order is None else order[1:],
            ),
        )

    def _on_batch_norm(self, node: fx.Node) -> None:
        gain, shift, mean, variance = (self._tensor(node, position)[1] for position in (1, 2, 3, 4))
        if mean is None or variance is None or node.args[5]:
            raise self._refused(node, "without running statistics")
        factor = (1.0 if gain is None else gain) / np.sqrt(variance + float(node.args[7]))  # type: ignore[arg-type]
        offset = (0.0 if shift is None else shift) - mean * factor
        before = self._fused(node, (Product,))
        if before is not None and before.bounds == (-math.inf, math.inf):
            weight = before.weight * factor[:, None, None, None]
            self._take_over(node, before, weight=weight, bias=before.bias * factor + offset)
            return
        source = self._shape(node.all_input_nodes[0])
        if self._order(node) is not None or len(dims_of(node)) == 3:
            raise self._refused(node, "on a flattened image or a sequence")
        window = Window(source, (1, 1), (1, 1), (0, 0), (1, 1), (source.height, source.width))
        weight = factor[:, None, None, None]
        common = self._common(node)
        self._emit(node, Product(**common, fqn="", window=window, weight=weight, bias=offset, groups=source.channels))

    # ---- element-wise operations

    def _on_relu(self, node: fx.Node) -> None:
        self._clamp(node, 0.0, math.inf)

    def _on_relu6(self, node: fx.Node) -> None:
        self._clamp(node, 0.0, 6.0)

    def _on_hardtanh(self, node: fx.Node) -> None:
        self._clamp(node, float(argument_of(node, 1, -1.0)), float(argument_of(node, 2, 1.0)))

    def _on_clamp(self, node: fx.Node) -> None:
        low, high = argument_of(node, 1, None), argument_of(node, 2, None)
        if isinstance(low, fx.Node) or isinstance(high, fx.Node):
            raise self._refused(node, "with bounds that are tensors")
        self._clamp(node, -math.inf if low is None else float(low), math.inf if high is None else float(high))

    def _on_clamp_min(self, node: fx.Node) -> None:
        self._clamp(node, float(argument_of(node, 1, 0.0)), math.inf)

    def _clamp(self, node: fx.Node, low: float, high: float) -> None:
        self._keep_order(node)
        before = self._fused(node, (Product, Add, Clamp))
        if before is not None:
            bounds = tuple(min(max(bound, low), high) for bound in before.bounds)
            self._take_over(node, before, bounds=bounds)
            return
        self._emit(node, Clamp(**self._common(node), bounds=(low, high)))

    def _on_add(self, node: fx.Node) -> None:
        common = self._common(node, 0, 1)
        same = dims_of(node, 0) == dims_of(node, 1) and self._order(node, 0) == self._order(node, 1)
        if not same or float(node.kwargs.get("alpha", 1)) != 1:  # type: ignore[arg-type]
            raise self._refused(node, "of values with different shapes, or with alpha != 1,")
        self._emit(node, Add(**common))
        self._keep_order(node)

    # ---- operations on pixels

    def _on_max_pool2d(self, node: fx.Node) -> None:
        self._pool(node, dilation=pair_of(argument_of(node, 4, 1)), ceil=bool(argument_of(node, 5, False)), is_max=True)

    def _on_avg_pool2d(self, node: fx.Node) -> None:
        padded = pair_of(argument_of(node, 3, 0)) != (0, 0)
        if argument_of(node, 6, None) is not None or (padded and not argument_of(node, 5, True)):
            raise self._refused(node, "with a divisor other than the window size")
        self._pool(node, dilation=(1, 1), ceil=bool(argument_of(node, 4, False)), is_max=False)

    def _pool(self, node: fx.Node, *, dilation: tuple[int, int], ceil: bool, is_max: bool) -> None:
        if ceil:
            raise self._refused(node, "with ceil_mode")
        kernel = pair_of(node.args[1])
        stride = pair_of(argument_of(node, 2, None) or kernel)
        self._emit_pool(node, kernel, stride, pair_of(argument_of(node, 3, 0)), dilation, is_max=is_max)

    def _emit_pool(
        self,
        node: fx.Node,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        padding: tuple[int, int] = (0, 0),
        dilation: tuple[int, int] = (1, 1),
        *,
        is_max: bool,
    ) -> None:
        source = self._require_image(node)
        out = tuple(
            (size + 2 * p - d * (k - 1) - 1) // s + 1
            for size, k, s, p, d in zip((source.height, source.width), kernel, stride, padding, dilation, strict=True)
        )
        window = Window(source, kernel, stride, padding, dilation, (out[0], out[1]))
        self._emit(node, Pool(**self._common(node), window=window, is_max=is_max))

    def _on_adaptive_avg_pool2d(self, node: fx.Node) -> None:
        source, out = self._require_image(node), self._shape(node)
        if source.height % out.height or source.width % out.width:
            raise self._refused(node, "with windows of different sizes")
        kernel = (source.height // out.height, source.width // out.width)
        self._emit_pool(node, kernel, kernel, is_max=False)

    def _on_mean(self, node: fx.Node) -> None:
        source = self._require_image(node)
        dims = node.args[1] if len(node.args) > 1 else ()
        if sorted(int(d) % 4 for d in dims) != [2, 3]:  # type: ignore[union-attr,arg-type]
            raise self._refused(node, "over dimensions other than height and width")
        kernel = (source.height, source.width)
        self._emit_pool(node, kernel, kernel, is_max=False)

    def _on_slice(self, node: fx.Node) -> None:
        self._require_image(node)
        axis, start, step = int(argument_of(node, 1, 0)) % 4, argument_of(node, 2, 0) or 0, int(argument_of(node, 4, 1))
        source, length = dims_of(node), node.meta["val"].shape[axis]
        if start != 0 or length != -(-source[axis] // step) or (axis not in (2, 3) and step != 1):
            raise self._refused(node, "that does not select every n-th pixel from the first")
        if step == 1:
            self._name(node, self._input(node))
            return
        steps = (step, 1) if axis == 2 else (1, step)
        before = self._fused(node, (Place,))
        if before is not None and before.corner == (0, 0, 0):
            merged = (before.step[0] * steps[0], before.step[1] * steps[1])
            self._take_over(node, before, step=merged, shape=self._shape(node))
            return
        self._emit(node, Place(**self._common(node), source=self._require_image(node), step=steps))

    def _on_pad(self, node: fx.Node) -> None:
        source = self._require_image(node)
        amounts = [int(n) for n in node.args[1]]  # type: ignore[union-attr,arg-type]
        amounts += [0] * (8 - len(amounts))
        if (
            argument_of(node, 2, "constant") != "constant"
            or argument_of(node, 3, None) not in (None, 0)
            or min(amounts) < 0
        ):
            raise self._refused(node, "other than padding with zeros")
        corner = (amounts[2], amounts[0], amounts[4])
        before = self._fused(node, (Place,))
        if before is not None and before.corner == (0, 0, 0) and self.shapes[before.name] == source:
            self._take_over(node, before, corner=corner, shape=self._shape(node))
            return
        self._emit(node, Place(**self._common(node), source=source, corner=corner))

    def _on_constant_pad_nd(self, node: fx.Node) -> None:
        self._on_pad(node)

"""The networks of ALPINE and the VGG-16 of LionHeart, layer by layer, from their publications."""

from __future__ import annotations

from lionheart.graph import DigitalOp, LayerGraph, LayerNode


def linear(fqn: str, rows: int, cols: int) -> LayerNode:
    """Return a linear layer that runs once per inference."""
    return LayerNode(fqn, "linear", rows, cols, 1, 1, 1, rows, cols, has_bias=True)


def conv(fqn: str, channels: int, filters: int, kernel: int, size_in: int, size_out: int) -> LayerNode:
    """Return a square convolution."""
    rows, n_mvms = channels * kernel**2, size_out**2
    return LayerNode(fqn, "conv2d", rows, filters, 1, n_mvms, 1, channels * size_in**2, filters * n_mvms, has_bias=True)


def mlp() -> LayerGraph:
    """Return ALPINE's MLP 1024-1024-1024 with ReLU."""
    ops = tuple(DigitalOp("relu", 1, 1024, 1024, scheduled_after=fqn) for fqn in ("fc1", "fc2"))
    return LayerGraph((linear("fc1", 1024, 1024), linear("fc2", 1024, 1024)), ops)


def lstm(hidden: int = 750, inputs: int = 100, outputs: int = 50) -> LayerGraph:
    """Return one step of ALPINE's LSTM: the four gates as one projection, the cell, and the output layer."""
    ops = (
        DigitalOp("sigmoid", 3, 3 * hidden, 3 * hidden, scheduled_after="gates"),
        DigitalOp("tanh", 2, 2 * hidden, 2 * hidden, scheduled_after="gates"),
        DigitalOp("mul", 3, 3 * hidden, 6 * hidden, scheduled_after="gates"),
        DigitalOp("add", 1, hidden, 2 * hidden, scheduled_after="gates"),
        DigitalOp("softmax", 1, outputs, outputs, scheduled_after="out"),
    )
    return LayerGraph((linear("gates", inputs + hidden, 4 * hidden), linear("out", hidden, outputs)), ops)


def _cnn(convs: list[LayerNode], dense: list[LayerNode], pools: dict[int, int], lrn: tuple[int, ...]) -> LayerGraph:
    """Add ReLU, pools (layer -> elements written) and local response norms to the layers."""
    ops: list[DigitalOp] = []
    for index, node in enumerate([*convs, *dense]):
        n = node.n_outputs
        ops.append(DigitalOp("relu", 1, n, n, scheduled_after=node.fqn))
        if index in lrn:
            ops.append(DigitalOp("local_response_norm", 1, n, n, scheduled_after=node.fqn))
        if index in pools:
            ops.append(DigitalOp("max_pool", 1, pools[index], n, scheduled_after=node.fqn))
    return LayerGraph((*convs, *dense), tuple(ops))


def cnn_f() -> LayerGraph:
    """Return CNN-F (Chatfield et al.) with the strides and padding given by ALPINE."""
    convs = [conv("conv1", 3, 64, 11, 224, 54), conv("conv2", 64, 256, 5, 27, 25), conv("conv3", 256, 256, 3, 12, 12)]
    convs += [conv("conv4", 256, 256, 3, 12, 12), conv("conv5", 256, 256, 3, 12, 12)]
    dense = [linear("fc6", 36 * 256, 4096), linear("fc7", 4096, 4096), linear("fc8", 4096, 1000)]
    return _cnn(convs, dense, {0: 64 * 27**2, 1: 256 * 12**2, 4: 256 * 6**2}, lrn=(0, 1))


def cnn_s() -> LayerGraph:
    """Return CNN-S (Chatfield et al.) with the strides and padding given by ALPINE."""
    convs = [conv("conv1", 3, 96, 7, 224, 109), conv("conv2", 96, 256, 5, 36, 34), conv("conv3", 256, 512, 3, 17, 17)]
    convs += [conv("conv4", 512, 512, 3, 17, 17), conv("conv5", 512, 512, 3, 17, 17)]
    dense = [linear("fc6", 25 * 512, 4096), linear("fc7", 4096, 4096), linear("fc8", 4096, 1000)]
    return _cnn(convs, dense, {0: 96 * 36**2, 1: 256 * 17**2, 4: 512 * 5**2}, lrn=(0,))


def vgg16() -> LayerGraph:
    """Return the VGG-16 for CIFAR-10: 13 convolutions of 3x3 and one linear layer."""
    nodes, channels, size, n_outputs, n_pooled = [], 3, 32, 0, 0
    for filters, repeats in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(repeats):
            nodes.append(conv(f"conv{len(nodes) + 1}", channels, filters, 3, size, size))
            channels, n_outputs = filters, n_outputs + nodes[-1].n_outputs
        n_pooled += nodes[-1].n_outputs
        size //= 2
    ops = (DigitalOp("relu", 13, n_outputs, n_outputs), DigitalOp("max_pool", 5, n_pooled // 4, n_pooled))
    return LayerGraph((*nodes, linear("fc", 512, 10)), (*ops, DigitalOp("batch_norm", 13, n_outputs, n_outputs)))


# --- each case as ALPINE runs it ---

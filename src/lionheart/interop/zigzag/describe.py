"""Descriptions of layers and platforms in the input format of ZigZag.

Each projection (weight matrix) is described as a matrix product, and a platform as a vector core with its memories.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, final

from zigzag.hardware.architecture.accelerator import Accelerator
from zigzag.parser.accelerator_factory import AcceleratorFactory
from zigzag.parser.accelerator_validator import AcceleratorValidator
from zigzag.parser.mapping_validator import MappingValidator
from zigzag.parser.workload_factory import WorkloadFactory
from zigzag.parser.workload_validator import WorkloadValidator
from zigzag.workload.dnn_workload import DNNWorkload

from lionheart.constants import load_constants
from lionheart.errors import ConfigError
from lionheart.graph import LayerGraph, LayerNode
from lionheart.system import PlatformSpec

LEVELS = ("registers", "l1", "l2", "dram")
_PJ = 1e12  # picojoules per joule
_INPUT, _WEIGHT, _OUTPUT = "I1", "I2", "O"  # ZigZag's operand names
_OPERANDS = (_INPUT, _WEIGHT, _OUTPUT)
_DOWN, _UP, _STORE, _BELOW = (
    "tl",
    "fh",
    "th",
    "fl",
)  # read for the lower level, fill from the upper level, read for the upper level, write from the lower level
_PORT_NAMES = {"read": "r", "write": "w", "read_write": "rw"}
_UNBOUNDED_BITS = 10**13  # larger than any operand, for memories that the platform's size rule has already assigned
_AXES = {"cols": "K", "rows": "C", "n_mvms": "B", "groups": "G"}


class Home(StrEnum):
    """Memory in which the operands of a layer remain between two uses.

    All operands are in DRAM if the layer's activations exceed the last-level cache (LLC). Otherwise, only the weights are in
    DRAM if the weights of the whole network exceed the LLC. In all other cases, all operands are in the LLC.
    """

    LLC = "llc"
    WEIGHTS_IN_DRAM = "weights in dram"
    DRAM = "dram"


@final
@dataclass(frozen=True)
class Shape:
    """Matrix product that represents a projection (weight matrix) in ZigZag.

    Args:
        rows: Number of inputs of each group's matrix.
        cols: Number of outputs of each group's matrix.
        groups: Number of groups, each with its own matrix.
        n_mvms: Number of matrix-vector multiplications with each group's matrix per inference.
        home: Memory in which the operands remain between two uses.
    """

    rows: int
    cols: int
    groups: int
    n_mvms: int
    home: Home

    @property
    def macs(self) -> int:
        """Number of multiply-accumulate operations per inference."""
        return self.rows * self.cols * self.groups * self.n_mvms


def read_core(name: str) -> int:
    """Return the integer constant of the vector core that is stored under `name` in the file ``data/vector_core.toml``."""
    return int(load_constants("lionheart.system", "data/vector_core.toml")[name].value)


def describe_shapes(graph: LayerGraph, platform: PlatformSpec) -> dict[str, Shape]:
    """Return the matrix product that represents each projection (weight matrix) in ZigZag, as a dictionary by projection name.

    The graph has no kernel sizes, so a convolution is represented by the product of its input patches and its weight matrix.
    The numbers of multiply-accumulate operations and weights are exact. An input value counts once for each patch that
    contains it.
    """
    weights_fit = graph.weights * platform.activation_bytes <= platform.llc_bytes
    return {node.fqn: _describe_shape(node, platform, weights_fit=weights_fit) for node in graph.nodes}


def _describe_shape(node: LayerNode, platform: PlatformSpec, *, weights_fit: bool) -> Shape:
    activations_fit = (node.n_inputs + node.n_outputs) * platform.activation_bytes <= platform.llc_bytes
    home = Home.DRAM if not activations_fit else Home.LLC if weights_fit else Home.WEIGHTS_IN_DRAM
    return Shape(node.rows, node.cols, node.groups, node.n_mvms, home)


def build_workload(shape: Shape, platform: PlatformSpec) -> DNNWorkload:
    """Return ZigZag's workload for one matrix product.

    The lanes work in parallel along one dimension of the product. If the sizes of some dimensions are multiples of the number
    of lanes, ZigZag may choose only one of these dimensions. Otherwise, ZigZag may choose any dimension. Without this
    restriction, ZigZag's search would prefer dimensions that use a fractional number of lanes on average. ZigZag truncates such
    a number to an integer when it counts transfer cycles, and therefore underestimates the duration of the transfers.
    """
    bits = 8 * platform.activation_bytes
    layer = {
        "id": 0,
        "name": "product",
        "operator_type": "Gemm",
        "equation": "O[g][b][k]+=W[g][k][c]*I[g][b][c]",
        "dimension_relations": [],
        "loop_dims": list(_AXES.values()),
        "loop_sizes": [getattr(shape, axis) for axis in _AXES],
        "operand_precision": {"W": bits, "I": bits, "O": read_core("accumulator_bits"), "O_final": bits},
        "operand_source": {"W": 0, "I": 0},
    }
    links = {"O": _OUTPUT, "W": _WEIGHT, "I": _INPUT}
    filling = [axis for name, axis in _AXES.items() if getattr(shape, name) % read_core("vector_lanes") == 0]
    hints = {
        "memory_operand_links": links,
        "spatial_mapping": {},
        "spatial_mapping_hint": {"D1": filling} if filling else {},
        "temporal_ordering": [],
    }
    mapping = MappingValidator([{"name": name, **hints} for name in ("default", "Gemm")])
    workload = WorkloadValidator([layer])
    _require_valid("matrix product", workload, mapping)
    return WorkloadFactory(workload.normalized_data, mapping.normalized_data).create()


def build_core(platform: PlatformSpec, home: Home) -> Accelerator:
    """Return ZigZag's accelerator, which consists of the lanes of the vector core and the memories of the platform.

    The platform's energy per active cycle is divided evenly among the lanes. Registers and L1 have no energy of their own
    because the energy per active cycle includes the accesses to both. The size of L2 (the last-level cache) is unlimited unless
    all operands are in DRAM, because `home` already determines which operands L2 holds.

    Args:
        platform: Platform that defines the energies, memory sizes and bandwidths.
        home: Memory in which the operands remain between two uses.
    """
    in_dram = {Home.LLC: (), Home.WEIGHTS_IN_DRAM: (_WEIGHT,), Home.DRAM: _OPERANDS}[home]
    data = {
        "name": platform.name,
        "memories": dict(_describe_memories(platform, in_dram)),
        "operational_array": {
            "unit_energy": platform.active_energy_j_per_cycle * _PJ / read_core("vector_lanes"),
            "unit_area": 1.0,
            "dimensions": ["D1"],
            "sizes": [read_core("vector_lanes")],
        },
    }
    validator = AcceleratorValidator(data)
    _require_valid(platform.name, validator)
    return AcceleratorFactory(validator.normalized_data).create()


def _describe_memories(platform: PlatformSpec, in_dram: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and ZigZag's description of each memory, from registers to DRAM.

    `in_dram` names the operands that remain in DRAM between two uses. If `in_dram` is empty, DRAM is omitted. Bandwidths are
    rounded to whole bits per cycle.
    """
    port_bits, lanes = read_core("l1_port_bits"), read_core("vector_lanes")
    element_bits, sum_bits = 8 * platform.activation_bytes, read_core("accumulator_bits")
    line_bits = 8 * platform.cache_line_bytes
    llc_bits = round(line_bits / platform.llc_line_stall_cycles) if platform.llc_line_stall_cycles else port_bits
    dram_bits = max(round(8 * platform.dram_stream_bandwidth_bytes_per_s / platform.clock_hz), 1)
    to_lanes = [
        _Port("read", lanes * element_bits, [f"{_INPUT}, {_DOWN}"]),
        _Port("read", lanes * element_bits, [f"{_WEIGHT}, {_DOWN}"]),
        _Port("read", lanes * sum_bits, [f"{_OUTPUT}, {_DOWN}"]),
        _Port("write", lanes * sum_bits, [f"{_OUTPUT}, {_BELOW}"]),
    ]
    yield "registers", _memory(read_core("vector_register_bits"), [*to_lanes, _port_above(port_bits)])
    yield "l1", _memory(8 * platform.l1_bytes, [_port_below(port_bits), _port_above(llc_bits)])
    size = 8 * platform.llc_bytes if len(in_dram) == len(_OPERANDS) else _UNBOUNDED_BITS
    read_j, write_j = platform.llc_read_energy_j_per_byte / 8, platform.llc_write_energy_j_per_byte / 8
    yield "l2", _memory(size, [_port_below(llc_bits), _port_above(dram_bits)], (read_j * llc_bits, write_j * llc_bits))
    if in_dram:
        energy_j = platform.dram_energy_j_per_access / line_bits * dram_bits
        yield "dram", _memory(_UNBOUNDED_BITS, [_port_below(dram_bits, in_dram)], (energy_j, energy_j), in_dram)


@final
@dataclass(frozen=True)
class _Port:
    """Memory port that transfers up to `bits` bits per cycle.

    `kind` is ``read``, ``write`` or ``read_write``. Each entry of `moves` names an operand and ZigZag's code for the direction
    in which the port transfers the operand.
    """

    kind: str
    bits: int
    moves: list[str]


def _port_below(bits: int, operands: Sequence[str] = _OPERANDS) -> _Port:
    moves = [f"{operand}, {_DOWN}" for operand in operands]
    return _Port("read_write", bits, moves + [f"{_OUTPUT}, {_BELOW}"] * (_OUTPUT in operands))


def _port_above(bits: int) -> _Port:
    return _Port("read_write", bits, [*(f"{operand}, {_UP}" for operand in _OPERANDS), f"{_OUTPUT}, {_STORE}"])


def _memory(
    size_bits: int,
    ports: Sequence[_Port],
    energy_j: tuple[float, float] = (0.0, 0.0),
    operands: Sequence[str] = _OPERANDS,
) -> dict[str, Any]:
    """Return ZigZag's description of a memory that holds `operands`.

    `energy_j` holds the energies [J] of one read and of one write at full port width.
    """
    return {
        "size": size_bits,
        "r_cost": energy_j[0] * _PJ,
        "w_cost": energy_j[1] * _PJ,
        "area": 0.0,
        "latency": 1,  # required by ZigZag, but not used
        "operands": list(operands),
        "ports": [
            {
                "name": f"{_PORT_NAMES[port.kind]}_port_{number}",
                "type": port.kind,
                "bandwidth_min": 1,
                "bandwidth_max": port.bits,
                "allocation": port.moves,
            }
            for number, port in enumerate(ports, 1)
        ],
        "served_dimensions": ["D1"],
    }


def _require_valid(where: str, *validators: Any) -> None:
    if not all(validator.validate() for validator in validators):
        raise ConfigError(
            f"{where!r}: ZigZag rejected the generated description, expected the input format of zigzag-dse 3.9.1",
            hint="pip install zigzag-dse==3.9.1, and check the memory sizes and bandwidths of the platform",
        )

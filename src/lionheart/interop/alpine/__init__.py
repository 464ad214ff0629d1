"""Export of a network with analog and digital layers as a C++ program for the simulator ALPINE.

ALPINE, which is based on gem5-X, simulates processor cores with analog tiles.

`trace_program` records the operations of a network, `quantise_program` converts the operations to integers, and `emit_program`
writes the program to a folder. `run_program` builds and runs the program, and `count_regions` counts the executed
instructions. The outputs of the program must equal the outputs of LionHeart's quantised reference (a NumPy implementation) bit
for bit. docs/how-to/export.md describes the supported operations and the accuracy.
"""

from lionheart.interop.alpine.emit import emit_program
from lionheart.interop.alpine.operations import Program
from lionheart.interop.alpine.qemu import (
    CLASSES,
    CPU,
    Counts,
    RunCounts,
    Tools,
    compile_program,
    count_instructions,
    find_tools,
)
from lionheart.interop.alpine.quantise import quantise_program
from lionheart.interop.alpine.quantised import QuantisedProgram
from lionheart.interop.alpine.run import ProgramRun, RegionCounts, count_regions, run_program
from lionheart.interop.alpine.trace import trace_program

__all__ = [
    "CLASSES",
    "CPU",
    "Counts",
    "Program",
    "ProgramRun",
    "QuantisedProgram",
    "RegionCounts",
    "RunCounts",
    "Tools",
    "compile_program",
    "count_instructions",
    "count_regions",
    "emit_program",
    "find_tools",
    "quantise_program",
    "run_program",
    "trace_program",
]

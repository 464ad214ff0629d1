"""ALPINE: export of a mapped network as a C++ program for the simulator gem5-X with analog tiles, checked bit for bit.

`trace_program` reads a network, `quantise_program` converts it to integers, `emit_program` writes a folder, `run_program` and
`count_regions` build and run the program in the folder. docs/how-to/export.md describes the supported operations and
the accuracy.
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
from lionheart.interop.alpine.quantised import QuantisedProgram, quantise_program
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

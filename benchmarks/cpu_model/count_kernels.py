"""Count the instructions of the digital kernels on AArch64 and fit them to units of work.

    python benchmarks/cpu_model/count_kernels.py           # write benchmarks/cpu_model/laboratory/kernels_aarch64.toml
    python benchmarks/cpu_model/count_kernels.py --page    # write docs/results/instruction_counts.md too

Each kernel of src/lionheart/interop/alpine/native is called at several sizes in a program cross-compiled for AArch64 and run under
QEMU's user mode with a plugin that counts. For each class of instruction a non-negative least-squares fit, relative to the
instructions of each call, turns the counts into instructions per unit of work and per call. benchmarks/cpu_model/kernel_cases.py holds
the calls. Counts do not depend on the machine, so a second run writes the same file.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from kernel_cases import Kernel, kernels
from scipy.optimize import nnls

from lionheart.interop.alpine import (
    CLASSES,
    CPU,
    Counts,
    RunCounts,
    Tools,
    compile_program,
    count_instructions,
    find_tools,
)

ROOT = Path(__file__).resolve().parents[2]
NATIVE = ROOT / "src" / "lionheart" / "interop" / "alpine" / "native"
DATA = Path(__file__).resolve().parent / "laboratory" / "kernels_aarch64.toml"
PAGE = ROOT / "docs" / "results" / "instruction_counts.md"
FLAGS = ("-std=c++17", "-O3", "-ffp-contract=off")  # as exported programs are built
NEGLIGIBLE = 5e-3  # a coefficient with at most this share of the instructions of every call is left out
PRELUDE = """
#define LH_AIMC_DRY  // hints, which do nothing, in place of the tile's opcodes
#include "aimc.hh"
#include "lionheart_kernels.h"

alignas(64) static int8_t sa[1 << 20], sb[1 << 20], sc[1 << 20];
alignas(64) static int32_t ia[1 << 18], ib[1 << 18], ic[1 << 18], id[1 << 18];
alignas(64) static float fa[1 << 18], fb[1 << 18], fc[1 << 18];

LH_KERNEL void queue_vector(int n, const int8_t *x, int tid) { queueVector(n, x, tid); }
LH_KERNEL void dequeue_vector(int n, int8_t *x, int tid) { dequeueVector(n, x, tid); }

LH_KERNEL void naive_queue(int n, const int8_t *x) {
    uint32_t packed = 0;
    for (int i = 0; i < n; ++i) {
        packed |= (uint32_t)(uint8_t)x[i] << (8 * (i % 4));
        if (i % 4 == 3 || i == n - 1) aimcQueue(packed), packed = 0;
    }
}

LH_KERNEL void naive_dequeue(int n, int8_t *x) {
    uint64_t packed = 0;
    for (int i = 0; i < n; ++i) {
        if (i % 4 == 0) packed = aimcDequeue();
        x[i] = (int8_t)(packed >> (8 * (i % 4)));
    }
}

LH_KERNEL void naive_gemv_s8(int n, int k, const int8_t *x, const int8_t *weights, int32_t *out) {
    for (int j = 0; j < n; ++j) {
        int32_t sum = 0;
        for (int i = 0; i < k; ++i) sum += x[i] * weights[(size_t)j * k + i];
        out[j] = sum;
    }
}

LH_KERNEL void naive_im2col_s8(const lh_window &w, const int8_t *x, int8_t *out) {
    for (int row = 0; row < w.out_h; ++row)
        for (int col = 0; col < w.out_w; ++col)
            for (int ky = 0; ky < w.kernel_h; ++ky)
                for (int kx = 0; kx < w.kernel_w; ++kx)
                    for (int c = 0; c < w.channels; ++c) {
                        int y = row * w.stride_h - w.pad_h + ky, at = col * w.stride_w - w.pad_w + kx;
                        bool inside = y >= 0 && y < w.height && at >= 0 && at < w.width;
                        *out++ = inside ? x[((size_t)y * w.width + at) * w.channels + c] : 0;
                    }
}

int main() {
    uint32_t state = 1;
    for (int i = 0; i < 1 << 18; ++i) {
        state = state * 1664525u + 1013904223u;
        sa[i] = (int8_t)(state >> 24), sb[i] = (int8_t)(state >> 16), fa[i] = (float)(int8_t)(state >> 8) / 32, fb[i] = 1;
        ia[i] = (int32_t)state >> 12, ib[i] = 7, ic[i] = 1500000000, id[i] = 40;
    }
"""


@dataclass(frozen=True)
class Fit:
    """Instructions per unit of work of one kernel.

    Args:
        kernel: The kernel.
        per_unit: Instructions by class and unit; the unit ``call`` is the cost of each call.
        errors: Fitted divided by counted instructions, minus one, at each size.
        left_out: Error at each size of a fit to all other sizes.
    """

    kernel: Kernel
    per_unit: Mapping[str, Mapping[str, float]]
    errors: tuple[float, ...]
    left_out: tuple[float, ...]

    def instructions(self, unit: str) -> float:
        """Return the instructions of all classes per unit of work."""
        return sum(units.get(unit, 0.0) for units in self.per_unit.values())

    @property
    def worst(self) -> float:
        return max(map(abs, self.errors))

    @property
    def mean(self) -> float:
        return sum(map(abs, self.errors)) / len(self.errors)


def write_program(folder: Path, cases: Sequence[Kernel]) -> Path:
    """Write the C++ program that calls each kernel at each size, each call in a separate region."""
    calls = [point.call for kernel in cases for point in kernel.points]
    body = [f"    {{ LH_REGION({i}); {call} LH_REGION(0); }}" for i, call in enumerate(calls, start=1)]
    source = folder / "count_kernels.cc"
    source.write_text(PRELUDE + "\n".join(body) + "\n    return 0;\n}\n", encoding="utf-8")
    return source


def count(tools: Tools, cases: Sequence[Kernel]) -> tuple[RunCounts, RunCounts]:
    """Compile the program and count it twice; the second time from another folder, which moves its stack."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = compile_program(tools, [write_program(folder, cases)], folder / "p", flags=FLAGS, include=[NATIVE])
        other = folder / "a_longer_name" / "program"
        other.parent.mkdir()
        other.write_bytes(program.read_bytes())
        other.chmod(0o755)
        return count_instructions(tools, program), count_instructions(tools, other)


def solve(work: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Return the non-negative instructions per unit (rows) and class (columns) that best reproduce the counts."""
    totals = counted.sum(axis=1)
    scale = (work / totals[:, None]).max(axis=0) + 1e-300
    columns = []
    for one_class in counted.T:
        values, _ = nnls(work / totals[:, None] / scale, one_class / totals, maxiter=1000)
        values /= scale
        values = np.array([float(f"{value:.4g}") for value in values])
        values[(work * values / totals[:, None]).max(axis=0) < NEGLIGIBLE] = 0.0
        columns.append(values)
    return np.array(columns).T


def fit(kernel: Kernel, counts: Sequence[Counts]) -> Fit:
    """Fit the counts of each class to the kernel's units of work."""
    names = [*kernel.units, "call"]
    work = np.array([[point.units.get(unit, 1.0) for unit in names] for point in kernel.points])
    counted = np.array([[getattr(c, name) for name in CLASSES] for c in counts], dtype=float)
    totals = counted.sum(axis=1)
    values = solve(work, counted)
    left_out = []
    for i in range(len(counts)):
        others = np.arange(len(counts)) != i
        left_out.append(work[i] @ solve(work[others], counted[others]).sum(axis=1) / totals[i] - 1)
    per_unit = {
        name: {unit: float(value) for unit, value in zip(names, column, strict=True) if value}
        for name, column in zip(CLASSES, values.T, strict=True)
        if column.any()
    }
    return Fit(kernel, per_unit, tuple((work @ values).sum(axis=1) / totals - 1), tuple(left_out))


def fit_all(cases: Sequence[Kernel], run: RunCounts) -> list[Fit]:
    """Fit every kernel to the counts of one run."""
    fits, region = [], 1
    for kernel in cases:
        fits.append(fit(kernel, [run.regions[region + i] for i in range(len(kernel.points))]))
        region += len(kernel.points)
    return fits


def conditions(tools: Tools) -> str:
    """Return compiler, flags and emulator in words."""
    versions = tools.versions()
    compiler = f"g++ {versions['cross_cxx'].rsplit(' ', 1)[1]}"
    return f"{compiler} {' '.join(FLAGS)}, QEMU {versions['qemu'].split()[2]} -cpu {CPU}"


def toml(fits: Sequence[Fit], how: str) -> str:
    """Return the constants file."""
    lines = [
        "# Instructions of the digital kernels on one AArch64 core, by class, per unit of work and per call.",
        "# Written by benchmarks/cpu_model/count_kernels.py; do not edit. A class or unit that is not listed is not needed for the",
        f"# kernel, or makes up less than {100 * NEGLIGIBLE:g} % of its instructions. Read [kernel] class_per_unit.",
    ]
    source = f"counted with {how}: python benchmarks/cpu_model/count_kernels.py"
    for f in fits:
        calls = f"{len(f.errors)} sizes, fit off by at most {100 * f.worst:.1f} %, {100 * f.mean:.1f} % on average"
        lines += ["", f"# {f.kernel.about}.", f"# {calls}.", f"[{f.kernel.name}]"]
        for name, units in f.per_unit.items():
            for unit, value in units.items():
                words = f"instruction per {f.kernel.units.get(unit, unit)}"
                lines.append(
                    f'{name}_per_{unit} = {{ value = {value!r}, unit = "{words}", source = "{source}", kind = "measured" }}'
                )
    return "\n".join(lines) + "\n"


COLUMNS = {
    "integer": ("scalar_int",), "multiply": ("int_mul",), "branch": ("branch",), "load": ("scalar_load",),
    "store": ("scalar_store",), "vector load": ("vector_load",), "vector store": ("vector_store",), "SIMD": ("simd",),
    "tile": ("tile_process", "tile_queue", "tile_dequeue", "tile_param"), "other": ("other",),
}  # fmt: skip


def show(number: float) -> str:
    """Return a number with three significant digits, or nothing for zero."""
    return "" if number == 0 else f"{number:.3g}" if number < 1000 else f"{number:.0f}"


def fit_rows(f: Fit) -> list[str]:
    """Return the table rows of one kernel."""
    rows = []
    for unit in [*f.kernel.units, "call"]:
        classes = [sum(f.per_unit.get(name, {}).get(unit, 0.0) for name in names) for names in COLUMNS.values()]
        cells = [f"`{f.kernel.name}`", unit, f"**{show(sum(classes)) or 0}**", *map(show, classes)]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def comparisons(fits: Sequence[Fit]) -> list[str]:
    """Return sentences that compare the kernels with the plain baselines."""
    by_name = {f.kernel.name: f for f in fits}

    def ratio(ours: float, plain: float) -> str:
        return f"{ours:.3g} against {plain:.3g}"

    matrix, plain = by_name["gemv_s8"].instructions("mac"), by_name["naive_gemv_s8"].instructions("mac")
    gather, loops = by_name["im2col_s8"], by_name["naive_im2col_s8"]
    pixel = gather.instructions("element") + (3 * gather.instructions("line") + gather.instructions("patch")) / 144
    lines = [
        f"- int8 matrix times vector, instructions per MAC: {ratio(matrix, plain)} for a plain loop that the compiler "
        f"vectorises; with four rows or more {by_name['gemm_s8'].instructions('mac'):.3g}.",
        f"- Gathering patches of 3 x 3 x 16, away from the border, instructions per element: "
        f"{ratio(pixel, loops.instructions('element') + loops.instructions('patch') / 144)} for nested loops.",
    ]
    for name, verb in (("queue", "Queueing"), ("dequeue", "Dequeueing")):
        rates = ratio(by_name[name].instructions("element"), by_name[f"naive_{name}"].instructions("element"))
        lines.append(
            f"- {verb} int8, instructions per element, the tile's opcode included: {rates} for packing one by one."
        )
    return lines


def page(fits: Sequence[Fit], how: str, runs: Sequence[RunCounts]) -> str:
    """Return docs/results/instruction_counts.md."""
    first, second = (run.total.instructions for run in runs)
    header = ["kernel", "per", "all", *COLUMNS]
    lines = [
        "# Instructions of the digital kernels on AArch64",
        "",
        "Written by `python benchmarks/cpu_model/count_kernels.py --page`: the kernels of exported programs (`lionheart_kernels.h`,",
        "`aimc.hh`) and plain baselines, called at several sizes and counted by a plugin of QEMU's user mode. Built and run with",
        f"{how}.",
        "These are executed instructions, not cycles. The same numbers, with more digits, are in",
        "`benchmarks/cpu_model/laboratory/kernels_aarch64.toml`.",
        "",
        "QEMU does not know the opcodes of ALPINE's tiles. In the dry build of `aimc.hh` a hint instruction without effect replaces each",
        "opcode, with the same operands, and is counted as the opcode; all other code is the code that runs with a tile.",
        "",
        *comparisons(fits),
        "",
        "## Instructions per unit of work",
        "",
        f"| {' | '.join(header)} |",
        f"|{'---|' * len(header)}",
        *(row for f in fits for row in fit_rows(f)),
        "",
        *fit_quality(fits),
        "",
        "## Repeatability",
        "",
        f"The whole process, including start-up and C library, was run twice, the second time from another folder: {first} and",
        f"{second} instructions, {100 * abs(first - second) / first:.4f} % apart. Regions differ by "
        f"{max(abs(runs[0].regions[i].instructions - runs[1].regions[i].instructions) for i in runs[0].regions if i)} "
        "instructions at most.",
    ]
    return "\n".join(lines) + "\n"


def fit_quality(fits: Sequence[Fit]) -> list[str]:
    """Return the table of units and errors."""
    lines = [
        "## Kernels, and errors of the fits",
        "",
        "Error: instructions by the table divided by counted instructions, minus one, in absolute value, over all sizes of a kernel.",
        "Left out: the error at each size of a fit to the other sizes only.",
        "",
        "| kernel | what | units | sizes | mean error | largest | mean, left out | largest, left out |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for f in fits:
        units = "; ".join(f"{unit}: {words}" for unit, words in f.kernel.units.items() if unit != words)
        sides = [value for errors in (f.errors, f.left_out) for value in (np.abs(errors).mean(), np.abs(errors).max())]
        errors = " | ".join(f"{100 * value:.1f} %" for value in sides)
        lines.append(f"| `{f.kernel.name}` | {f.kernel.about} | {units} | {len(f.errors)} | {errors} |")
    return lines


def main() -> None:
    """Count the instructions, fit them, and write the files."""
    tools, cases = find_tools(), list(kernels())
    runs = count(tools, cases)
    fits = fit_all(cases, runs[0])
    how = conditions(tools)
    DATA.write_text(toml(fits, how), encoding="utf-8")
    if "--page" in sys.argv[1:]:
        PAGE.write_text(page(fits, how, runs), encoding="utf-8")
    for f in fits:
        rates = ", ".join(f"{show(f.instructions(unit)) or 0}/{unit}" for unit in [*f.kernel.units, "call"])
        print(f"{f.kernel.name}: {rates}; worst {100 * f.worst:.1f} %, mean {100 * f.mean:.1f} %")
    first, second = (run.total.instructions for run in runs)
    print(f"two runs: {first} and {second} instructions, {100 * abs(first - second) / first:.4f} % apart")


if __name__ == "__main__":
    main()

"""Write the platforms with LionHeart's software: counted kernels on ALPINE's core, in int8 and fp32.

Instructions of each kernel (laboratory/kernels_aarch64.toml, counted by count_kernels.py) are converted to cycles with the
interval model of the core (laboratory/core.py); memory waits are those of the platform. Writes
system/platforms/alpine-neon.toml and alpine-fp32.toml.

Run: python benchmarks/cpu_model/derive_software.py
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from laboratory.core import CacheMisses, CoreSpec, InstructionMix, load_core, time_kernel
from laboratory.kernels import load_counted

COUNTED = Path(__file__).parent / "laboratory" / "kernels_aarch64.toml"
PLATFORMS = Path(__file__).parents[2] / "src" / "lionheart" / "system" / "platforms"
CORE = "minor_high_power"
# inner loop of gemm_s8: of three SIMD instructions two multiply (SMULL, SMLAL2) and one adds pairs (SADALP)
MULTIPLY_SHARE = {"gemm_s8": 2 / 3, "gemv_s8": 2 / 3}
ROWS = 4  # rows of the input that gemm_s8 and gemm_f32 multiply in one pass over the weights
PATCH = (3, 48)  # lines, and elements per line, of the representative patch: 3 x 3 of 16 channels
WRITTEN = {
    "s8": {"relu": "relu_s8", "hardtanh": "relu_s8", "add": "add_s8"},
    "f32": {"relu": "relu_f32", "hardtanh": "relu_f32", "add": "add_f32"},
}
FLOATING = {"sigmoid": "sigmoid_f32", "tanh": "tanh_f32", "softmax": "softmax_f32"}
READ = {"max_pool": "max_pool_s8", "avg_pool": "average_pool_s8"}

Entry = tuple[float, str, str, str]  # value, unit, source, kind


class Cycles:
    """Cycles of counted kernels on a core with operands in the L1 cache."""

    def __init__(self, core: CoreSpec) -> None:
        self.core = core
        self.kernels = load_counted(COUNTED, multiply_share=MULTIPLY_SHARE)

    def __call__(self, kernel: str, unit: str) -> float:
        return self.of(self.kernels[kernel][unit])

    def of(self, mix: InstructionMix) -> float:
        return time_kernel(mix, CacheMisses(), self.core).cycles

    def patch(self, kernel: str) -> float:
        """Return the cycles per element of a patch, including the overhead of its lines and of the patch."""
        lines, length = PATCH
        units, n = self.kernels[kernel], lines * length
        return self.of(units["element"] + units["line"] * (lines / n) + units["patch"] * (1 / n))


def _source(what: str) -> str:
    return f"{what} of kernels_aarch64.toml on {CORE} of cores.toml: python benchmarks/cpu_model/derive_software.py"


def derive(cycles: Cycles, precision: str) -> dict[str, Entry]:
    """Return the constants of one precision; inputs and outputs of tiles are always int8."""
    tag, is_float = precision, precision == "f32"

    def price(value: float, unit: str, what: str) -> Entry:
        return value, unit, _source(what), "derived"

    none = "nothing to do: "
    entries = {
        "activation_bytes": (4 if is_float else 1, "B", f"{'fp32' if is_float else 'int8'} activations and weights", "assumed"),
        "macs_per_cycle": price(1 / cycles(f"gemv_{tag}", "mac"), "MAC/cycle", f"gemv_{tag}, mac"),
        "conv_macs_per_cycle": price(1 / cycles(f"gemm_{tag}", "mac"), "MAC/cycle", f"gemm_{tag}, mac"),
        "depthwise_macs_per_cycle": price(1 / cycles("depthwise_s8", "mac"), "MAC/cycle", "depthwise_s8, mac" + (", for want of one in fp32" if is_float else "")),
        "mvms_per_weight_pass": (ROWS, "1", f"gemm_{tag} multiplies {ROWS} rows of its input in one pass over the weights", "measured"),
        "gather_cycles_per_element": price(cycles.patch(f"im2col_{tag}"), "cycle per patch element", f"im2col_{tag}, 3 x 3 of 16 channels"),
        "bias_cycles_per_output": (0.0, "cycle per output", none + "added with the requantisation", "assumed"),
        "pack_cycles_per_element": price(cycles("queue", "element"), "cycle per int8 element packed for CM_QUEUE", "queue, element, without the opcode"),
        "io_cycles_per_element": price(cycles("quantise_s8", "element"), "cycle per element of the network's input and output", "quantise_s8, element"),
    }  # fmt: skip
    output = cycles(f"gemm_{tag}", "output") + (0.0 if is_float else cycles("requantise", "output"))
    entries["requantise_cycles_per_output"] = price(
        output, "cycle per output", f"gemm_{tag}, output{'' if is_float else ', and requantise, output'}"
    )
    unpack = cycles("dequeue", "element") + cycles("accumulate_s8", "element")
    entries["unpack_cycles_per_element"] = price(
        unpack,
        "cycle per int8 element unpacked after CM_DEQUEUE",
        "dequeue and accumulate_s8, element, without the opcode",
    )
    entries["partial_sum_cycles_per_element"] = (
        0.0,
        "cycle per partial sum added",
        none + "each output of a tile is accumulated when it is unpacked",
        "assumed",
    )
    given = "cycle per input element of an analog projection", "cycle per output element of an analog projection"
    if is_float:
        entries["convert_input_cycles"] = price(cycles("quantise_s8", "element"), given[0], "quantise_s8, element")
        entries["convert_output_cycles"] = price(cycles("dequantise_s8", "element"), given[1], "dequantise_s8, element")
    else:
        entries["convert_input_cycles"] = (0.0, given[0], none + "the network is int8", "assumed")
        entries["convert_output_cycles"] = price(cycles("requantise", "output"), given[1], "requantise, output")
    return entries | _derive_ops(cycles, precision)


def _derive_ops(cycles: Cycles, precision: str) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    around = 0.0 if precision == "f32" else cycles("dequantise_s8", "element") + cycles("quantise_s8", "element")
    for table, kernels, unit, more in (
        ("cycles_per_written", WRITTEN[precision], "cycle per element written", 0.0),
        ("cycles_per_written", FLOATING, "cycle per element written", around),
        ("cycles_per_read", {} if precision == "f32" else READ, "cycle per element read", 0.0),
    ):
        for op, kernel in kernels.items():
            what = f"{kernel}, element" + (", and dequantise_s8 and quantise_s8 around it" if more else "")
            entries[f"{table}.{op}"] = (cycles(kernel, "element") + more, unit, _source(what), "derived")
    return entries


def render(title: str, description: str, entries: Mapping[str, Entry]) -> str:
    """Return a platform file."""
    lines = [f"# {title}", "# Written by benchmarks/cpu_model/derive_software.py; do not edit.", ""]
    lines += [f'description = "{description}"', 'extends = "alpine-high-power"']
    for name, (value, unit, source, kind) in entries.items():
        shown = repr(value) if isinstance(value, int) else f"{value:.4g}" if "." in f"{value:.4g}" else f"{value:.4g}.0"
        lines += ["", f"[{name}]", f"value = {shown}", f'unit = "{unit}"', f'source = "{source}"', f'kind = "{kind}"']
    return "\n".join(lines) + "\n"


def build() -> dict[str, str]:
    """Return file name -> text of both platforms."""
    cycles = Cycles(load_core(CORE))
    core = "ALPINE, high power, with lionheart's own kernels"
    return {
        "alpine-neon.toml": render(
            "ALPINE's high-power system with the kernels of exported programs, int8.",
            f"{core}, int8",
            derive(cycles, "s8"),
        ),
        "alpine-fp32.toml": render(
            "ALPINE's high-power system with our kernels in fp32; tiles take and give int8.",
            f"{core}, fp32",
            derive(cycles, "f32"),
        ),
    }


def main() -> None:
    """Write both files."""
    for name, text in build().items():
        (PLATFORMS / name).write_text(text, encoding="utf-8")
        print(f"wrote {name}")


if __name__ == "__main__":
    main()

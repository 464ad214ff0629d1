"""Instruction counts under QEMU: classes, regions, caches, repeatability, errors, and the table made from them."""

import os
import shutil
import subprocess
from collections import OrderedDict
from pathlib import Path

import pytest
from benchmark_scripts import load_benchmark
from paths import ROOT

from lionheart.constants import parse_constants
from lionheart.errors import ArtifactError, ConfigError
from lionheart.files import CACHE_VARIABLE
from lionheart.interop.alpine.qemu import (
    CLASSES,
    CPU,
    CacheSpec,
    Counts,
    Tools,
    build_counter,
    compile_program,
    count_instructions,
    find_tools,
    missing_packages,
)

NATIVE = ROOT / "src/lionheart/interop/alpine/native"


@pytest.fixture(scope="module")
def tools() -> Tools:
    if missing_packages():
        pytest.skip(f"not installed: {', '.join(missing_packages())}")
    return find_tools()


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(tmp_path_factory.mktemp("cache")))
        yield


def assemble(tools: Tools, folder: Path, body: str) -> Path:
    """Return a program without a C library: `body`, then exit(0). x1 points to 64 kB of memory aligned to 64 kB."""
    source = folder / "program.S"
    source.write_text(
        "#define REGION(id) .inst 0xd280001f | (id) << 5\n"
        ".global _start\n_start:\n adrp x1, memory\n add x1, x1, :lo12:memory\n"
        f"{body}\n REGION(0)\n mov x0, #0\n mov x8, #93\n svc #0\n"
        " .bss\n .balign 65536\nmemory: .skip 131072\n"
    )
    return compile_program(tools, [source], folder / "program", flags=("-nostdlib",))


def compile_text(tools: Tools, folder: Path, text: str, name: str = "program") -> Path:
    source = folder / f"{name}.cc"
    source.write_text('#include "lionheart_kernels.h"\n' + text)
    return compile_program(tools, [source], folder / name, flags=("-O2", "-std=c++17"), include=[NATIVE])


# ------------------------------------------------------------------------------------------------------------- classes

CODE = {
    "scalar_int": """add x2, x3, x4; movz x2, #5; orr x2, x2, #1; adr x2, .; lsl x2, x2, #3; csel x2, x3, x4, eq
        adds x2, x2, x3, lsl #2; clz x2, x3; lslv x2, x3, x4; sxtb x2, w3; extr x2, x3, x4, #7; cmp x2, #3
        movz xzr, #0, lsl #16; adc w2, w3, w4""",
    "int_mul": "mul x2, x3, x4; madd w2, w3, w4, w2; smull x2, w3, w4; umulh x2, x3, x4; udiv x2, x3, x1; sdiv w2, w3, w1",
    "branch": """b 1f; 1: cbz xzr, 1f; 1: cbnz xzr, 1f; 1: tbz x1, #63, 1f; 1: b.ne 1f; 1: bl 1f; 1: bl 2f; b 1f; 2: ret
        1: ldr x5, =call; blr x5; b 1f; call: br x30; 1:""",
    "scalar_load": """ldr x2, [x1]; ldrb w2, [x1, #1]; ldrsw x2, [x1, #4]; ldrsb x2, [x1]; ldp x2, x3, [x1]; ldpsw x2, x3, [x1]
        ldur w2, [x1, #3]; ldr x2, [x1, xzr, lsl #3]; ldxr x2, [x1]; ldar w2, [x1]; ldr x2, 3f; ldrsw x2, 3f
        ldr w2, [x1], #0""",
    "scalar_store": """str x2, [x1]; strb w2, [x1, #1]; stp x2, x3, [x1, #16]; stlr w2, [x1]; stxr w5, x2, [x1]
        stur w2, [x1, #3]; strh w2, [x1, xzr]""",
    "vector_load": """ldr q0, [x1]; ldr s0, [x1, #4]; ldr b0, [x1]; ldp q0, q1, [x1]; ld1 {v0.16b-v3.16b}, [x1]
        ld1r {v0.8h}, [x1]; ldr d0, 3f; ldur q0, [x1, #5]; ld2 {v0.4s, v1.4s}, [x1]; ld1 {v0.b}[3], [x1]; ldr h0, [x1, xzr]""",
    "vector_store": """str q0, [x1]; str b0, [x1, #3]; stp d0, d1, [x1]; st1 {v0.16b}, [x1]; stur s0, [x1, #5]
        st3 {v0.8b-v2.8b}, [x1]; st1 {v0.h}[1], [x1]""",
    "simd": """add v0.4s, v1.4s, v2.4s; smlal v0.8h, v1.8b, v2.8b; fmul s0, s1, s2; fmla v0.4s, v1.4s, v2.s[1]; fmov x2, d0
        dup v0.16b, w2; scvtf s0, w2; sqxtn v0.4h, v1.4s; addv s0, v1.4s; fcmp s0, s1; movi v0.2d, #0; fmadd d0, d1, d2, d3""",
    "other": """nop; dmb ish; prfm pldl1keep, [x1]; isb; mrs x2, tpidr_el0; yield; prfm pldl1keep, 3f
        prfum pldl1keep, [x1, #3]""",
    "tile_process": "hint #96",
    "tile_queue": "hint #104; hint #104",
    "tile_dequeue": "hint #112; hint #112; hint #112",
    "tile_param": "hint #120",
}
AMONG = {"branch": {"scalar_load": 1}}  # what a block needs besides its own class


def test_each_class_is_counted(tools: Tools, tmp_path: Path):
    assert set(CODE) == set(CLASSES)
    blocks = [f"REGION({i})\n{code.replace(';', chr(10))}" for i, code in enumerate(CODE.values(), start=1)]
    end = " REGION(0)\n b 9f\n .balign 8\n3: .quad 0\n .ltorg\n9:"
    regions = count_instructions(tools, assemble(tools, tmp_path, "\n".join([*blocks, end]))).regions
    for i, (name, code) in enumerate(CODE.items(), start=1):
        among = AMONG.get(name, {})
        n = sum(not part.strip().endswith(":") for part in code.replace("\n", ";").split(";"))
        expected = {kind: 0 for kind in CLASSES} | among | {name: n - sum(among.values())}
        assert {kind: getattr(regions[i], kind) for kind in CLASSES} == expected, name
        assert regions[i].instructions == n


TILES = """
#include "aimc.hh"
int main() {
    int8_t x[10] = {1, 2, 3}, y[5];
    aimcParamWrite(0, 0, 1);
    LH_REGION(1);
    queueVector(10, x);
    aimcProcess();
    dequeueVector(5, y);
    LH_REGION(2);
    return aimcParamRead(0, 0) == 77;
}
"""


@pytest.mark.parametrize("mode", ["LH_AIMC_DRY", "LH_AIMC_TRAP"])
def test_opcodes_of_tiles_are_counted(tools: Tools, tmp_path: Path, mode: str):
    program = compile_text(tools, tmp_path, f"#define {mode}\n{TILES}")
    regions = count_instructions(tools, program).regions
    outside, transfer, last = regions[0], regions[1], regions[2]
    assert (transfer.tile_queue, transfer.tile_process, transfer.tile_dequeue, transfer.tile_param) == (3, 1, 2, 0)
    assert (outside.tile_param, last.tile_param) == (1, 1)
    if mode == "LH_AIMC_TRAP":  # the handler's instructions are counted too
        assert transfer.instructions > 500
    else:
        assert transfer.instructions < 100


def test_opcodes_of_tiles_end_a_program_without_a_tile(tools: Tools, tmp_path: Path):
    program = compile_text(tools, tmp_path, f"#define LH_AIMC_TILE_SELECT\n{TILES}")
    with pytest.raises(ArtifactError, match="was killed by SIGILL under QEMU"):
        count_instructions(tools, program)


# ------------------------------------------------------------------------------------------------------------- regions


def test_regions_follow_the_marks(tools: Tools, tmp_path: Path):
    body = """
 REGION(7)
 REGION(65535)
 mov x5, #5
1: add x2, x2, #1
 REGION(9)
 mul x3, x2, x2
 REGION(7)
 subs x5, x5, #1
 b.ne 1b"""
    run = count_instructions(tools, assemble(tools, tmp_path, body))
    assert run.regions[65535] == Counts(entries=1, scalar_int=2)
    assert run.regions[9] == Counts(entries=5, int_mul=5)
    assert run.regions[7] == Counts(
        entries=6, scalar_int=5 + 4, branch=5
    )  # the loop's add is in 7 from its second round on
    assert run.regions[0] == Counts(entries=1, scalar_int=4, other=1)
    assert run.total.instructions == 26
    assert run.total.entries == 13


# -------------------------------------------------------------------------------------------------------------- caches


class Lru:
    """An independent model: one ordered dictionary a set."""

    def __init__(self, n_bytes: int, ways: int, line_bytes: int):
        self.ways = ways
        self.sets = [OrderedDict() for _ in range(n_bytes // ways // line_bytes)]

    def misses(self, line: int) -> bool:
        lines = self.sets[line % len(self.sets)]
        missed = line not in lines
        lines[line] = True
        lines.move_to_end(line)
        if len(lines) > self.ways:
            lines.popitem(last=False)
        return missed


def simulate(caches: CacheSpec, n_loads: int) -> tuple[int, int, int]:
    first = Lru(caches.l1_bytes, caches.l1_ways, caches.line_bytes)
    second = Lru(caches.l2_bytes, caches.l2_ways, caches.line_bytes)
    state, l1_misses, l2_misses = 12345, 0, 0
    for _ in range(n_loads):
        state = (state * 1103515245 + 12345) % 2**64
        for start, size in (((state >> 20) % 65536, 8), ((state >> 20) % 65536 >> 6, 1)):
            for line in range(start // caches.line_bytes, (start + size - 1) // caches.line_bytes + 1):
                if first.misses(line):
                    l1_misses += 1
                    l2_misses += second.misses(line)
    return 2 * n_loads, l1_misses, l2_misses


@pytest.mark.parametrize(
    "caches",
    [
        CacheSpec(),
        CacheSpec(l1_bytes=1024, l1_ways=2, l2_bytes=8192, l2_ways=4, line_bytes=32),
        CacheSpec(l1_bytes=12288, l1_ways=3, l2_bytes=32768, l2_ways=1),
    ],
    ids=["default", "small", "three-ways"],
)
def test_caches_equal_an_independent_model(tools: Tools, tmp_path: Path, caches: CacheSpec):
    # words of 8 bytes at any byte, so that some cross a line, and bytes in a smaller range, so that some hit
    body = """
 mov x2, #12345
 mov x6, #12345
 ldr w7, =1103515245
 mov x5, #4000
 REGION(1)
1: madd x2, x2, x7, x6
 ubfx x3, x2, #20, #16
 ldr x4, [x1, x3]
 lsr x3, x3, #6
 strb w4, [x1, x3]
 subs x5, x5, #1
 b.ne 1b"""
    counts = count_instructions(tools, assemble(tools, tmp_path, body), caches=caches).regions[1]
    assert (counts.accesses, counts.l1_misses, counts.l2_misses) == simulate(caches, 4000)
    assert 0 < counts.l2_misses < counts.l1_misses < counts.accesses


@pytest.mark.parametrize("setting", [{"line_bytes": 48}, {"l1_bytes": 1000}, {"l2_ways": 0}, {"l1_bytes": 0}])
def test_impossible_caches_are_refused(setting: dict[str, int]):
    with pytest.raises(ConfigError, match="expected lines of 2\\^n bytes"):
        CacheSpec(**setting)


# ---------------------------------------------------------------------------------------------------------- whole runs

TEXT = """
#include <cstdio>
#include <map>
#include <string>
int main(int n, char **args) {
    std::map<std::string, int> counts;
    for (int i = 0; i < 20000; ++i) ++counts[std::to_string(i * 7919 % 1000)];
    LH_REGION(3);
    volatile int sum = 0;
    for (int i = 0; i < 1000; ++i) sum = sum + i;
    LH_REGION(0);
    std::printf("%zu %d %s\\n", counts.size(), sum, args[n - 1]);
}
"""


def test_counts_repeat_within_one_percent(tools: Tools, tmp_path: Path):
    program = compile_text(tools, tmp_path, TEXT)
    moved = tmp_path / "a folder, with a longer name" / "program"
    moved.parent.mkdir()
    shutil.copy(program, moved)
    runs = [count_instructions(tools, path, ["last"]) for path in (program, program, moved)]
    assert [run.stdout for run in runs] == ["1000 499500 last\n"] * 3
    assert runs[0].total.instructions > 1_000_000
    for run in runs[1:]:
        assert abs(run.total.instructions / runs[0].total.instructions - 1) < 0.01
        assert run.regions[3].instructions == runs[0].regions[3].instructions


def test_total_equals_the_emulators_own_trace(tools: Tools, tmp_path: Path):
    program = compile_text(tools, tmp_path, "int main() { LH_REGION(1); LH_REGION(2); return 0; }")
    trace = tmp_path / "trace"
    command = [tools.qemu, "-cpu", CPU, "-seed", "1", "-singlestep", "-d", "exec,nochain", "-D", trace, program]
    subprocess.run(command, check=True, env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"})  # start-up reads them
    total = count_instructions(tools, program).total
    assert (
        sum(line.startswith("Trace") for line in trace.read_text().splitlines()) == total.instructions + total.entries
    )


def test_plugin_is_built_once(tools: Tools):
    first = build_counter(tools)
    assert first == build_counter(tools)
    assert first.is_relative_to(os.environ[CACHE_VARIABLE])
    assert [path.name for path in first.parent.iterdir()] == [first.name]


# -------------------------------------------------------------------------------------------------------------- errors


def test_missing_tools_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert missing_packages() == ("qemu-user", "gcc-aarch64-linux-gnu", "g++-aarch64-linux-gnu", "gcc")
    with pytest.raises(ConfigError, match="qemu-aarch64, aarch64-linux-gnu-gcc") as caught:
        find_tools()
    assert caught.value.hint.endswith("apt-get install qemu-user gcc-aarch64-linux-gnu g++-aarch64-linux-gnu gcc")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("*(volatile int *)(size_t)n = 0;", "was killed by SIGSEGV under QEMU"),
        ("return 3;", "ended with exit status 3 under QEMU"),
        ("for (volatile int i = n;;) i = i;", "program did not end within 1 s"),
        ("std::thread([] {}).join();", "the program ran 2 threads, expected one"),
    ],
)
def test_programs_that_fail(tools: Tools, tmp_path: Path, body: str, message: str):
    program = compile_text(tools, tmp_path, f"#include <thread>\nint main(int n, char **) {{ {body} }}")
    with pytest.raises(ArtifactError, match=message):
        count_instructions(tools, program, timeout_s=1)


def test_tools_that_cannot_be_run(tmp_path: Path):
    broken = str(tmp_path / "nothing")
    with pytest.raises(ArtifactError, match="nothing: cannot be run: No such file or directory"):
        build_counter(Tools(broken, broken, broken, broken))


def test_code_that_does_not_compile(tools: Tools, tmp_path: Path):
    with pytest.raises(ArtifactError, match="bad.cc: does not compile: .*error: .*nothing"):
        compile_text(tools, tmp_path, "int main() { return nothing; }", "bad")


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("", "not readable as JSON"),
        ("[]", "expected a JSON object"),
        ('{"version": 2, "regions": {}}', "expected 'regions' and 'version': 1"),
        ('{"version": 1, "threads": 1, "regions": {"0": {"entries": 0}}}', "region 0: .* expected an integer count"),
        (None, "the plugin wrote no counts"),
    ],
)
def test_counts_that_cannot_be_read(tools: Tools, tmp_path: Path, written: str | None, message: str):
    fake = tmp_path / "qemu"
    (tmp_path / "written").write_text(written or "")
    copy = f'out="${{6#*,out=}}"; cp {tmp_path}/written "${{out%%,*}}"' if written is not None else "true"
    fake.write_text(f"#!/bin/sh\n{copy}\n")
    fake.chmod(0o755)
    fakes = Tools(str(fake), tools.cross_cc, tools.cross_cxx, tools.host_cc)
    with pytest.raises(ArtifactError, match=message):
        count_instructions(fakes, tmp_path / "program")


# --------------------------------------------------------------------------------------------------------------- table


def test_table_of_kernels_is_up_to_date(tools: Tools):
    count_kernels = load_benchmark("cpu_model/count_kernels")
    conditions = count_kernels.conditions(tools)
    shipped = parse_constants(count_kernels.DATA.read_text(encoding="utf-8"), count_kernels.DATA.name)
    if conditions not in next(iter(shipped.values())).source:
        pytest.skip(f"the table was counted with other tools than {conditions}")
    cases = list(count_kernels.kernels())
    first, second = count_kernels.count(tools, cases)
    fits = count_kernels.fit_all(cases, first)
    assert count_kernels.toml(fits, conditions) == count_kernels.DATA.read_text(), (
        "run: python benchmarks/cpu_model/count_kernels.py"
    )
    assert abs(first.total.instructions / second.total.instructions - 1) < 0.01
    assert max(fit.worst for fit in fits) < 0.1

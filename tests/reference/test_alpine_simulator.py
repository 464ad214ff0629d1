"""Emitted programs against ALPINE's own reading of its instruction words, and against the signatures of released AIMClib.

Emitted programs once had the data of queue instructions and the operands of parameter instructions in registers that the
decoder of the simulator does not read, and every program crashed there. LionHeart's own emulation had the same error, so
nothing here uses it: `alpine_simulator.cc` decodes the words on its own.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from paths import ROOT, SUPPORT
from torch import nn

from lionheart.files import read_json
from lionheart.interop.alpine.export import export_model
from lionheart.interop.alpine.qemu import Tools, compile_program, find_tools, missing_packages
from lionheart.mapping import LayerMapping, Placement

NATIVE = ROOT / "src/lionheart/interop/alpine/native"
HEADER = (NATIVE / "aimc.hh").read_text()
FLAGS = ("-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-DLH_AIMC_TILE_SELECT")


@pytest.fixture(scope="module")
def tools() -> Tools:
    if missing_packages():
        pytest.skip(f"not installed: {', '.join(missing_packages())}")
    return find_tools()


def simulate(tools: Tools, program: Path, *arguments: str | Path, **environment: str) -> str:
    command = [tools.qemu, program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


CALLS = """
#define LH_AIMC_TILES 4
#include "aimc.hh"
int main() {
    aimcParamWrite(3, 5, -7, 2);
    std::printf("%d\\n", (int)aimcParamRead(3, 5, 2));
    aimcQueue(0x04030201, 1);
    aimcProcess(3);
    std::printf("%llu\\n", (unsigned long long)aimcDequeue(3));
}
"""


def test_operands_are_where_the_decoder_reads_them(tools: Tools, tmp_path: Path):
    (tmp_path / "calls.cc").write_text(CALLS)
    sources = [tmp_path / "calls.cc", SUPPORT / "alpine_simulator.cc"]
    program = compile_program(tools, sources, tmp_path / "calls", flags=FLAGS, include=[NATIVE])
    lines = simulate(tools, program, SIMULATED_TRACE="1").splitlines()
    # operands ra, rn, rm: a weight is (y, x, value), a queue instruction has its data in rn
    assert lines[0] == "41081d2a tile 2: 5 3 -7"
    assert lines[1].startswith("41009d2a tile 2: 5 3 ")
    assert lines[2] == "-7"
    assert re.match(rf"21008100 tile 1: \S+ {0x04030201} ", lines[3])
    assert lines[4].startswith("01000000 tile 3: ")
    assert lines[5].startswith("2100000a tile 3: ")
    assert lines[6] == "0"


def test_hints_of_the_dry_build_have_no_effect_in_the_simulator():
    """Hints 114 and 115 were WFE and WFI there, and the program slept for ever: it decodes the lowest three bits only."""
    dry = HEADER[HEADER.index("#if defined(LH_AIMC_DRY)\n#define") : HEADER.index('#define LH_CM_PROCESS "0x01000000"')]
    words = [int(word, 16) for word in re.findall(r'"(0x[0-9a-f]{8})"', dry)]
    assert len(words) == 5
    for word in words:
        assert word & 0xFFFFF01F == 0xD503201F
        assert (word >> 5 & 0x7F) % 8 == 0


class Small(nn.Module):
    """A strided convolution and a linear layer on several tiles, and one digital layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 7, 3, stride=2, padding=1)
        self.pointwise = nn.Conv2d(7, 6, 1)
        self.head = nn.Linear(6 * 4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.pointwise(torch.relu(self.conv(x))))
        return self.head(torch.flatten(torch.max_pool2d(x, 2), 1))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "program"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        model, samples = Small().eval(), torch.randn(6, 3, 8, 8)
    mapping = LayerMapping(dict.fromkeys(("conv", "head"), Placement.ANALOG))
    export_model(model, samples, folder, mapping=mapping, tile_rows=11, tile_cols=4)
    return folder


def test_program_gives_the_reference_on_tiles_of_the_simulator(tools: Tools, exported: Path, tmp_path: Path):
    manifest = read_json(exported / "manifest.json")
    scales: dict[int, float] = {}
    for layer in manifest["layers"]:
        scales |= dict.fromkeys(layer.get("tiles", []), layer.get("adc_scale"))
    assert len(scales) == 12
    sources = [exported / "main.cc", SUPPORT / "alpine_simulator.cc"]
    program = compile_program(tools, sources, tmp_path / "program", flags=FLAGS, include=[exported])
    listed = " ".join(repr(scales[tid]) for tid in sorted(scales))
    outputs = tmp_path / "outputs.bin"
    environment = {"SIMULATED_TILE": "11 4", "SIMULATED_SCALES": listed}
    assert "samples 6" in simulate(tools, program, exported / "inputs.bin", outputs, **environment)
    expected = np.frombuffer((exported / "expected.bin").read_bytes(), np.int8)
    assert len(np.unique(expected)) > 10
    np.testing.assert_array_equal(np.frombuffer(outputs.read_bytes(), np.int8), expected)


@pytest.mark.parametrize("compiler", ["g++", "aarch64-linux-gnu-g++"])
def test_program_compiles_with_the_headers_of_aimclib(tools: Tools, exported: Path, tmp_path: Path, compiler: str):
    """`main.cc` called functions of LionHeart's header that AIMClib lacks, with const pointers that it does not take."""
    assert tools
    flags = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-DLH_AIMCLIB", f"-I{SUPPORT / 'aimclib'}", f"-I{exported}"]
    command = [compiler, *flags, str(exported / "main.cc"), "-o", str(tmp_path / "program")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "AIMClib has one tile per core" in done.stderr  # said, and not an error: the time of such a program is right


def test_makefile_takes_the_folder_of_aimclib(tools: Tools, exported: Path):
    assert tools
    for target in (["alpine", f"AIMCLIB={SUPPORT / 'aimclib'}"], ["clean"]):
        made = subprocess.run([str(shutil.which("make")), "-s", "-C", str(exported), *target], check=False)
        assert made.returncode == 0

"""Builds and runs an emitted program on this machine or for AArch64 under QEMU, and counts its instructions."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, final

import numpy as np
from numpy.typing import NDArray

from lionheart.errors import ArtifactError, ConfigError
from lionheart.files import read_json
from lionheart.interop.alpine.manifest import Manifest
from lionheart.interop.alpine.qemu import CacheSpec, Counts, compile_program, count_instructions, find_tools
from lionheart.record import read_record

Target = Literal["host", "aarch64"]
_FLAGS: Final = ("-std=c++17", "-O3", "-ffp-contract=off")
_TIMEOUT_S: Final = 600.0


@final
@dataclass(frozen=True)
class ProgramRun:
    """Outputs of a program.

    Args:
        outputs: Outputs ``(n, height, width, channels)`` int8.
        expected: Outputs of the quantised reference for the same samples.
        tile_instructions: Numbers of queue, process, dequeue and weight-write instructions.
    """

    outputs: NDArray[np.int8]
    expected: NDArray[np.int8]
    tile_instructions: dict[str, int]

    @property
    def matches(self) -> bool:
        """Whether all outputs equal the expected outputs."""
        return bool(np.array_equal(self.outputs, self.expected))


@final
@dataclass(frozen=True)
class RegionCounts:
    """Executed instructions of a program in one region.

    Args:
        layer: Number of the layer; 0 is the network itself.
        name: Name of the layer's function.
        kind: Kind of work, as in the manifest.
        counts: Counts summed over the samples.
    """

    layer: int
    name: str
    kind: str
    counts: Counts


def run_program(folder: Path | str, target: Target = "host") -> ProgramRun:
    """Build a program, run it on the stored inputs, and return its outputs and the expected outputs.

    Args:
        folder: Folder written by `emit_program`.
        target: ``host`` for tiles emulated in C++; ``aarch64`` for ALPINE's instructions under QEMU, which trap and are
            emulated.

    Raises:
        ConfigError: A compiler or QEMU is missing.
        ArtifactError: The folder is damaged, or the program does not compile or run.
    """
    source = Path(folder)
    manifest = _read_manifest(source)
    with tempfile.TemporaryDirectory() as temporary:
        program, outputs = Path(temporary) / "program", Path(temporary) / "outputs.bin"
        command = _build(source, program, target)
        done = _run([*command, str(source / "inputs.bin"), str(outputs)])
        shape = (-1, *manifest.output.shape)
        found, expected = (_read_outputs(path, shape) for path in (outputs, source / "expected.bin"))
    lines = (line.split() for line in done.stdout.splitlines())
    counts = {words[0]: int(words[1]) for words in lines if len(words) == 2 and words[0] != "samples"}
    return ProgramRun(found, expected, counts)


def count_regions(folder: Path | str, *, n_samples: int = 1, caches: CacheSpec | None = None) -> list[RegionCounts]:
    """Return the AArch64 instruction counts of a program by layer and kind of work, over `n_samples` inferences.

    ALPINE's instructions are counted separately; the other instructions are those that a core of the simulator executes.

    Args:
        folder: Folder written by `emit_program`.
        n_samples: Number of stored inputs to run.
        caches: Caches to simulate.

    Raises:
        ConfigError: A compiler or QEMU is missing.
        ArtifactError: The folder is damaged, or the program does not compile or run.
    """
    source = Path(folder)
    manifest = _read_manifest(source)
    tools = find_tools()
    with tempfile.TemporaryDirectory() as temporary:
        program = Path(temporary) / "program"
        compile_program(tools, [source / "main.cc"], program, flags=(*_FLAGS, "-DLH_AIMC_DRY"), include=[source])
        args = [str(source / "inputs.bin"), str(Path(temporary) / "outputs.bin"), str(n_samples)]
        found = count_instructions(tools, program, args, caches=caches).regions
    layers = [(0, "network", manifest.regions.network)]
    layers += [(layer.number, layer.function, layer.regions) for layer in manifest.layers]
    return [
        RegionCounts(number, function, kind, found[region])
        for number, function, regions in layers
        for kind, region in regions.items()
        if region in found
    ]


def _read_manifest(folder: Path) -> Manifest:
    path = folder / "manifest.json"
    return read_record(Manifest, read_json(path), str(path))


def _build(source: Path, program: Path, target: Target) -> list[str]:
    """Compile a program and return the command that runs it."""
    if target == "aarch64":
        tools = find_tools()
        compile_program(tools, [source / "main.cc"], program, flags=(*_FLAGS, "-DLH_AIMC_TRAP"), include=[source])
        return [tools.qemu, str(program)]
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        raise ConfigError("export: no C++ compiler on the path", hint="on Debian or Ubuntu: apt-get install g++")
    _run([compiler, *_FLAGS, "-DUSE_CHECKER", f"-I{source}", str(source / "main.cc"), "-o", str(program)])
    return [str(program)]


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ArtifactError(f"{command[0]}: {error}") from error
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        told = next((line for line in lines if "error" in line), lines[-1])
        raise ArtifactError(f"{Path(command[0]).name}: {told}", hint=f"the command was: {' '.join(command)}")
    return done


def _read_outputs(path: Path, shape: tuple[int, ...]) -> NDArray[np.int8]:
    try:
        return np.fromfile(path, np.int8).reshape(shape)
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"{path}: not the outputs of this program: {error}", hint="export the program again"
        ) from error

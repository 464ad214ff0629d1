"""Build and run an emitted program on this machine or for AArch64 under QEMU, and count the executed instructions."""

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
    """Outputs of an emitted program for its stored inputs, and the expected outputs.

    Args:
        outputs: Outputs of the program, int8, shape ``(n, height, width, channels)``.
        expected: Outputs of LionHeart's quantised reference for the same inputs, with the same shape.
        tile_instructions: Numbers of executed tile instructions, by the names that the program prints: ``queue``,
            ``process``, ``dequeue`` and ``param_write``.
    """

    outputs: NDArray[np.int8]
    expected: NDArray[np.int8]
    tile_instructions: dict[str, int]

    @property
    def matches(self) -> bool:
        """Whether all outputs are equal to the expected outputs."""
        return bool(np.array_equal(self.outputs, self.expected))


@final
@dataclass(frozen=True)
class RegionCounts:
    """Numbers of instructions that an emitted program executed in one code region.

    Args:
        layer: Number that identifies the layer, from 1 in execution order; 0 for work outside layers.
        name: Name of the layer's C++ function; ``network`` for work outside layers.
        kind: Kind of work in the region, such as ``product``; the manifest of the program lists all kinds.
        counts: Counts, summed over all samples of the run.
    """

    layer: int
    name: str
    kind: str
    counts: Counts


def run_program(folder: Path | str, target: Target = "host") -> ProgramRun:
    """Build an emitted program, run the program on its stored inputs, and return actual and expected outputs.

    Args:
        folder: Folder written by `emit_program`.
        target: ``host`` to run on this machine with tiles emulated in C++; ``aarch64`` to run under QEMU, where ALPINE's tile
            instructions trap and are emulated.

    Raises:
        ConfigError: A compiler or QEMU is missing.
        ArtifactError: A file in the folder is missing or damaged, or the program does not compile or run.
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
    """Count the AArch64 instructions of an emitted program for each layer and kind of work, over `n_samples` inferences.

    ALPINE's tile instructions are counted separately. All other instructions are the same that a core of the ALPINE simulator
    executes. The result has one entry for each code region that the program entered.

    Args:
        folder: Folder written by `emit_program`.
        n_samples: Number of stored inputs to run, one inference each.
        caches: Data caches to simulate; None for the defaults of `CacheSpec`.

    Raises:
        ConfigError: A compiler or QEMU is missing.
        ArtifactError: A file in the folder is missing or damaged, or the program does not compile or run.
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
    """Compile an emitted program and return the command that runs the compiled program."""
    if target == "aarch64":
        tools = find_tools()
        compile_program(tools, [source / "main.cc"], program, flags=(*_FLAGS, "-DLH_AIMC_TRAP"), include=[source])
        return [tools.qemu, str(program)]
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        raise ConfigError(
            "export: neither g++ nor c++ found on the search path (PATH), expected a C++ compiler",
            hint="on Debian or Ubuntu: apt-get install g++",
        )
    _run([compiler, *_FLAGS, "-DUSE_CHECKER", f"-I{source}", str(source / "main.cc"), "-o", str(program)])
    return [str(program)]


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ArtifactError(
            f"{command[0]}: did not complete: {error}",
            hint="check that the program is executable; if the time limit was exceeded, store fewer inputs with the program",
        ) from error
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        told = next((line for line in lines if "error" in line), lines[-1])
        raise ArtifactError(f"{Path(command[0]).name}: failed: {told}", hint=f"the command was: {' '.join(command)}")
    return done


def _read_outputs(path: Path, shape: tuple[int, ...]) -> NDArray[np.int8]:
    try:
        return np.fromfile(path, np.int8).reshape(shape)
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"{path}: cannot be read as int8 outputs of shape {shape}: {error}", hint="export the program again"
        ) from error

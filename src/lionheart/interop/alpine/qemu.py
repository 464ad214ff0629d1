"""Count the instructions that an AArch64 program executes under QEMU's user-mode emulator, with a counting plugin.

The program is cross-compiled before it runs. The counts include only instructions of the program and do not depend on the
machine that runs QEMU. Counts are not clock cycles. `DEBIAN_PACKAGES` lists the required tools and their packages.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any, Final, Self, final

from lionheart.errors import ArtifactError, ConfigError
from lionheart.files import cache_dir, read_json, require_mapping, write_atomic

DEBIAN_PACKAGES: Final = {
    "qemu-aarch64": "qemu-user",
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu",
    "aarch64-linux-gnu-g++": "g++-aarch64-linux-gnu",
    "gcc": "gcc",
}
CPU: Final = "cortex-a72"  # an Armv8.0 core, without dot-product and later instructions
_BUILD_TIMEOUT_S: Final = 120.0
_VERSION: Final = 1
# A program runs with only these environment variables and a fixed seed, so that every run is identical.
_GUEST_ENVIRONMENT: Final = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}


@final
@dataclass(frozen=True)
class CacheSpec:
    """Two levels of data caches with least-recently-used replacement, which the counting plugin simulates.

    Args:
        line_bytes: Size of a cache line, a power of two [bytes].
        l1_bytes: Capacity of the first level, a multiple of ``l1_ways * line_bytes`` [bytes].
        l1_ways: Number of lines per set in the first level.
        l2_bytes: Capacity of the second level, a multiple of ``l2_ways * line_bytes`` [bytes].
        l2_ways: Number of lines per set in the second level.
    """

    line_bytes: int = 64
    l1_bytes: int = 32768
    l1_ways: int = 4
    l2_bytes: int = 1048576
    l2_ways: int = 16

    def __post_init__(self) -> None:
        """Raise a `ConfigError` unless the line size is a power of two and each cache level has a whole number of sets."""
        sizes = [(self.l1_bytes, self.l1_ways), (self.l2_bytes, self.l2_ways)]
        is_power = self.line_bytes > 0 and self.line_bytes & (self.line_bytes - 1) == 0
        if not is_power or any(min(size) < 1 or size[0] % (size[1] * self.line_bytes) for size in sizes):
            raise ConfigError(
                f"caches: got {self}, expected lines of 2^n bytes and capacities > 0 that are multiples of ways * line_bytes",
                hint="for example the defaults: 32 KiB with 4 ways and 1 MiB with 16 ways, with lines of 64 bytes",
            )


@final
@dataclass(frozen=True)
class Counts:
    """Numbers of executed instructions, data accesses and cache misses in one region of a program.

    Args:
        entries: Number of times that the region was entered.
        scalar_int: Integer arithmetic, logic, moves and address computations.
        int_mul: Integer multiplications and divisions.
        branch: Branches, calls and returns, taken or not.
        scalar_load: Loads to general registers.
        scalar_store: Stores from general registers.
        vector_load: Loads to SIMD and floating-point registers.
        vector_store: Stores from SIMD and floating-point registers.
        simd: SIMD and floating-point arithmetic and moves.
        tile_process: ALPINE's CM_PROCESS instructions. In programs compiled with the macro ``LH_AIMC_DRY``, hint
            instructions replace all tile instructions and are counted in the same fields.
        tile_queue: ALPINE's CM_QUEUE instructions.
        tile_dequeue: ALPINE's CM_DEQUEUE instructions.
        tile_param: ALPINE's instructions that read or write tile parameters.
        other: System instructions, other hints, barriers and prefetches.
        accesses: Data accesses. An access of more than 8 bytes counts as several accesses of at most 8 bytes.
        l1_misses: Misses in the first cache level.
        l2_misses: Misses in both cache levels.
    """

    entries: int = 0
    scalar_int: int = 0
    int_mul: int = 0
    branch: int = 0
    scalar_load: int = 0
    scalar_store: int = 0
    vector_load: int = 0
    vector_store: int = 0
    simd: int = 0
    tile_process: int = 0
    tile_queue: int = 0
    tile_dequeue: int = 0
    tile_param: int = 0
    other: int = 0
    accesses: int = 0
    l1_misses: int = 0
    l2_misses: int = 0

    @property
    def instructions(self) -> int:
        """Total number of instructions executed in the region, over all instruction classes."""
        return sum(getattr(self, name) for name in CLASSES)

    def __add__(self, other: Counts) -> Counts:
        """Return the field-by-field sum of `self` and `other`."""
        return Counts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @classmethod
    def parse(cls, data: Mapping[str, Any], where: str) -> Self:
        """Return the counts of one region from the output of the counting plugin.

        Args:
            data: Counts by field name.
            where: Location of the counts, for error messages.

        Raises:
            ArtifactError: A count is missing, unknown, negative or not an integer.
        """
        names = [f.name for f in fields(cls)]
        if sorted(data) != sorted(names) or not all(type(n) is int and n >= 0 for n in data.values()):
            raise ArtifactError(
                f"{where}: got {dict(data)}, expected an integer count >= 0 for each of {', '.join(names)}",
                hint="delete the folder 'native' in LionHeart's cache folder, so that the counting plugin is compiled again",
            )
        return cls(**data)


CLASSES: Final = tuple(f.name for f in fields(Counts))[1:-3]


@final
@dataclass(frozen=True)
class RunCounts:
    """Counts of instructions, data accesses and cache misses in one run of a program.

    Args:
        regions: Counts by region number; region 0 contains all code outside marked regions.
        stdout: Standard output of the program.
    """

    regions: Mapping[int, Counts]
    stdout: str = ""

    @property
    def total(self) -> Counts:
        """Counts summed over all regions."""
        return sum(self.regions.values(), Counts())


@final
@dataclass(frozen=True)
class Tools:
    """Paths of the programs that are required for counting instructions.

    Args:
        qemu: QEMU's user-mode emulator for AArch64.
        cross_cc: C compiler for AArch64.
        cross_cxx: C++ compiler for AArch64.
        host_cc: C compiler for this machine, which compiles the counting plugin.
    """

    qemu: str
    cross_cc: str
    cross_cxx: str
    host_cc: str

    def versions(self) -> dict[str, str]:
        """Return the first output line of ``--version`` for the emulator and for the C++ cross compiler.

        The keys of the dictionary are ``qemu`` and ``cross_cxx``.
        """
        return {name: _first_line(path) for name, path in (("qemu", self.qemu), ("cross_cxx", self.cross_cxx))}


def missing_packages() -> tuple[str, ...]:
    """Return the Debian packages of those required programs that are not on the search path ``PATH``.

    The tuple is empty if all programs are found.
    """
    return tuple(package for program, package in DEBIAN_PACKAGES.items() if shutil.which(program) is None)


def find_tools() -> Tools:
    """Return the paths of the programs that are required for counting instructions.

    Raises:
        ConfigError: A program is not on the search path ``PATH``.
    """
    missing = missing_packages()
    if missing:
        programs = [program for program, package in DEBIAN_PACKAGES.items() if package in missing]
        raise ConfigError(
            f"instruction counts: {', '.join(programs)} not found on the search path (PATH)",
            hint=f"on Debian or Ubuntu: apt-get install {' '.join(missing)}",
        )
    return Tools(*(str(shutil.which(program)) for program in DEBIAN_PACKAGES))


def build_counter(tools: Tools) -> Path:
    """Return the path of the compiled counting plugin in the user's cache folder.

    If the folder does not contain the plugin, the plugin is compiled first.

    Raises:
        ArtifactError: The plugin does not compile, or the cache folder cannot be written.
    """
    source = resources.files("lionheart.interop.alpine").joinpath("native", "counter.c").read_bytes()
    key = hashlib.sha256(source + _first_line(tools.host_cc).encode()).hexdigest()[:16]
    library = cache_dir() / "native" / f"counter-{key}.so"
    if library.exists():
        return library

    def build(temporary: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "counter.c"
            path.write_bytes(source)
            flags = ["-O2", "-shared", "-fPIC", "-fvisibility=hidden"]
            _compile([tools.host_cc, *flags, "-o", str(temporary), str(path)], "counter.c")

    write_atomic(library, build)
    return library


def compile_program(
    tools: Tools,
    sources: Sequence[Path],
    program: Path,
    *,
    flags: Sequence[str] = ("-O3",),
    include: Sequence[Path] = (),
) -> Path:
    """Cross-compile C, C++ or assembly sources into one statically linked AArch64 program, and return its path.

    Args:
        tools: Programs from `find_tools`.
        sources: Source files; the C++ compiler compiles all of them.
        program: Path to which the compiled program is written.
        flags: Compiler options.
        include: Folders with header files.

    Raises:
        ArtifactError: The program does not compile.
    """
    folders = [f"-I{folder}" for folder in include]
    command = [tools.cross_cxx, *flags, "-static", *folders, "-o", str(program), *map(str, sources)]
    _compile(command, ", ".join(path.name for path in sources))
    return program


def count_instructions(
    tools: Tools,
    program: Path,
    args: Sequence[str] = (),
    *,
    caches: CacheSpec | None = None,
    timeout_s: float = 300.0,
) -> RunCounts:
    """Run a program under QEMU and return the instruction counts of each region.

    The program marks regions by the instruction ``movz xzr, #id``, which starts the region `id` and ends the previous region.
    Region 0 contains all code outside marked regions.

    Args:
        tools: Programs from `find_tools`.
        program: Statically linked program for AArch64.
        args: Command-line arguments of the program.
        caches: Data caches to simulate; None for the defaults of `CacheSpec`.
        timeout_s: Time limit of the run [s].

    Raises:
        ArtifactError: The program crashes, fails, exceeds the time limit, writes no counts or runs several threads.
    """
    plugin = build_counter(tools)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "counts.json"
        options = {"file": plugin, "out": out} | vars(caches or CacheSpec())
        joined = ",".join(f"{key}={str(value).replace(',', ',,')}" for key, value in options.items())
        command = [tools.qemu, "-cpu", CPU, "-seed", "1", "-plugin", joined, str(program.resolve()), *args]
        done = _run(command, str(program), timeout_s, env=_GUEST_ENVIRONMENT, cwd=folder)
        _require_success(program, done)
        return RunCounts(_read_counts(out), done.stdout)


def _require_success(program: Path, done: subprocess.CompletedProcess[str]) -> None:
    if done.returncode == 0:
        return
    if done.returncode < 0:
        ending = f"was killed by {signal.Signals(-done.returncode).name}"
    else:
        ending = f"ended with exit status {done.returncode}"
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    told = f": {lines[-1].strip()}" if lines else ""
    raise ArtifactError(
        f"{program}: {ending} under QEMU{told}", hint="run the program with qemu-aarch64 to see its whole output"
    )


def _read_counts(path: Path) -> dict[int, Counts]:
    if not path.exists():
        raise ArtifactError(
            "instruction counts: the plugin wrote no counts", hint="install a QEMU version with support for plugins"
        )
    data = require_mapping(read_json(path), path)
    regions = data.get("regions")
    if data.get("version") != _VERSION or not isinstance(regions, dict):
        raise ArtifactError(
            f"{path.name}: got {json.dumps(data)[:80]}, expected 'regions' and 'version': {_VERSION}",
            hint="delete the folder 'native' in LionHeart's cache folder, so that the counting plugin is compiled again",
        )
    if data.get("threads") != 1:
        raise ArtifactError(
            f"instruction counts: the program ran {data.get('threads')} threads, expected one",
            hint="remove all additional threads from the program; the counting plugin supports only one thread",
        )
    return {int(name): Counts.parse(value, f"{path.name}:region {name}") for name, value in regions.items()}


def _compile(command: Sequence[str], what: str) -> None:
    done = _run(command, f"{what}: the compiler", _BUILD_TIMEOUT_S)
    if done.returncode != 0:
        lines = done.stderr.splitlines() or ["no message"]
        told = next((line for line in lines if "error" in line), lines[-1])
        raise ArtifactError(f"{what}: does not compile: {told.strip()}", hint=f"the command was: {' '.join(command)}")


def _first_line(program: str) -> str:
    """Return the first output line of ``program --version``."""
    lines = _run([program, "--version"], program, _BUILD_TIMEOUT_S).stdout.splitlines()
    return lines[0] if lines else "unknown version"


def _run(
    command: Sequence[str], what: str, timeout_s: float, env: Mapping[str, str] | None = None, cwd: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command and return its exit status and output. A nonzero exit status raises no error.

    `what` names the command in the message about an exceeded time limit.
    """
    try:
        return subprocess.run(  # noqa: S603  our own commands
            command, capture_output=True, text=True, errors="replace", timeout=timeout_s, env=env, cwd=cwd
        )
    except subprocess.TimeoutExpired as error:
        raise ArtifactError(
            f"{what} did not end within {timeout_s:g} s",
            hint="increase timeout_s or reduce the number of samples; if a compiler is too slow, use a less busy machine",
        ) from error
    except OSError as error:
        raise ArtifactError(
            f"{command[0]}: cannot be run: {error.strerror or error}",
            hint="check that this path is an executable program; `find_tools` returns the paths of installed programs",
        ) from error

"""Runs `jobs.py` in a process whose arithmetic depends on the processor as little as may be: one thread, oldest kernels."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
HASHES = FOLDER / "hashes.json"
OBSERVED = "observed.json"
_MARK = "LIONHEART_GOLDEN_PINNED"

PINNED = {
    _MARK: "1",
    "PYTHONPATH": str(FOLDER.parents[1] / "src"),
    "PYTHONHASHSEED": "0",
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_CBWR": "COMPATIBLE",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "OPENBLAS_CORETYPE": "Nehalem",
    "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX2,-FMA,-FMA4",  # exp, log and pow of libm
}


def is_pinned() -> bool:
    return _MARK in os.environ


def run_pinned(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `jobs.py` with the arguments; what it prints comes back."""
    command = [sys.executable, str(FOLDER / "jobs.py"), *map(str, arguments)]
    return subprocess.run(command, env={**os.environ, **PINNED}, capture_output=True, text=True, check=False)

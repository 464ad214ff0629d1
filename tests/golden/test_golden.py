"""Every job of the library gives what it gave when `hashes.json` was written, to the last bit; see `jobs.py`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # pytest adds it too, but not in every import mode

from observe import digest, hash_jobs
from pinned import HASHES, OBSERVED, run_pinned

STORED: dict[str, Any] = json.loads(HASHES.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("golden")


@pytest.fixture(scope="module")
def observed(folder: Path) -> dict[str, Any]:
    """One run of all jobs; without it, or on a processor that computes other last bits, there is nothing to compare."""
    done = run_pinned(folder)
    assert (folder / OBSERVED).exists(), done.stderr
    whole = json.loads((folder / OBSERVED).read_text(encoding="utf-8"))
    if digest(whole["probe"]) != STORED["probe"]:
        pytest.skip("this processor computes other last bits")
    return whole["jobs"]


def test_the_jobs_are_those_of_the_hashes(observed: dict[str, Any]):
    assert sorted(observed) == sorted(STORED["jobs"])


@pytest.mark.slow
@pytest.mark.parametrize("name", STORED["jobs"])
def test_a_job_gives_what_it_gave(name: str, observed: dict[str, Any], folder: Path):
    parts = observed[name]
    assert "error" not in parts, parts["error"]
    found, expected = hash_jobs({name: parts})[name], STORED["jobs"][name]
    different = [part for part in {**expected, **found} if found.get(part) != expected.get(part)]
    assert not different, f"{name}: other {', '.join(different)}; what is observed is in {folder / OBSERVED}"

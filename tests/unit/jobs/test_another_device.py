"""Another device than the CPU: mapping, evaluation, profile, front and training find there what they find on the CPU."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from another_device import JOBS
from paths import SUPPORT
from quadrants import build_task, make_settings
from torch.utils import backend_registration

from lionheart.cli.tasks import load_task
from lionheart.errors import ConfigError
from lionheart.files import read_json
from lionheart.jobs import map_layers
from lionheart.progress import SILENT

SCRIPT = SUPPORT.joinpath("another_device.py")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each job found on the other device, against the CPU."""
    if not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"):
        pytest.skip(f"PyTorch {torch.__version__} has no devices written in Python")
    out = tmp_path_factory.mktemp("device") / "found.json"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, SCRIPT, out], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer: dict[str, str] = json.loads(out.read_text(encoding="utf-8"))
    return answer


@pytest.mark.parametrize("job", JOBS)
def test_another_device_finds_the_same(job: str, found: dict[str, str]):
    # Cause: inputs for tracing stayed on the CPU, so no network on a GPU could be mapped.
    assert found[job] == "same", found[job]


def test_task_is_put_where_the_command_line_says(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert load_task("quadrants:build_task", SILENT, "auto").device.type == "cpu"
    assert load_task("quadrants:build_task", SILENT).device.type == "cpu"
    with pytest.raises(ConfigError, match="device: got 'cuda', but PyTorch finds no CUDA GPU"):
        load_task("quadrants:build_task", SILENT, "cuda")
    with pytest.raises(ConfigError, match="got 'gpu', expected auto, cpu or cuda"):
        load_task("quadrants:build_task", SILENT, "gpu")


def test_model_without_values_is_traced_as_it_is():
    # Cause: tracing copied models of any other device to the CPU, and there is nothing to copy on the meta device.
    task = build_task()
    on_meta = replace(task, model=copy.deepcopy(task.model).to("meta"))
    assert on_meta.trace() == task.trace()
    assert on_meta.device.type == "meta"


def test_run_says_where_it_was_computed(tmp_path: Path):
    map_layers(build_task(), make_settings(search={"exclude": ["0", "7"]}), run_dir=tmp_path / "run")
    assert read_json(tmp_path / "run" / "run.json")["environment"]["device"] == "cpu"

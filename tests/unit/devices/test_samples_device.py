"""Devices of the user's own, from measurements in a CSV file."""

from pathlib import Path

import numpy as np
import pytest
import torch
from device_examples import SAMPLES, ranks, seeded
from scipy import stats

from lionheart.devices import DeviceSpec, find_device_model
from lionheart.errors import ArtifactError, ConfigError

HEADER = "target,time,conductance\n"


def test_device_from_samples(tmp_path: Path):
    """Normal spreads around 0.9 and 0.7 times the target at 1 s and 10,000 s; between, linear in target and log time."""
    draw, rows = np.random.default_rng(1), []
    for target in (0.0, 10.0, 20.0):
        for time, share in ((1.0, 0.9), (10_000.0, 0.7)):
            g = np.abs(share * target + draw.normal(0, 1, 4000))
            rows += [f"{target},{time},{each:.6f}" for each in g]
    path = tmp_path / "mine.csv"
    path.write_text(HEADER + "# a comment\n" + "\n".join(rows) + "\n")
    device = DeviceSpec.from_samples(path)
    assert (device.g_min, device.g_max, device.times) == (0.0, 20.0, (1.0, 10_000.0))
    model = find_device_model(device)
    g_programmed, state = model.program(torch.full((50_000,), 15.0), device, generator=seeded())
    for t, mean in ((0.0, 13.5), (1.0, 13.5), (100.0, 12.0), (10_000.0, 10.5)):
        g = model.read(g_programmed, state, device, t_inference=t, generator=seeded())
        assert float(g.mean()) == pytest.approx(mean, abs=0.05)
        assert float(g.std()) == pytest.approx(1.0, rel=0.05)
        assert stats.spearmanr(g.numpy(), g_programmed.numpy()).statistic == pytest.approx(1.0)  # the rank is kept
    with pytest.raises(ConfigError, match="at most the last measured time, 10000 s"):
        model.read(g_programmed, state, device, t_inference=10_001.0, generator=seeded())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "mine.csv: got a file without data"),
        ("g,t\n", "mine.csv:1: got the header 'g,t'"),
        (HEADER + "1,1,1\n1,1\n", "mine.csv:3: got 2 columns"),
        (HEADER + "1,1,many\n", "mine.csv:2: conductance: got 'many'"),
        (HEADER + "1,1,nan\n", "mine.csv:2: conductance: got 'nan'"),
        (HEADER + "-1,1,1\n", "mine.csv:2: target: got '-1'"),
        (HEADER + "1,0,1\n", "mine.csv:2: time: got 0"),
        (HEADER + "1,1,1\n" * 10, "got 1 different target"),
        (HEADER + "0,1,1\n" * 10 + "5,1,1\n" * 9, "got 9 measurement\\(s\\) for the target 5 µS at 1 s"),
        (HEADER + "0,1,1\n" * 10 + "5,2,1\n" * 10, "got 0 measurement\\(s\\) for the target 0 µS at 2 s"),
    ],
)
def test_faulty_samples_are_refused(text: str, message: str, tmp_path: Path):
    path = tmp_path / "mine.csv"
    path.write_text(text)
    with pytest.raises(ArtifactError, match=message):
        DeviceSpec.from_samples(path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"times": (0.0, 1.0)}, "times must be greater than 0 s"),
        ({"targets": (0.0, 10.0, 20.0)}, "targets must cover the range .* got 0.0 .. 20.0"),
        ({"quantiles": ranks(2.0)[:2]}, "number of targets, number of times, number of ranks"),
        (
            {"quantiles": tuple(tuple(row[::-1] for row in times) for times in ranks(2.0))},
            "must be >= 0 µS and in ascending order .*, got 2.0 before 1.96 for the target 0 µS at 1 s",
        ),
    ],
)
def test_faulty_quantiles_are_refused(changed: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        DeviceSpec(technology="samples", **{**SAMPLES, **changed})


def test_a_missing_file_is_refused(tmp_path: Path):
    with pytest.raises(ArtifactError, match="no such file"):
        DeviceSpec.from_samples(tmp_path / "none")

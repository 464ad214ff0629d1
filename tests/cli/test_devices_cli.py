"""`lionheart devices`: every technology in a line, every constant of one with its source; 80 columns."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from lionheart.cli import app
from lionheart.constants import KINDS
from lionheart.devices import DEVICES


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["devices", *map(str, arguments)], env={"COLUMNS": "80", "TERM": "dumb"})


def test_lists_every_technology_in_80_columns():
    result = run()
    assert (result.exit_code, result.stdout) == (0, "")
    for name, technology in DEVICES.items():
        assert technology.spec.summary
        [line] = [line for line in result.stderr.splitlines() if line.split()[:1] == [name]]
        assert technology.spec.summary in line
    assert max(map(len, result.stderr.splitlines())) <= 80
    rows = json.loads(run("--json").stdout)["technologies"]
    assert {row["technology"]: row["summary"] for row in rows} == {n: t.spec.summary for n, t in DEVICES.items()}


@pytest.mark.parametrize("name", DEVICES)
def test_tells_every_constant_and_setting_of_one(name: str):
    result, data = run(name), json.loads(run(name, "--json").stdout)
    assert (result.exit_code, result.stdout) == (0, "")
    assert max(map(len, result.stderr.splitlines())) <= 80
    words = "".join(result.stderr.split())
    for constant, entry in data["constants"].items():
        assert f"{constant}=" in words
        for part in ("value", "unit", "source"):
            assert "".join(str(entry[part]).split()) in words
        assert entry["kind"] in KINDS
    assert set(data["settings"]) == set(DEVICES.find(name).spec.model_fields)
    assert all(setting in words for setting in data["settings"])


def test_constants_are_those_of_the_technology():
    def constants(name: str) -> set[str]:
        return set(json.loads(run(name, "--json").stdout)["constants"])

    assert {"g_max", "drift_nu_mean", "read_noise", "t_0"} < constants("pcm")
    assert constants("pcm") - constants("pcm_custom_drift") == {"drift_nu_mean", "drift_nu_sigma"}
    assert {"programming_noise_0p2", "programming_noise_2", "relaxation_mean"} < constants("reram_cmo")
    assert constants("reram_wan2022") == {"g_max", "times", "noise_1s", "noise_1d", "noise_2d"}
    assert constants("ideal") == set()


def test_a_file_of_your_own(tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_text('[g_max]\nvalue = 7.0\nunit = "µS"\nsource = "my lab"\nkind = "measured"\n')
    data = json.loads(run(path, "--json").stdout)
    assert data["technology"] == "table"
    assert data["constants"]["g_max"] == {"value": 7.0, "unit": "µS", "source": "my lab", "kind": "measured"}
    assert "my lab" in run(path).stderr


def test_unknown_names_are_refused(tmp_path: Path):
    result = run("pcn")
    assert result.exit_code == 2
    assert "did you mean 'pcm'" in result.stderr
    assert run(tmp_path / "none.toml").exit_code == 2

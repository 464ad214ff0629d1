"""The programs of the tutorials run, are short, and print what their pages show; also with other forms of their arguments."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from paths import ROOT

FOLDER = ROOT / "docs" / "tutorials"
PAGES = sorted(path.stem for path in FOLDER.glob("*.md") if path.stem != "README")
NUMBER = re.compile(r"[-+−]?\d[\d.,]*")
LOADER = "torch.utils.data.DataLoader(torch.utils.data.TensorDataset(inputs, labels), batch_size=100)"
LOADERS = f"*({LOADER} for inputs, labels in zip(inputs.split(200), labels.split(200)))"

pytestmark = pytest.mark.usefixtures("small_noise_pool")


def read_blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (FOLDER / f"{page}.md").read_text(encoding="utf-8"), re.DOTALL)


def run_program(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch, program: str | None = None) -> None:
    monkeypatch.chdir(folder)
    for text in read_blocks(page, "toml"):
        Path("mine.toml").write_text(text, encoding="utf-8")
    [written] = read_blocks(page, "python")
    exec(compile(program or written, f"{page}.md", "exec"), {})  # noqa: S102  our own page


def without_numbers(text: str) -> list[str]:
    """Return the lines of an output without what depends on the machine: numbers, their prefixes, and widths of columns."""
    return [
        " ".join(re.sub(r"# [pnµm]?([sJ])\b", r"# \1", NUMBER.sub("#", line)).split()) for line in text.splitlines()
    ]


def test_there_are_six_and_the_index_has_them():
    assert PAGES == ["convert", "cost", "device", "evaluate", "platform", "search"]
    index = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(f"]({page}.md)" in index for page in PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_programs_are_short(page: str):
    [program] = read_blocks(page, "python")
    assert len([line for line in program.splitlines() if line]) <= 8
    assert "from lionheart." not in program


@pytest.mark.parametrize("page", PAGES)
def test_programs_print_what_the_page_shows(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    run_program(page, tmp_path, monkeypatch)
    printed, (shown,) = capsys.readouterr().out, read_blocks(page, "text")
    lines = printed.splitlines()
    assert len(lines) <= 26  # a result of at most 25 lines, and one number
    assert max(map(len, lines)) <= 80
    assert without_numbers(printed) == without_numbers(shown)


@pytest.mark.parametrize(
    ("page", "changes"),
    [
        ("convert", {'layers="all", exclude=["3"]': 'layers="type:linear", exclude="re:^3"'}),
        ("convert", {'"pcm"': "lionheart.TileSpec(rows=64, cols=64)"}),
        ("evaluate", {"[(inputs, labels)]": LOADER, '["1s", "1d", "1y"]': '"1d"'}),
        ("evaluate", {"[(inputs, labels)]": "((inputs, labels),)", '["1s", "1d", "1y"]': "[1, 86400.0]"}),
        ("evaluate", {'"pcm"': '"reram_cmo"', "n_chips=10": "n_chips=2, seed=3"}),
        ("search", {"train=batches[:4], validation=batches[4:8], test=batches[8:]": LOADERS}),
        ("search", {'preset="quick"': 'preset="robust", t_inference="1h"'}),
        ("device", {'["1s", "1d", "1y"]': '"1d"'}),
        ("platform", {'"mine.toml"': 'lionheart.load_platform("mine.toml")'}),
        ("platform", {'"all"': '["type:conv*"]', "example_inputs=x": "example_inputs=[(x, None)]"}),
        ("cost", {'["0", "2"]': '"none"', '"alpine-high-power"': '"hermes-64"'}),
    ],
)
def test_programs_take_other_forms(
    page: str,
    changes: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    [program] = read_blocks(page, "python")
    for old, new in changes.items():
        assert old in program
        program = program.replace(old, new)
    run_program(page, tmp_path, monkeypatch, program)
    lines = capsys.readouterr().out.splitlines()
    assert 0 < len(lines) <= 26
    assert max(map(len, lines)) <= 80

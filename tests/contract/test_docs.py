"""The README's example runs, the pages are up to date, links lead somewhere, importing is lean."""

import importlib.util
import re
import subprocess
import sys

import pytest
from fake_problem import FakeProblem, run
from paths import ROOT

from lionheart.search import STRATEGIES

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def test_readme_example_runs(tmp_path, monkeypatch):
    [example] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(example, "README.md", "exec"), names)  # noqa: S102  our own page
    result = names["result"]
    assert set(result.mapping.placements) == {"0", "2"}
    assert {point.t_inference for point in result.results.test_over_time} >= {1.0, 86_400.0}
    assert (tmp_path / "runs/mine/results.json").exists()


def test_example_of_a_kind_of_ones_own_runs():
    import lionheart

    [example] = re.findall(r"```python\n(.*?)```", (ROOT / "docs/how-to/layer-types.md").read_text(), re.DOTALL)
    names = {"__name__": "extending"}
    exec(compile(example, "extending.md", "exec"), names)  # noqa: S102  our own page
    lionheart.graph.unregister_layer_type(names["Gated"])


def test_metrics_of_ones_own_are_those_of_the_page():
    import torch

    [example] = re.findall(r"```python\n(.*?)```", (ROOT / "docs/how-to/metrics.md").read_text(), re.DOTALL)
    names = {}
    exec(compile(example, "metrics.md", "exec"), names)  # noqa: S102  our own page
    outputs, targets = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 3.0]]), torch.tensor([1, 0, 1])
    assert names["auc"].score_set(names["auc"](outputs, targets)) == 1.0
    y = torch.tensor([[1.0], [2.0], [4.0]], dtype=torch.float64)
    assert names["r2"].score_set(names["r2"](y, y)) == 1.0
    assert names["r2"].score_set(names["r2"](torch.full_like(y, y.mean().item()), y)) == pytest.approx(0.0)
    assert names["distance"].format_drop(names["distance"].drop(1.0, 2.5)) == "1.50 mm"


def load_script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / f"docs/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_settings_page_is_up_to_date():
    assert (ROOT / "docs/reference/settings.md").read_text() == load_script("make_settings").render_settings(), (
        "run: make docs"
    )


def test_schema_is_up_to_date():
    module = load_script("make_reference")
    assert module.PAGE.read_text() == module.render_schema(), "run: make docs"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name}: dead link {target}"


def test_import_is_lean_and_silent():
    code = "import sys, lionheart; print(sorted({'torch', 'numpy', 'scipy', 'typer', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_public_names_exist():
    import lionheart

    for name in lionheart.__all__:
        assert getattr(lionheart, name).__doc__, name


def test_the_strategy_of_the_docs_searches():
    [example] = re.findall(r"```python\n(.*?)```", (ROOT / "docs/how-to/extend.md").read_text(), re.DOTALL)
    try:
        exec(compile(example, "extend.md", "exec"), {})  # noqa: S102  our own page
        result = run("smallest-first", FakeProblem([0.2, 0.3, 9.0]))
    finally:
        STRATEGIES.remove("smallest-first")
    assert set(result.mapping.analog) == {"L0", "L1"}

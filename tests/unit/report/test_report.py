"""The report: what the page says, that it is safe and complete, and where the figures put their marks."""

from __future__ import annotations

import html
import itertools
import math
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from jinja2 import FileSystemLoader
from PIL import Image

from lionheart.candidates import GraphRecord
from lionheart.errors import ArtifactError
from lionheart.jobs import MapSettings
from lionheart.record import read_record
from lionheart.report import ReportData, render_report, write_report
from lionheart.report.figures import (
    BarPart,
    ChartStyle,
    Guide,
    TimePoint,
    draw_bullet,
    draw_sparkline,
    draw_stacked_bar,
    draw_time_chart,
    share_strip,
)
from lionheart.report.gantt import GanttBar, draw_gantt
from lionheart.report.page import environment, tie_units
from lionheart.report.sections import SECTIONS, Section
from lionheart.report.svg import LinearScale, TimeScale, choose_ticks, element, spread_labels
from lionheart.runs import RefreshInterval, Results, RunDescription
from lionheart.runs.costs import PipelineRecord
from lionheart.runs.text import (
    describe_compensation,
    describe_duration,
    describe_gain,
    describe_refresh,
    format_pp,
)

# name, rows, cols, matrix-vector products: ResNet8 on 32x32 images
RESNET8 = [
    ("conv", 27, 16, 1024),
    ("stack1.conv1", 144, 16, 1024),
    ("stack1.conv2", 144, 16, 1024),
    ("stack2.conv1", 144, 32, 256),
    ("stack2.conv2", 288, 32, 256),
    ("stack2.shortcut.0", 16, 32, 256),
    ("stack3.conv1", 288, 64, 64),
    ("stack3.conv2", 576, 64, 64),
    ("stack3.shortcut.0", 32, 64, 64),
    ("fc", 64, 10, 1),
]
DIGITAL = {"conv", "stack2.conv1", "fc"}
MACS = {fqn: rows * cols * n_mvms for fqn, rows, cols, n_mvms in RESNET8}
TOTAL_MACS = sum(MACS.values())
DROPS = {
    "stack1.conv1": 0.62, "stack1.conv2": 0.88, "stack2.conv2": 0.97, "stack3.conv2": 1.21, "stack2.conv1": 2.64,
    "stack3.conv1": 1.33, "stack2.shortcut.0": 1.58, "stack3.shortcut.0": 1.71, "fc": 2.31,
}  # fmt: skip
DAY = 86_400.0


def accuracy(mean, half=0.005, n_chips=20, t=DAY):
    scores = [mean + 2.1 * half * math.sin(12.9898 * (k + 1) + t) for k in range(n_chips)]
    return {"t_inference": t, "mean": mean, "low": mean - half, "high": mean + half, "std": 2.1 * half, "n_chips": n_chips,
            "scores": scores}  # fmt: skip


def make_run():
    settings = MapSettings.from_json({"search": {"max_drop_pp": 2.0, "n_chips": 10, "exclude": ["conv"]}})
    return {
        "schema_version": 2, "lionheart_version": "0.1.0", "created": "2026-11-23T21:00:00Z", "task": "cifar10/resnet8",
        "seed": 0, "command": "lionheart map cifar10/resnet8 --max-drop 2.0 --t-inference 1d --seed 0",
        "settings": settings.to_json(),
        "environment": {"lionheart": "0.1.0", "python": "3.11.7", "torch": "2.13.0", "cpu": "8-core processor", "threads": 2,
                        "system": "Linux x86_64"},
    }  # fmt: skip


def make_graph():
    projections = [
        {"fqn": fqn, "layer_type": "linear" if fqn == "fc" else "conv2d", "rows": rows, "cols": cols, "groups": 1,
         "n_mvms": n_mvms, "n_calls": 1, "n_inputs": rows * n_mvms, "n_outputs": cols * n_mvms, "has_bias": fqn == "fc",
         "tied_to": None, "weights": rows * cols, "macs": MACS[fqn]}
        for fqn, rows, cols, n_mvms in RESNET8
    ]  # fmt: skip
    candidates = [
        {"fqn": fqn, "mappable": fqn != "conv", "reason": "kept digital by the user" if fqn == "conv" else "",
         "n_tiles": math.ceil(rows / 256), "row_sizes": [rows], "col_sizes": [cols],
         "tile_utilisation": rows * cols / (65536 * math.ceil(rows / 256))}
        for fqn, rows, cols, _ in RESNET8
    ]  # fmt: skip
    return {
        "projections": projections,
        "other_ops": [
            {"name": "relu", "n_calls": 7, "n_elements": 77_824, "n_operands": 77_824, "macs": 0},
            {"name": "add", "n_calls": 3, "n_elements": 28_672, "n_operands": 57_344, "macs": 0},
        ],
        "totals": {"macs": TOTAL_MACS, "weights": sum(p["weights"] for p in projections)},
        "candidates": candidates,
    }


def make_decisions():
    return [
        {"index": index, "fqn": fqn, "macs": MACS[fqn], "accepted": drop <= 2.0,
         "accuracy": accuracy(0.87 - drop / 100, 0.004, 10), "drop_pp": drop, "drop_ucb_pp": drop,
         "train": {"losses": [0.42 * 0.8**k + 0.03 * math.sin(2 * k + index) / (k + 1) + 0.1 for k in range(6 + index % 5)],
                   "n_steps": 390 * (6 + index % 5), "elapsed_s": 48.0 + index, "outcome": "flat"},
         "elapsed_s": 55.0 + 3 * index}
        for index, (fqn, drop) in enumerate(DROPS.items())
    ]  # fmt: skip


def make_cost(scale, cores, tiles):
    time = {"im2col": 0.61e-3, "mac_kernel": cores * 1e-3, "bias": 1e-5, "activation_memory": 0.22e-3, "element_ops": 0.31e-3,
            "queue": tiles * 0.27e-3, "dequeue": tiles * 0.16e-3, "process": tiles * 0.1e-3}  # fmt: skip
    time = {key: value * scale for key, value in time.items()}
    power = {"core_active": 0.9, "core_wait": 0.3, "llc_leakage": 0.5, "dram": 0.05}
    energy = {key: watts * sum(time.values()) for key, watts in power.items()} | {"tile": tiles * 2e-4 * scale}
    return {"latency_s": sum(time.values()), "energy_j": sum(energy.values()), "time_breakdown_s": time,
            "energy_breakdown_j": energy}  # fmt: skip


def make_system(platform, scale):
    layers = []
    for fqn, rows, *_ in RESNET8:
        digital = MACS[fqn] / TOTAL_MACS * 5.2e-3 * scale
        mapped = digital if fqn in DIGITAL else 0.11 * digital + 8e-6
        layers.append(
            {"fqn": fqn, "placement": "digital" if fqn in DIGITAL else "analog", "latency_s": mapped,
             "energy_j": 1.8 * mapped, "time_breakdown_s": {}, "energy_breakdown_j": {},
             "n_tiles": 0 if fqn in DIGITAL else math.ceil(rows / 256), "digital_latency_s": digital,
             "digital_energy_j": 1.8 * digital}
        )  # fmt: skip
    before, after = make_cost(scale, 5.2, 0), make_cost(scale, 0.72, 1)
    return {
        "platform": platform, "clock_hz": 2.3e9 / scale,
        "counted": ["matrix-vector products on cores and tiles", "moving inputs to tiles and outputs back"],
        "not_counted": ["loading the image", "programming the tiles"],
        "assumptions": ["one core, one inference at a time", "8-bit weights and activations on cores"],
        "all_digital": before, "mapped": after, "speedup": before["latency_s"] / after["latency_s"],
        "energy_gain": before["energy_j"] / after["energy_j"], "n_tiles": 11, "layers": layers,
        "other_ops": [{"name": "relu", "latency_s": 2.1e-4 * scale, "energy_j": 4e-4 * scale, "reason_free": ""},
                      {"name": "flatten", "latency_s": 0.0, "energy_j": 0.0, "reason_free": "changes no data"}],
    }  # fmt: skip


def make_schedule(cores, step_s):
    """Return a schedule of three inferences; each core takes one step of each kind."""
    kinds = ("network io", "digital", "tile support", "program", "tile", "other ops", "handover")
    events = []
    for core in range(len(cores)):
        for inference in range(3):
            start = step_s * len(kinds) * (inference + core)
            for index, kind in enumerate(kinds):
                events.append({"core": core, "inference": inference, "layer": cores[core][0], "kind": kind,
                               "start_s": start + index * step_s, "end_s": start + (index + 1) * step_s})  # fmt: skip
    return {"latency_s": 2e-3, "interval_s": 1e-3, "throughput_per_s": 1e3, "energy_per_inference_j": 2e-2,
            "cores": [{"layers": layers, "utilisation": 0.6} for layers in cores], "events": events}  # fmt: skip


def make_pipeline(n_inferences=3):
    names = list(MACS)
    return {
        "platform": "alpine-high-power", "n_cores": 3, "n_inferences": n_inferences, "max_tiles": 4, "n_tiles": 4,
        "n_tiles_wanted": 11, "n_tiles_packed": 3, "without_tiles": ["fc"],
        "reprogrammed": ["conv"], "sharing": [names[1:3]], "latency_gain": 1.5,
        "throughput_gain": 2.0, "energy_gain": 0.5, "all_digital": make_schedule([names[:4], names[4:8], names[8:]], 2e-4),
        "mapped": make_schedule([names[:6], names[6:]], 1e-4), "notes": ["cores take turns"],
    }  # fmt: skip


def make_results():
    analog = [fqn for fqn in MACS if fqn not in DIGITAL]
    over_time = [
        accuracy(mean, half, t=t)
        for t, mean, half in ((1.0, 0.8604, 0.004), (3600.0, 0.8561, 0.0045), (DAY, 0.8512, 0.005),
                              (30 * DAY, 0.8467, 0.0058), (365 * DAY, 0.8418, 0.0067))
    ]  # fmt: skip
    return {
        "schema_version": 2, "outcome": "mapped", "max_drop_pp": 2.0, "t_inference": DAY, "confidence": 0.95,
        "metric": {"name": "accuracy", "drop_unit": "pp", "kind": "share"},
        "mapping": {"schema_version": 1,
                    "placements": {fqn: "digital" if fqn in DIGITAL else "analog" for fqn in MACS}},
        "analog_mac_share": sum(MACS[fqn] for fqn in analog) / TOTAL_MACS, "analog_weight_share": 0.931, "n_tiles": 11,
        "baseline": {"validation_accuracy": 0.872, "test_accuracy": 0.87},
        "validation": accuracy(0.8549, 0.004),
        "decisions": make_decisions(), "test_over_time": over_time, "retrained_test_accuracy": 0.8713,
        "elapsed_s": 734.0, "n_steps": 28_470,
        "system": [make_system("alpine-high-power", 1.0), make_system("alpine-low-power", 2.875)],
    }  # fmt: skip


def read_data(run=None, graph=None, results=None, pipelines=()):
    """Return plain data as records."""
    return ReportData(
        RunDescription.from_json(run or make_run(), "run"),
        read_record(GraphRecord, graph or make_graph(), "graph"),
        Results.from_json(results or make_results(), "results"),
        read_record(tuple[PipelineRecord, ...], pipelines, "pipelines"),
    )


def render(run=None, graph=None, results=None, pipelines=()):
    return render_report(read_data(run, graph, results, pipelines))


def read_summary(page):
    """Return the verdict as a reader sees it, with plain spaces."""
    found = re.search(r'<h1 class="headline">(.*?)</h1>', page, re.S)
    return html.unescape(found[1]).replace("\u00a0", " ")


# --- what the page says -------------------------------------------------------------------------------------------------


def test_summary_states_mapping_accuracy_and_bound():
    assert read_summary(render()) == (
        "7 of 10 projections, 87.0 % of the MACs, run analog; on the test set accuracy 1 day after programming is "
        "85.1 % [84.6, 85.6] over 20 fresh chips, 1.9 pp below the digital network (87.0 %; bound 2 pp, "
        "on validation: 1.7 pp)."
    )


def test_summary_says_when_the_test_drop_exceeds_the_bound():
    results = make_results()
    results["test_over_time"][2].update(accuracy(0.8498))
    page = render(results=results)
    assert "2.02 pp below the digital network (87.0 %), which exceeds the bound of 2 pp" in read_summary(page)
    assert "test drop exceeds the bound" in page


def test_interval_beyond_the_bound_is_pointed_out():
    assert "the lower end of its interval is not" in render()
    results = make_results()
    results["test_over_time"][2].update(accuracy(0.8512, 0.0001))
    assert "the lower end of its interval is not" not in render(results=results)


def make_drop(drop_pp, drop_ucb_pp, confidence):
    return {"drop_pp": drop_pp, "drop_ucb_pp": drop_ucb_pp, "confidence": confidence, "chip_error_pp": 0.1,
            "sample_error_pp": 0.2, "chip_yield": None}  # fmt: skip


def make_tested():
    """Return a run with a confidence level of which one mapping failed on held-out samples, and its results."""
    run, results = make_run(), make_results()
    run["settings"]["search"]["confidence_level"] = 0.9
    shared = {"accuracy": accuracy(0.85), "analog": []}
    results["holdout_tests"] = [
        {"drop": make_drop(1.9, 2.4, 0.95), "accepted": False, **shared},
        {"drop": make_drop(1.2, 1.7, 0.975), "accepted": True, **shared},
    ]
    return run, results


def test_the_hold_out_tests_are_summarised():
    run, results = make_tested()
    page = html.unescape(render(run, results=results)).replace("\u00a0", " ")
    assert (
        "Confidence level 90 %: on held-out validation samples and "
        "20 fresh chips, the drop is 1.2 pp, and with 97.5 % confidence at "
        "most 1.7 pp. 1 larger mapping failed this test before."
    ) in page
    last = next(d["fqn"] for d in reversed(results["decisions"]) if d["accepted"])
    results["mapping"]["placements"][last] = "digital"
    assert "taken back: hold-out test" in render(run, results=results)
    assert "Confidence level" not in render()


def test_failed_hold_out_tests_are_said_plainly():
    run, results = make_tested()
    results["holdout_tests"].pop()
    assert "no mapping met the bound in a hold-out test" in render(run, results=results)
    results["holdout_tests"] = []
    results["mapping"]["placements"] = dict.fromkeys(MACS, "digital")
    assert "the bound cannot be exceeded" in render(run, results=results)


def test_infeasible_is_said_plainly():
    results = make_results()
    results.update(
        outcome="infeasible", analog_mac_share=0.0, analog_weight_share=0.0, n_tiles=0, test_over_time=[], system=[],
    )  # fmt: skip
    results["mapping"]["placements"] = dict.fromkeys(MACS, "digital")
    for decision in results["decisions"]:
        decision["accepted"] = False
    page = render(results=results)
    assert read_summary(page) == (
        "No mapping was found that stays within 2 pp of the digital network 1 day after programming: "
        "all 9 attempts were rolled back and all 10 projections stay digital."
    )
    results["mapping"]["placements"]["fc"] = "analog"
    assert "the best one puts 1 of 10 projections" in read_summary(render(results=results))


def test_budget_is_said_plainly():
    results = make_results()
    results.update(outcome="budget", decisions=results["decisions"][:7], test_over_time=[])
    results["untried"] = ["stack3.shortcut.0", "fc"]
    page = render(results=results)
    assert read_summary(page).startswith(
        "The search used up its time budget, with 2 projections not tried: so far 7 of 10"
    )
    assert "search used up its time budget" in page
    assert "Not tried: stack3.shortcut.0, fc." in page


def test_validation_is_reported_until_the_test_set_is_evaluated():
    results = make_results()
    results["test_over_time"] = []
    verdict = read_summary(render(results=results))
    assert "on the validation set accuracy 1 day after programming is 85.5 % [85.1, 85.9]" in verdict
    assert verdict.endswith("the test set has not been evaluated yet.")
    results["test_over_time"] = make_results()["test_over_time"][:1]
    assert read_summary(render(results=results)).endswith("the test set has not been evaluated at this time.")


def test_every_projection_is_listed_with_its_work_and_reason():
    page = render()
    for fqn, rows, cols, _ in RESNET8:
        assert page.replace("<wbr>", "").count(f'<td class="name mono">{fqn}</td>') >= 3
        assert f"{rows}×{cols}" in page
    assert "kept digital by the user" in page
    assert "rolled back in step 5: drop 2.6 pp" in page
    assert "relu (7 calls), add (3 calls)" in page


def test_settings_command_and_versions_are_shown():
    page = render()
    for text in ("device.g_max", "hwa.weight_noise", "2.13.0", "8-core processor", "lionheart map cifar10/resnet8"):
        assert text in page


def test_a_hostile_layer_name_is_only_text():
    hostile = "<script>alert(1)</script>\"'&"
    run, graph, results = make_run(), make_graph(), make_results()
    graph["projections"][-1]["fqn"] = graph["candidates"][-1]["fqn"] = hostile
    results["mapping"]["placements"][hostile] = results["mapping"]["placements"].pop("fc")
    results["decisions"][-1]["fqn"] = hostile
    for system in results["system"]:
        system["layers"][-1]["fqn"] = hostile
        system["mapped"]["time_breakdown_s"]["<b>x</b>"] = 1e-4
    run["task"] = run["command"] = hostile
    page = render(run, graph, results)
    assert "<script" not in page
    assert "<b>x" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 5


def test_the_page_loads_nothing_and_runs_nothing():
    page = render()
    assert "<script" not in page
    assert "@import" not in page
    assert "url(" not in page
    assert set(re.findall(r'(?:src|href|action|data)\s*=\s*"([^"]*)"', page)) == {"data:,"}
    assert not re.search(r"\son[a-z]+=", page)
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page
    assert len(page) < 300_000


def test_missing_parts_are_left_out_with_a_sentence():
    results = make_results()
    for key in ("test_over_time", "retrained_test_accuracy", "system", "elapsed_s", "n_steps"):
        del results[key]
    results["baseline"]["test_accuracy"] = None
    results["decisions"] = []
    page = render(results=results)
    assert "The test set has not been evaluated yet" in page
    assert "Time and energy have not been estimated" in page
    assert "No projection was tried." in page
    assert "None" not in re.sub(r"<style>.*?</style>", "", page, flags=re.S)


def test_without_a_test_of_the_digital_network_the_drop_is_unknown():
    results = make_results()
    results["baseline"]["test_accuracy"] = None
    page = render(results=results)
    assert "the digital network was not tested, so the drop is unknown" in read_summary(page)
    assert "over the bound" not in page


@pytest.mark.parametrize(
    ("path", "value", "key"),
    [
        (("results", "max_drop_pp"), ..., "results.max_drop_pp: missing"),
        (("results", "outcome"), "great", "results.outcome: got 'great'"),
        (("results", "baseline", "validation_accuracy"), "0.87", "results.baseline.validation_accuracy: got a str"),
        (("results", "decisions", 3, "accepted"), 1, "results.decisions[3].accepted: got 1"),
        (("results", "test_over_time", 0, "mean"), math.nan, "results.test_over_time[0].mean: got nan"),
        (("results", "schema_version"), 3, "results.schema_version: got 3"),
        (("results", "mapping", "placements", "fc"), "cloud", "results.mapping.placements.fc: got 'cloud'"),
        (("results", "mapping", "placements", "conv"), ..., "results.mapping.placements: got 9 projections"),
        (("graph", "projections", 2, "rows"), ..., "graph.projections[2].rows: missing"),
        (("graph", "other_ops", 0), [], "graph.other_ops[0]: got a list, expected an object"),
        (("run", "seed"), True, "run.seed: got True, expected a whole number"),
        (("run", "task"), ..., "run.task: missing"),
    ],
)
def test_a_bad_key_is_named(path, value, key):
    data = {"run": make_run(), "graph": make_graph(), "results": make_results()}
    place = data
    for step in path[:-1]:
        place = place[step]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    with pytest.raises(ArtifactError, match=re.escape(key)):
        render(data["run"], data["graph"], data["results"])


def test_all_faults_are_named_at_once():
    results = make_results()
    results.update(n_tiles=1.5, outcome="great", notes={"fc": 1})
    with pytest.raises(ArtifactError) as caught:
        render(results=results)
    assert sorted(caught.value.message.splitlines()) == [
        "results.n_tiles: got 1.5, expected a whole number",
        "results.notes.fc: got 1, expected a text",
        "results.outcome: got 'great', expected one of 'mapped', 'infeasible' or 'budget'",
    ]


def test_the_page_is_a_file(tmp_path):
    out = write_report(read_data(), tmp_path / "deep" / "report.html")
    assert out.read_text(encoding="utf-8") == render()


def test_a_section_is_a_module_and_a_template():
    for name, section in SECTIONS.items():
        assert environment().get_template(f"{name}.html.j2")
        assert isinstance(section, Section)
    orders = [section.order for _, section in SECTIONS.items()]
    assert len(set(orders)) == len(orders)
    found = re.findall(r'<section id="(\w+)">', render(pipelines=[make_pipeline()]))
    by_order = sorted(SECTIONS.items(), key=lambda item: item[1].order)
    assert found == [name for name, section in by_order if not section.in_header]


def test_a_registered_section_is_on_the_page(tmp_path, monkeypatch):
    (tmp_path / "mine.html.j2").write_text('<section id="mine">{{ n }} steps of {{ data.run.task }}</section>')
    loaders = environment().loader.loaders
    monkeypatch.setattr(environment().loader, "loaders", [*loaders, FileSystemLoader(tmp_path)])
    SECTIONS.add("mine", Section(55, lambda data: {"n": len(data.results.decisions)}))
    try:
        page = render()
    finally:
        SECTIONS.remove("mine")
    assert '<section id="mine">9 steps of cifar10/resnet8</section>' in page
    assert page.index('id="search"') < page.index('id="mine"') < page.index('id="settings"')


def test_breakdowns_use_the_hue_of_where_the_work_runs():
    page = render()
    assert '<li class="digital shade-0">mac kernel</li>' in page
    assert '<li class="analog shade-0">queue</li>' in page
    assert '<li class="analog shade-0">tile</li>' in page
    assert "<title>other: 10.0 µs</title>" in page  # the bias, too small for a colour of its own
    results = make_results()
    for side in ("all_digital", "mapped"):
        results["system"][0][side].update(time_breakdown_s=None, latency_s=2e-3)
    assert "<title>all digital: 2.00 ms</title>" in render(results=results)


def test_read_policies_are_shown_with_their_cost():
    assert "read policy" not in render()
    results = make_results()
    row = next(layer for layer in results["system"][0]["layers"] if layer["placement"] == "analog")
    row["policy"] = {"policy": "4 reads, 9 row copies", "latency_s": 3.62e-4, "energy_j": 2e-6, "reads_j": 3e-7}
    results["system"][0]["mapped"]["energy_breakdown_j"] |= {"tile_array": 1e-4, "tile_repeated_reads": 3e-4}
    page = html.unescape(render(results=results)).replace("\u00a0", " ")
    assert page.count("<th>read policy adds</th>") == 1  # the other platform has none
    assert "<td>4 reads, 9 row copies: +362 µs, +2.0 µJ</td>" in page
    assert (
        "Read policies of 1 projection add 362 µs and 2.0 µJ on alpine-high-power; all reads of tiles take 400 µJ"
        in page
    )


def test_notes_that_platforms_share_are_printed_once():
    page = render()
    assert page.count("programming the tiles") == 1
    assert "the same as for alpine-high-power." in page
    assert "Operations without time and energy: flatten (changes no data)." in page
    results = make_results()
    results["system"][1]["assumptions"] = ["another"]
    assert render(results=results).count("programming the tiles") == 2


def test_several_cores_are_drawn_over_time():
    page = html.unescape(render(pipelines=[make_pipeline()])).replace("\u00a0", " ")
    section = re.search(r'<section id="cores">.*?</section>', page, re.S)[0]
    for text in ("3 cores", "3 inferences", "1.50× sooner", "2.00× more results", "2.00× more", "60 %", "off",
                 "4 of 4 tiles in use; all analog layers need 11, or 3 if layers share tiles.",
                 "2 layers share tiles; layers in the same tile run one after the other.",
                 "Digital because there are not enough tiles: fc.",
                 "Reprogrammed for every inference: conv.", "cores take turns"):  # fmt: skip
        assert text in section, text
    digital, mapped = re.findall(r'<svg class="chart gantt".*?</svg>', section, re.S)
    for chart, n_lanes in ((digital, 3), (mapped, 2)):
        assert re.findall(r">(core \d)<", chart) == [f"core {n + 1}" for n in range(n_lanes)]
        assert len(re.findall(r"<rect ", chart)) == n_lanes * 3 * 6  # a handover is a gap
        assert re.findall(r'<text class="tick number"[^>]*>(\d)<', chart) == ["1", "2", "3"] * n_lanes
    # both have one scale: 0.2 ms of the digital chart are as long as two bars of 0.1 ms of the mapped one
    widths = [float(re.search(r'<rect class="digital" [^>]*width="([\d.]+)"', chart)[1]) for chart in (digital, mapped)]
    assert widths[0] == pytest.approx(2 * widths[1], abs=0.02)
    assert "stack1.conv1" not in re.search(r"<title>(.*?)</title>", digital)[1]
    assert "conv: network input and output; inference 1, 0 s to 200 µs" in digital
    assert '<section id="cores">' not in render()


def test_bars_of_a_core_do_not_overlap_and_lie_in_the_chart():
    bars = [GanttBar(core, n + 1, 0.1 * n + 0.05 * core, 0.1 * n + 0.05 * core + 0.08, "tile", "") for core in (0, 1)
            for n in range(4)]  # fmt: skip
    chart = draw_gantt(bars, ["core 1", "core 2"], end_s=0.45, label="two cores")
    width, height = (float(each) for each in re.search(r'viewBox="0 0 (\S+) (\S+)"', chart).groups())
    rows = {}
    for x, y, w, h in re.findall(r'<rect class="tile" x="(\S+)" y="(\S+)" width="(\S+)" height="(\S+)"', chart):
        assert 0 <= float(x) <= float(x) + float(w) <= width
        assert 0 <= float(y) <= float(y) + float(h) <= height
        rows.setdefault(y, []).append((float(x), float(x) + float(w)))
    assert [len(row) for row in rows.values()] == [4, 4]
    for row in rows.values():
        assert all(end <= start + 0.02 for (_, end), (start, _) in itertools.pairwise(sorted(row)))


def test_of_many_bars_the_first_inferences_are_drawn():
    pipeline = make_pipeline(3000)
    for side in ("all_digital", "mapped"):
        events = pipeline[side]["events"]
        pipeline[side]["events"] = [{**events[n % 7], "inference": n // 7} for n in range(21_000)]
    page = render(pipelines=[pipeline])
    assert "3000 inferences, the first 171 drawn" in page
    assert len(page) < 1_000_000


# --- figures ------------------------------------------------------------------------------------------------------------


def test_time_scale_is_logarithmic():
    scale = TimeScale.over([1.0, 100.0, 10_000.0], 0.0, 400.0)
    assert [scale(t) for t in (1.0, 10.0, 100.0, 10_000.0)] == pytest.approx([0.0, 100.0, 200.0, 400.0])


def test_time_zero_sits_a_decade_before_the_first_time():
    scale = TimeScale.over([0.0, 10.0, 1000.0], 0.0, 300.0)
    assert [scale(t) for t in (0.0, 10.0, 1000.0)] == pytest.approx([0.0, 100.0, 300.0])
    alone = TimeScale.over([0.0], 0.0, 300.0)
    assert alone(0.0) == pytest.approx(0.0)


def test_a_single_time_sits_in_the_middle():
    assert TimeScale.over([DAY], 0.0, 400.0)(DAY) == pytest.approx(200.0)


def test_chart_draws_points_where_the_scales_say():
    points = [
        TimePoint(t, m, m - 1, m + 1, f"at {t:g}", (m,)) for t, m in ((1.0, 90.0), (100.0, 88.0), (10_000.0, 80.0))
    ]
    chart = draw_time_chart(points, [Guide(91.0, "digital", "digital")], t_marked=100.0)
    xs = [float(x) for x in re.findall(r'class="mean" cx="([\d.]+)"', chart)]
    ys = [float(y) for y in re.findall(r'class="mean" cx="[\d.]+" cy="([\d.]+)"', chart)]
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.02)
    assert (ys[2] - ys[1]) / (ys[1] - ys[0]) == pytest.approx(4.0, abs=0.01)
    assert f'class="marked" x1="{xs[1]:.2f}'.rstrip("0").rstrip(".") in chart
    assert chart.count("<title>at ") == 3


def test_equal_values_can_be_drawn():
    chart = draw_time_chart([TimePoint(0.0, 50.0, 50.0, 50.0, "now")], [])
    assert "nan" not in chart
    assert "inf" not in chart


def test_the_style_of_a_chart_is_its_size_and_its_labels():
    style = ChartStyle(width=300.0, height=200.0, css_class="narrow", title="Perplexity", unit="")
    chart = draw_time_chart([TimePoint(1.0, 5.0, 4.0, 6.0, "now")], [], style=style)
    assert 'class="chart narrow" viewBox="0 0 300 200"' in chart
    assert 'aria-label="Perplexity over time since programming"' in chart


def test_stacked_bar_fills_its_share():
    bar = draw_stacked_bar(
        [BarPart("a", 1.0, "digital"), BarPart("b", 2.0, "analog"), BarPart("c", 0.0, "rest")], full=4.0
    )
    assert re.findall(r'x="([\d.]+)%" width="([\d.]+)%"', bar) == [("0.000", "25.000"), ("25.000", "50.000")]
    assert "rect" not in draw_stacked_bar([BarPart("a", 0.0, "digital")], full=0.0)


def test_bullet_and_sparkline():
    bullet = draw_bullet(1.0, 2.0, full=4.0, css_class="analog", label="<l>")
    assert 'width="25.00%"' in bullet
    assert 'x1="50.00%"' in bullet
    assert "&lt;l&gt;" in bullet
    assert 'width="0.00%"' in draw_bullet(-1.0, 2.0, full=4.0, css_class="analog", label="")
    assert 'points="4.0,4.0 48.0,12.0 92.0,20.0"' in draw_sparkline([3.0, 2.0, 1.0], label="loss")
    assert draw_sparkline([], label="loss") == ""
    assert "nan" not in draw_sparkline([1.0], label="loss")


def test_strip_is_proportional_to_the_root_of_the_work():
    assert share_strip([1.0, 4.0, 9.0, 16.0]) == pytest.approx([10.0, 20.0, 30.0, 40.0])
    widths = share_strip([0.0, 1.0, 1e6, 4e6], minimum=10.0)
    assert widths == pytest.approx([10.0, 10.0, 80 / 3, 160 / 3])
    assert sum(share_strip(list(MACS.values()))) == pytest.approx(100.0)
    assert sum(share_strip([5.0] * 25)) == pytest.approx(300.0)
    assert share_strip([0.0, 0.0]) == pytest.approx([7.0, 7.0])
    assert share_strip([]) == []


def test_ticks_labels_and_elements():
    assert choose_ticks(83.7, 87.4, 4) == [84.0, 85.0, 86.0, 87.0]
    assert LinearScale(0.0, 2.0, 100.0, 0.0)(0.5) == 75.0
    assert spread_labels([10.0, 12.0, 60.0], 16.0) == pytest.approx([3.0, 19.0, 60.0])
    assert element("text", "<&", class_="a b", x=1.50, fill=None) == '<text class="a b" x="1.5">&lt;&amp;</text>'


def test_texts():
    assert [describe_duration(t) for t in (0, 1, 90, 3600, DAY, 60 * DAY, 365 * DAY)] == [
        "0 seconds", "1 second", "90 seconds", "1 hour", "1 day", "2 months", "1 year",
    ]  # fmt: skip
    assert [format_pp(2.0, 2.0), format_pp(2.004, 2.0), format_pp(-0.31), format_pp(-0.01)] == [
        "2.0 pp", "2.004 pp", "−0.3 pp", "0.0 pp",
    ]  # fmt: skip
    assert [describe_gain(g, "faster", "slower") for g in (2.0, 0.5, 1.0, 25.0)] == [
        "2.00× faster", "2.00× slower", "the same", "25.0× faster",
    ]  # fmt: skip
    assert tie_units("85.1 % is 2 pp, 3 steps, 1.5 mJ") == "85.1\u00a0% is 2\u00a0pp, 3 steps, 1.5\u00a0mJ"


def test_texts_of_what_followed_the_search():
    tiles = {"a": {"column_calibration": "none"}, "b": {"column_calibration": "none", "input_range": "static"}}
    text = describe_compensation(tiles, 3)
    assert "column calibration none for 2 of 3 (a, b); input range static for 1 of 3 (b)" in text
    assert (describe_compensation({}, 3), describe_refresh(None, 1.0)) == ("", "")
    year = 365 * DAY

    def write(until, longest):
        return describe_refresh(RefreshInterval(holds_until_s=until, longest_s=longest), 1.0)

    assert "up to 1 year; reprogram the tiles" in write(year, 2 * year)
    assert "at least 1 year" in write(year, year)
    assert "is exceeded even" in write(None, year)


# --- in a browser -------------------------------------------------------------------------------------------------------


@pytest.mark.browser
def test_the_page_renders_in_a_browser(tmp_path):
    chromium = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )
    if chromium is None:
        pytest.skip("no Chromium on the PATH")
    page = write_report(read_data(), tmp_path / "report.html")
    picture = tmp_path / "report.png"
    done = subprocess.run(
        [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1000,1600", f"--screenshot={picture}",
         "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert read_summary(done.stdout) == read_summary(page.read_text(encoding="utf-8"))
    with Image.open(Path(picture)) as image:
        assert image.size == (1000, 1600)
        colours = image.convert("RGB").getcolors(maxcolors=1_000_000)
    assert len(colours) > 200


@pytest.mark.parametrize(
    ("converters", "n_steps", "said"),
    [(True, 28_470, "noise and converters"), (False, 28_470, "noise"), (True, 0, "")],
)
def test_the_digital_score_of_retrained_weights_is_explained(converters: bool, n_steps: int, said: str):
    """The report gave the score of the retrained network, run digitally, without a word on why it is lower."""
    run = make_run()
    run["settings"].setdefault("tile", {}).setdefault("hwa", {})["converters"] = converters
    text = " ".join(render(run, results={**make_results(), "n_steps": n_steps}).replace("\u00a0", " ").split())
    assert "The retrained network without analog noise (digital) reaches 87.1 %" in text
    sentence = f": its weights were trained with the {said} of the tiles, and are meant to be run with them."
    assert (sentence in text) == bool(said)
    assert ("meant to be run with them" in text) == bool(said)

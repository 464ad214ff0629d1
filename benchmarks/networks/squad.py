"""Map squad/minilm at bounds in F1 points and write docs/results/squad.md. Finished runs are read, not repeated.

The settings are those of squad.toml on top of the preset "robust". To limit the time on one core, the final
validation figures use the deciding questions, on other chips, and test is limited to the first --questions questions.

Run: lionheart train squad/minilm --epochs 6 --out ~/.cache/lionheart/checkpoints/squad_minilm.safetensors
     python benchmarks/networks/squad.py
     python benchmarks/networks/squad.py --bounds 1 --most-rise 0.004  # few candidates, without retraining
"""

from __future__ import annotations

import argparse
import re
from dataclasses import replace
from pathlib import Path

from pydantic import Field

from lionheart import MappingResult, MapSettings, Task, build_task, resume_run
from lionheart.data import BatchSource, take_samples
from lionheart.evaluation import evaluate_metrics, evaluate_over_chips
from lionheart.files import read_json, write_text
from lionheart.graph import LayerGraph
from lionheart.jobs import calibration_pass, describe_run, read_settings
from lionheart.record import Record
from lionheart.rng import RandomStreams
from lionheart.runs import Accuracy, RunDirectory
from lionheart.scripts import RichProgress
from lionheart.system import SystemRecord
from lionheart.tasks import find_recipe, find_weights
from lionheart.units import format_duration, format_elapsed

NAME = "squad/minilm"
SENSITIVITY = "sensitivity"  # the journal's event
CONFIG = Path(__file__).with_suffix(".toml")
PAGE = Path(__file__).parents[2] / "docs" / "results" / "squad.md"
ROBUST_PAGE = PAGE.with_name("squad_robust.md")
#: Group of projections -> pattern of its names; the number is the block's.
GROUPS = {
    "query": r"layer\.(\d+)\.attention\.self\.query",
    "key": r"layer\.(\d+)\.attention\.self\.key",
    "value": r"layer\.(\d+)\.attention\.self\.value",
    "attention output": r"layer\.(\d+)\.attention\.output\.dense",
    "intermediate": r"layer\.(\d+)\.intermediate\.dense",
    "output": r"layer\.(\d+)\.output\.dense",
    "QA head": r"(qa_outputs)",
}


class CardTraining(Record):
    """Settings of a training that the page names."""

    steps_per_epoch: int | None


class Card(Record):
    """Card of the network's weights, written by `lionheart train`."""

    command: str
    training_loss: tuple[float, ...]
    train_spec: CardTraining
    batch_size: int
    elapsed_s: float
    hardware: str
    test_f1: float = Field(alias="test_F1")
    test_exact_match: float
    validation_f1: float = Field(alias="validation_F1")
    validation_exact_match: float


class Digital(Record):
    """Scores of the digital network on the used test questions."""

    n: int
    f1: float
    exact_match: float


def robust_only(before: RunDirectory, most_rise: float, settings: MapSettings) -> MapSettings:
    """Return settings of a search without retraining among projections whose loss increase alone is at most `most_rise`."""
    rises = before.journal.read(SENSITIVITY, dict[str, float])
    include = tuple(fqn for fqn, rise in rises.items() if rise <= most_rise)
    search = settings.search.replace(
        strategy="training-free",
        include=include,
        report_times=(1.0, 86_400.0, 31_536_000.0),  # seconds: fewer than by default, to limit the time of the test
    )
    return settings.replace(search=search)


def cut_task(task: Task, settings: MapSettings, n_test: int) -> Task:
    """Return the task with the used questions only."""
    validation: BatchSource = take_samples(task.validation, settings.search.validation_samples)
    return replace(task, validation=validation, test=take_samples(task.test, n_test))


def map_once(task: Task, settings: MapSettings, path: Path, before: RunDirectory | None) -> MappingResult:
    """Map at the bound of the settings; a stopped run is resumed.

    The sensitivity does not depend on the bound and is taken from the run `before` if given.
    """
    if not (path / "run.json").exists():
        run = RunDirectory.create(
            path, describe_run(task, settings, f"python benchmarks/networks/squad.py, {path.name}")
        )
        if before is not None and before.journal.has(SENSITIVITY):
            rises = before.journal.read(SENSITIVITY, dict[str, float])
            run.journal.note(SENSITIVITY, value=rises, elapsed_s=before.journal.elapsed_s(SENSITIVITY))
    return resume_run(task, path, progress=RichProgress())


def exact_match(result: MappingResult, task: Task, settings: MapSettings) -> Accuracy:
    """Return the exact match of a mapped network on test, on fresh chips at the time of the bound; measured once per run."""
    name = "exact_match.json"
    if not result.run.has(name):
        search = settings.search
        (found,) = evaluate_over_chips(
            result.model,
            task.test,
            find_recipe(NAME).extra_metrics["exact_match"],
            times=[search.t_inference],
            n_chips=search.n_chips_final,
            streams=RandomStreams(settings.seed).scope("test"),  # the chips of the run's own figures
            run_calibration=calibration_pass(task),
        )
        result.run.write(name, found)
    return result.run.read(name, Accuracy)


def percent(row: Accuracy) -> str:
    """Write a mean with its interval."""
    return f"{100 * row.mean:.2f} [{100 * row.low:.2f}, {100 * row.high:.2f}]"


def with_spread(row: Accuracy) -> str:
    """Write a mean with its interval and the standard deviation over chips."""
    return f"{percent(row)}, ± {100 * row.std:.2f}"


def gains(row: SystemRecord) -> str:
    """Write the gains in time and energy on a platform."""
    return f"{row.speedup:.2f}× | {row.energy_gain:.2f}×"


def group_members(graph: LayerGraph, pattern: str) -> dict[str, str]:
    """Return the projections of a group: name -> number of the block."""
    found = {node.fqn: re.search(pattern + "$", node.fqn) for node in graph.nodes}
    return {fqn: match.group(1) for fqn, match in found.items() if match}


def group_rows(graph: LayerGraph, runs: dict[str, MappingResult]) -> list[str]:
    """Return the rows of the table of groups."""
    rows, n_members = [], 0
    for group, pattern in GROUPS.items():
        members = group_members(graph, pattern)
        n_members += len(members)
        share = sum(graph[fqn].macs for fqn in members) / graph.macs
        cells = [group, f"{len(members)}", f"{100 * share:.1f} %"]
        for result in runs.values():
            analog = [block for fqn, block in members.items() if result.mapping.is_analog(fqn)]
            blocks = f": {' '.join(analog)}" if analog and len(members) > 1 else ""
            cells.append(f"{100 * len(analog) / len(members):.0f} %{blocks}")
        rows.append(f"| {' | '.join(cells)} |")
    if n_members != len(graph.nodes):
        raise SystemExit(f"the groups have {n_members} projections, the network {len(graph.nodes)}")
    return rows


def bound_row(bound: str, result: MappingResult, match: Accuracy) -> str:
    """Return a row of the table of bounds."""
    results = result.results
    at = next(row for row in results.test_over_time if row.t_inference == results.t_inference)
    validation, baseline = results.validation, results.baseline
    cells = [bound, f"{100 * results.analog_mac_share:.1f} %", f"{100 * results.analog_weight_share:.1f} %"]
    cells += [f"{len(result.mapping.analog)}", f"{results.n_tiles}", percent(validation)]
    cells += [f"{results.validation_drop_pp:.2f}", percent(at)]
    cells += [f"{100 * (baseline.test_accuracy - at.mean):.2f}", percent(match)]
    cells += [f"{100 * results.retrained_test_accuracy:.2f}"]
    return f"| {' | '.join(cells)} |"


def search_row(bound: str, result: MappingResult) -> str:
    """Return a row of the table of searches, with the retraining step, if any, and its outcome."""
    results = result.results
    retrained = [each for each in results.decisions if each.train.n_steps]
    kept = [each for each in results.decisions if each.accepted]
    n_remeasured = sum(each.n_remeasured for each in results.decisions)
    untrained = [each for each in kept if each not in retrained]
    most = max((len(each.analog or ()) for each in untrained), default=0)
    cells = [bound, MapSettings.from_json(result.run.description().settings).search.strategy]
    cells += [f"{len(results.decisions)} and {n_remeasured}", f"{most}"]
    n_steps = sum(each.train.n_steps for each in retrained)
    verdict = "kept" if any(each.accepted for each in retrained) else "undone"
    cells += [f"{n_steps}, {verdict}" if n_steps else "0"]
    cells += [f"{kept[-1].drop_pp:.2f}" if kept else "", format_elapsed(results.elapsed_s)]
    return f"| {' | '.join(cells)} |"


def write_page(
    graph: LayerGraph,
    runs: dict[str, MappingResult],
    matches: dict[str, Accuracy],
    digital: Digital,
    card: Card,
    most_rise: float | None,
) -> str:
    """Return the page."""
    first = next(iter(runs.values()))
    results, description = first.results, first.run.description()
    settings, environment = MapSettings.from_json(description.settings), description.environment
    search, train = settings.search, settings.train
    machine = (
        "" if environment is None else f"{environment.cpu}, {environment.threads} thread(s), torch {environment.torch}"
    )
    times = [format_duration(row.t_inference) for row in results.test_over_time]
    platforms = [row.platform for row in results.system]
    over_time = [
        f"| {bound} | {' | '.join(map(with_spread, each.results.test_over_time))} |" for bound, each in runs.items()
    ]
    system = [f"| {bound} | {' | '.join(map(gains, each.results.system))} |" for bound, each in runs.items()]
    if most_rise is None:
        option = ""
        method = (
            "Mapped by `shared`, which first finds how many projections can be analog without retraining, and then "
            f"retrains\nwith all of them analog: {train.max_epochs} x {train.steps_per_epoch} steps, "
            f"{100 * train.distillation:.0f} % of the loss is distillation from the digital network. "
            "[Few projections, at 1 point](squad_robust.md)\nare searched without retraining."
        )
    else:
        option = f" --most-rise {most_rise:g}"
        method = (
            f"Mapped by `training-free` among the {len(search.include)} projections whose loss increase alone is at most "
            f"{most_rise:g}\n(3 chips, a subset of the deciding questions). The rule was chosen, and this search run, after the "
            "search among all projections\nhad [exceeded its bound on fresh chips](squad.md), when test was already measured;\nthe rule uses validation only."
        )
    sensitivity_s = first.run.journal.elapsed_s(SENSITIVITY)
    newline = "\n"
    return f"""# MiniLM on SQuAD v1.1{"" if most_rise is None else ": few projections"}

Task `{NAME}`: MiniLM-L6 with a linear head, the whole network trained on SQuADShifts (docs/reference/data.md): `{card.command}`,
{len(card.training_loss)} x {card.train_spec.steps_per_epoch} steps of {card.batch_size} questions, {format_elapsed(card.elapsed_s)} on {card.hardware}. In floating point it answers the SQuAD v1.1
test questions with **F1 {100 * card.test_f1:.2f} and exact match {100 * card.test_exact_match:.2f}** (validation: F1 {100 * card.validation_f1:.2f}, exact match {100 * card.validation_exact_match:.2f}).

{method} PCM tiles of 256 x 256, preset `robust` with `benchmarks/networks/squad.toml`;
columns are calibrated on each chip. {search.validation_samples} validation questions decide, on {search.n_chips} chips
for each decision; the figures are from {search.n_chips_final} other chips, means with their 95 % intervals over chips.
Test is the first {digital.n} questions, of which the digital network answers F1 {100 * digital.f1:.2f}, exact match
{100 * digital.exact_match:.2f}. The intervals do not include the choice of questions. Made by `python benchmarks/networks/squad.py --bounds {" ".join(runs)} --questions {digital.n} --seed {settings.seed}{option}` on {machine}.

| bound [F1 points] | MACs analog | weights analog | projections | tiles | validation F1, {format_duration(results.t_inference)} | drop | test F1, {format_duration(results.t_inference)} | drop, test | test exact match | test F1 of the same weights, digital |
|---|---|---|---|---|---|---|---|---|---|---|
{newline.join(bound_row(bound, each, matches[bound]) for bound, each in runs.items())}

Drops are against the digital network before any retraining; a drop larger than its bound means that the decisions were
too good by chance.

| bound | strategy | mappings decided on, and measured again | most analog projections without retraining | steps of retraining | drop that decided | search |
|---|---|---|---|---|---|---|
{newline.join(search_row(bound, each) for bound, each in runs.items())}

All searches share one sensitivity measurement, {format_elapsed(sensitivity_s)}; each search time includes it.

## Groups of projections

Analog share of each group, and the analog blocks among 0 to 5. The LionHeart paper maps MobileBERT (Lammie et al.,
arXiv:2401.09420v3, Table I: 169 projections, 7 groups in each of 24 blocks and one more), one projection after
another; this is MiniLM, with 6 groups in each of 6 blocks and the head.

| group | projections | MACs | {" | ".join(f"analog at {bound}" for bound in runs)} |
|{"---|" * (3 + len(runs))}
{newline.join(group_rows(graph, runs))}

## Test F1 over time, with the standard deviation over chips

| bound | {" | ".join(times)} |
|{"---|" * (1 + len(times))}
{newline.join(over_time)}

## Time and energy against all-digital

One question of {graph.nodes[0].n_mvms} tokens, by the cost model of docs/concepts/system-cost.md.

| bound | {" | ".join(f"{name}, faster | {name}, less energy" for name in platforms)} |
|{"---|" * (1 + 2 * len(platforms))}
{newline.join(system)}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/results"))
    parser.add_argument("--bounds", nargs="+", default=["1", "3"], help="in F1 points")
    parser.add_argument("--questions", type=int, default=200, help="of test, the first ones")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--most-rise", type=float, help="of the loss, that a candidate alone may cost; after a run without it"
    )
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--page", type=Path, help="docs/results/squad.md, or squad_robust.md with --most-rise")
    args = parser.parse_args()
    whole = build_task(NAME, progress=RichProgress())
    path = find_weights(NAME).with_suffix(".json")
    card = Card.from_json(read_json(path), str(path))
    runs, matches = {}, {}
    before: RunDirectory | None = None
    for bound in args.bounds:
        asked = {"search": {"max_drop_pp": float(bound)}, "": {"seed": args.seed}}
        settings = read_settings("robust", args.config, asked)
        task = cut_task(whole, settings, args.questions)
        path = args.runs / f"squad-{bound}f1-seed{args.seed}"
        if args.most_rise is not None:
            before = RunDirectory.open(path)
            settings = robust_only(before, args.most_rise, settings)
            path = args.runs / f"squad-{bound}f1-robust-seed{args.seed}"
        runs[bound] = map_once(task, settings, path, before)
        before = runs[bound].run
        matches[bound] = exact_match(runs[bound], task, settings)
    metrics = {"f1": task.metric, **find_recipe(NAME).extra_metrics}
    digital = Digital(**evaluate_metrics(task.model, task.test, metrics), n=task.test.n_samples)
    page = write_page(task.trace(), runs, matches, digital, card, args.most_rise)
    path = args.page or (PAGE if args.most_rise is None else ROBUST_PAGE)
    write_text(path, page)
    print(f"wrote {path}")


if __name__ == "__main__":
    main()

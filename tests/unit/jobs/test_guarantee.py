"""The guarantee: sequential hold-out tests keep their error probability, and a run with them is the same after a kill."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fake_problem import make_accuracy
from quadrants import build_task, make_settings
from scipy import stats

import lionheart.runs.journal
from lionheart.analog import ChipRead, analog_layers, convert_to_analog_
from lionheart.copies import copy_model
from lionheart.devices import TileSpec
from lionheart.errors import ConfigError
from lionheart.evaluation import ChipEnsemble, count_needed, estimate_drop, judge, merge_chips, plan_looks
from lionheart.evaluation.chips import estimate_mean
from lionheart.jobs import MapSettings, map_layers, read_settings, resume_run
from lionheart.jobs.measurement.chips import ChipEvaluator
from lionheart.jobs.post.confirm import confirm_bound
from lionheart.jobs.samples import explain_no_test, split_validation
from lionheart.mapping import LayerMapping, Placement
from lionheart.metrics import ACCURACY, Metric
from lionheart.progress import SILENT
from lionheart.rng import RandomStreams
from lionheart.runs import Accuracy, Decision, Drop, Guarantee, Journal, SearchOutcome, TrainTrace
from lionheart.search import CheapestRelief, Objective, Relief, SearchResult, SearchSpec, share_out

DAY = 86_400.0
RIGHT = 0.9  # share of the samples that the simulated digital network gets right
ONE_IN_A_MILLION = 1e-6

# ---------------------------------------------------------------------------------------------------- simulated networks


class SimulatedChips:
    """Scores of a network that is damaged by its analog layers, drawn for samples and chips; what a run's evaluator offers.

    The drop of a mapping over all chips and samples is 90 pp times the sum of the damages of its analog layers.

    Args:
        damages: Share of right answers that each layer breaks, by name.
        seed: Seed of samples and chips.
        n_deciding, n_held_out: Numbers of samples.
        is_rare: Whether a layer breaks some samples always, instead of all samples sometimes.
        max_drop: Bound [pp].
    """

    def __init__(
        self, damages: dict[str, float], seed: int, *, n_deciding: int, n_held_out: int, is_rare: bool, max_drop: float
    ) -> None:
        self.damages, self.seed, self.is_rare = damages, seed, is_rare
        self.mapping = LayerMapping(dict.fromkeys(damages, Placement.ANALOG))
        generator = torch.Generator().manual_seed(seed)
        self.luck = torch.rand(n_deciding + n_held_out, generator=generator, dtype=torch.float64)
        self.fragile = 2 * torch.rand(n_deciding + n_held_out, generator=generator, dtype=torch.float64)
        digital = (torch.rand(n_deciding + n_held_out, generator=generator) < RIGHT).double()
        self.reference, self.held_out_reference = digital[:n_deciding], digital[n_deciding:]
        self.held_out, self.validation = range(n_deciding, n_deciding + n_held_out), range(n_deciding)
        self.task = SimpleNamespace(metric=ACCURACY)
        self.settings = SimpleNamespace(
            search=SearchSpec(guarantee=0.95, max_drop_pp=max_drop, n_chips=6, n_chips_final=8)
        )
        self.context = SimpleNamespace(max_drop=max_drop)
        self._worst_of, self._merge = partial(ChipEvaluator._worst_of, self), partial(ChipEvaluator._merge, self)
        self._held_out_samples = lambda: self.held_out
        self.confirm = partial(ChipEvaluator.confirm, self)
        self.n_tested = 0

    def _evaluate(
        self,
        samples: range,
        times: Sequence[float],
        n_chips: int,
        path: Sequence[object],
        label: str,
        is_enough: Any = None,
    ) -> list[Accuracy]:
        generator = torch.Generator().manual_seed(RandomStreams(self.seed).derive_seed(*path))
        chosen = slice(samples.start, samples.stop)
        digital = torch.cat([self.reference, self.held_out_reference])[chosen]
        damage = sum(self.damages[fqn] for fqn in self.mapping.analog)
        of_chips = 0.2 * torch.randn(n_chips, 1, generator=generator, dtype=torch.float64) + 1
        if self.is_rare:
            is_broken = (self.luck[chosen] < damage).expand(n_chips, -1)
        else:
            luck = torch.rand(n_chips, len(samples), generator=generator, dtype=torch.float64)
            is_broken = luck < (damage * of_chips).clamp(0, 1) * self.fragile[chosen]
        scores = digital * ~is_broken

        def estimate(n: int) -> list[Accuracy]:
            part = scores[:, :n]
            return [estimate_mean(part.mean(1).tolist(), t_inference=DAY, samples=part.mean(0), metric=ACCURACY)]

        half = estimate(len(samples) // 2)
        return half if is_enough is not None and is_enough(half) else estimate(len(samples))

    def decide(self, path: Sequence[object], label: str, *, early_stop: bool) -> tuple[Accuracy, Drop]:
        found = self._evaluate(self.validation, (DAY,), 6, path, label)
        return self._worst_of(found, self.reference, None)

    def measure_part(self, path: Sequence[object], label: str, n_samples: int) -> list[Accuracy]:
        return self._evaluate(range(n_samples), (DAY,), 6, path, label)


class SimulatedProblem:
    """Applies mappings to simulated chips."""

    def __init__(self, chips: SimulatedChips) -> None:
        self.chips = chips
        self.applied: list[LayerMapping] = []
        self.n_returns = 0

    def restore(self, mapping: LayerMapping) -> None:
        self.applied.append(mapping)
        self.chips.mapping = mapping

    def return_to_accepted(self) -> LayerMapping:
        self.n_returns += 1
        return self.chips.mapping


def run_confirmation(
    chips: SimulatedChips, path: Path | None = None, shrink: Any = None, n_steps: int = 0
) -> tuple[LayerMapping, Any, Guarantee, SimulatedProblem]:
    names = list(chips.damages)
    mapping = LayerMapping(dict.fromkeys(names, Placement.ANALOG))
    decision = Decision(
        index=0, fqn="all", macs=1, accepted=True, accuracy=make_accuracy(0.9), drop_pp=0.1, drop_ucb_pp=0.1,
        train=TrainTrace(n_steps=n_steps), elapsed_s=0.0, analog=tuple(names),
    )  # fmt: skip
    worth = {fqn: 100 - 7 * index for index, fqn in enumerate(names)}

    def price(mapping: LayerMapping) -> Any:
        cost = sum(worth[fqn] for fqn in names if not mapping.is_analog(fqn))
        return lambda *fqns: cost + sum(worth[fqn] if mapping.is_analog(fqn) else -worth[fqn] for fqn in fqns)

    objective = Objective(price, dict.fromkeys(names, 1))
    loop = SimpleNamespace(shrink=shrink, objective=objective, cost_of=lambda mapping: (objective.cost(mapping), 0.0))
    context = SimpleNamespace(
        settings=chips.settings,
        task=chips.task,
        max_drop=chips.context.max_drop,
        journal=Journal(path),
        progress=SILENT,
    )
    problem = SimulatedProblem(chips)
    found = SearchResult(mapping, (decision,), SearchOutcome.MAPPED)
    return (*confirm_bound(context, problem, loop, found), problem)


@pytest.mark.parametrize("is_rare", [False, True])
def test_a_test_accepts_a_drop_at_the_bound_no_more_often_than_it_says(is_rare: bool):
    """The true drop over all chips and samples lies at the bound, so that each acceptance is an error."""
    error, n, damage = 0.05, 1_000, 0.02
    n_accepted = 0
    for seed in range(n):
        chips = SimulatedChips(
            {"a": damage}, seed, n_deciding=2, n_held_out=400, is_rare=is_rare, max_drop=100 * RIGHT * damage
        )
        n_accepted += chips.confirm("", plan_looks(error, 8)).accepted
    assert n_accepted <= stats.binom.isf(ONE_IN_A_MILLION, n, error)
    assert n_accepted > 0 or not is_rare  # it is no stricter than it must be where the guard does the work


def test_a_test_has_power():
    n_accepted = 0
    for seed in range(100):
        chips = SimulatedChips({"a": 0.01}, seed, n_deciding=2, n_held_out=2_000, is_rare=False, max_drop=2.0)
        n_accepted += chips.confirm("", plan_looks(0.05, 8)).accepted
    assert n_accepted >= 90


def test_a_run_ends_beyond_its_bound_no_more_often_than_it_says():
    """Many mappings of a run are beyond the bound by little, and a few are within; all tests together must keep the level."""
    n, bound, broken, shares = 150, 1.8, 0, []
    damages = {name: 0.0101 for name in "abcdef"}  # two layers: 1.818 pp, just beyond the bound
    for seed in range(n):
        chips = SimulatedChips(damages, seed, n_deciding=500, n_held_out=1_000, is_rare=False, max_drop=bound)
        mapping, tests, guarantee, _ = run_confirmation(chips)
        assert guarantee.confirmed
        assert guarantee.n_tests == len(tests) >= 1
        broken += 100 * RIGHT * sum(damages[fqn] for fqn in mapping.analog) > bound
        shares.append(len(mapping.analog))
    assert broken <= stats.binom.isf(ONE_IN_A_MILLION, n, 0.05)
    assert sum(shares) > n / 2  # one layer is nearly always confirmed


def test_a_clear_mapping_is_kept_at_the_first_look():
    chips = SimulatedChips(
        dict.fromkeys("abc", 0.001), 0, n_deciding=1_000, n_held_out=2_000, is_rare=False, max_drop=3.0
    )
    mapping, [test], guarantee, problem = run_confirmation(chips)
    assert mapping.analog == test.analog == ("a", "b", "c")
    assert (test.n_looks, test.accuracy.n_chips, guarantee.n_chips, guarantee.n_samples) == (1, 8, 8, 2_000)
    assert guarantee.drop_ucb_pp == test.drop.drop_ucb_pp <= 3.0
    assert problem.applied[-1] == mapping


def test_what_buys_least_goes_first():
    """Layer c alone is beyond the bound; it goes back, and the others stay."""
    damages = {"a": 0.002, "b": 0.002, "c": 0.05, "d": 0.002}
    chips = SimulatedChips(damages, 1, n_deciding=2_000, n_held_out=4_000, is_rare=False, max_drop=2.5)
    mapping, tests, _, _ = run_confirmation(chips)
    assert mapping.analog == ("a", "b", "d")
    assert all("c" not in test.analog for test in tests if test.accepted)


def test_a_strategy_proposes_its_own_smaller_mappings():
    asked = []

    def shrink(mapping: LayerMapping, excess_pp: float) -> LayerMapping | None:
        asked.append(excess_pp)
        return mapping.with_placement("a", Placement.DIGITAL)

    chips = SimulatedChips({"a": 0.04, "b": 0.001}, 2, n_deciding=1_000, n_held_out=3_000, is_rare=False, max_drop=2.0)
    mapping, _, _, _ = run_confirmation(chips, shrink=shrink)
    assert mapping.analog == ("b",)
    assert asked == sorted(asked)
    assert asked[0] > 100 * RIGHT * 0.041 - 2.0 - 1.5  # the excess of the estimated drop


def test_nothing_passes_and_all_is_digital():
    chips = SimulatedChips({"a": 0.2, "b": 0.3}, 3, n_deciding=500, n_held_out=1_000, is_rare=False, max_drop=1.0)
    mapping, tests, guarantee, problem = run_confirmation(chips)
    assert (mapping.analog, guarantee.confirmed, guarantee.n_chips) == ((), True, 0)
    assert not any(test.accepted for test in tests)
    assert problem.applied[-1] == mapping


def test_original_weights_are_planned_when_retrained_ones_would_not_pass():
    chips = SimulatedChips({"a": 0.2, "b": 0.3}, 3, n_deciding=500, n_held_out=1_000, is_rare=False, max_drop=1.0)
    _, _, _, problem = run_confirmation(chips, n_steps=10)
    assert any(not mapping.analog for mapping in problem.applied[:-1])  # loads the weights of the task's model


def test_tests_before_a_stop_are_not_made_again(tmp_path: Path):
    def build() -> SimulatedChips:
        damages = {"a": 0.004, "b": 0.006, "c": 0.01, "d": 0.01}
        return SimulatedChips(damages, 5, n_deciding=800, n_held_out=1_500, is_rare=False, max_drop=2.0)

    path = tmp_path / "journal.jsonl"
    *whole, _ = run_confirmation(build(), path)
    lines = path.read_text().splitlines()
    assert Journal(path).count("smaller") >= 2
    assert Journal(path).count("holdout") == len(whole[1])
    for n_kept in range(len(lines) + 1):
        path.write_text("".join(f"{line}\n" for line in lines[:n_kept]))
        *again, problem = run_confirmation(build(), path)
        assert again == whole
        assert problem.applied[-1] == whole[0]


# ------------------------------------------------------------------------------------------------------- looks and bounds


def test_the_looks_share_the_error_probability():
    looks = plan_looks(0.05, 10)
    assert sum(look.error for look in looks) == pytest.approx(0.05)
    assert [(look.n_chips, look.share) for look in looks] == [(10, 0.5), (10, 1.0), (20, 1.0)]
    assert plan_looks(0.05, 1)[0].n_chips == 6
    with pytest.raises(ConfigError, match="error probability 0.7"):
        plan_looks(0.7, 10)


def test_only_looks_with_an_error_probability_accept():
    half, whole, last = plan_looks(0.05, 10)
    plain = {"chip_error_pp": 0.1, "sample_error_pp": 0.1, "confidence": None, "chip_yield": None}
    good = Drop(drop_pp=0.2, drop_ucb_pp=0.5, **plain)
    bad = Drop(drop_pp=1.2, drop_ucb_pp=1.5, **plain)
    unclear = Drop(drop_pp=0.8, drop_ucb_pp=1.5, **plain)
    assert [judge(drop, 1.0, half) for drop in (good, bad, unclear)] == [None, False, None]
    assert [judge(drop, 1.0, whole) for drop in (good, bad, unclear)] == [True, False, None]
    assert [judge(drop, 1.0, last, is_last=True) for drop in (good, bad, unclear)] == [True, False, False]


@pytest.mark.parametrize("confidence", [0.95, 0.99, 0.999])
def test_a_guarded_bound_covers_losses_that_no_sample_shows(confidence: float):
    ones = torch.ones(500)
    drop = estimate_drop(torch.ones(8), ones, ones, confidence=confidence, guarded=True)
    exact = 100 * float(stats.beta.ppf(confidence, 1, 500))  # Clopper-Pearson for 0 of 500
    assert exact <= drop.drop_ucb_pp <= 1.8 * exact
    assert drop.drop_pp == 0


def test_fewer_samples_than_needed_cannot_pass():
    needed = count_needed(1.0, 0.05, ACCURACY)
    for n_samples, passes in ((needed, True), (needed - 10, False)):
        ones = torch.ones(n_samples)
        limit = estimate_drop(torch.ones(8), ones, ones, confidence=0.95, guarded=True).drop_ucb_pp
        assert (limit <= 1.0) == passes
    assert count_needed(1.0, 0.05, Metric("MAE", unit="mm", higher_is_better=False)) == 100


def test_merged_chips_are_those_of_one_evaluation():
    scores = torch.rand(5, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def estimate(rows: torch.Tensor) -> Accuracy:
        return estimate_mean(rows.mean(1).tolist(), t_inference=DAY, samples=rows.mean(0), metric=ACCURACY)

    merged, whole = merge_chips(estimate(scores[:2]), estimate(scores[2:]), metric=ACCURACY), estimate(scores)
    assert merged == whole
    assert torch.allclose(merged.samples, whole.samples)
    with pytest.raises(ConfigError, match="merge: got evaluations"):
        merge_chips(estimate(scores), estimate(scores[:, :30]))


# ------------------------------------------------------------------------------------------------------ smaller mappings


def test_the_cheapest_reliefs_are_those_of_all_subsets():
    generator = torch.Generator().manual_seed(0)
    names = list("abcdefg")
    mapping = LayerMapping(dict.fromkeys(names, Placement.ANALOG))
    for _ in range(30):
        costs, drops = torch.rand(2, len(names), generator=generator).tolist()
        reliefs = [Relief(*each) for each in zip(names, costs, drops, strict=True)]
        excess = float(torch.rand((), generator=generator)) * sum(drops)
        kept = CheapestRelief(reliefs)(mapping, excess)
        taken = [each for each in reliefs if not kept.is_analog(each.fqn)]
        sets = itertools.chain.from_iterable(itertools.combinations(reliefs, n) for n in range(len(names) + 1))
        best = min(
            sum(each.saved_cost for each in chosen) for chosen in sets if sum(each.drop_pp for each in chosen) >= excess
        )
        assert sum(each.drop_pp for each in taken) >= excess - 1e-6
        assert sum(each.saved_cost for each in taken) == pytest.approx(best, abs=1e-5)


def test_without_enough_relief_all_is_taken_and_without_any_nothing():
    mapping = LayerMapping(dict.fromkeys("abc", Placement.ANALOG))
    shrink = CheapestRelief([Relief("a", 1, 0.5), Relief("b", 1, 0.0), Relief("c", 1, 0.2)])
    assert shrink(mapping, 9.0).analog == ("b",)
    assert CheapestRelief([Relief("a", 1, 0.0)])(mapping, 0.1) is None


def test_reliefs_are_measured_where_the_measurement_is_sharp():
    drops = share_out(1.0, {"a": 1.0, "b": 1.0}, {"a": (0.9, 1e-6), "b": (-5.0, 100.0)})
    assert drops == {"a": pytest.approx(0.9), "b": pytest.approx(0.5, rel=1e-2)}
    scaled = share_out(1.0, {"a": 1.0, "b": 1.0}, {"a": (0.2, 1e-6), "b": (0.2, 1e-6)})
    assert scaled == {"a": pytest.approx(0.5), "b": pytest.approx(0.5)}
    assert min(share_out(-0.3, {"a": 1.0, "b": 3.0}, {}).values()) > 0


# --------------------------------------------------------------------------------------------------- settings and samples


def test_presets_ask_for_a_guarantee_and_a_confidence_level_replaces_it(tmp_path: Path):
    assert [MapSettings.preset(name).search.guarantee for name in ("fast", "best", "paper")] == [0.95, 0.95, None]
    assert MapSettings().search.guarantee == 0.95
    assert MapSettings.preset("fast", confidence_level=0.9).search.guarantee is None
    assert read_settings("fast", assignments=["confidence_level=0.9"]).search.guarantee is None
    file = tmp_path / "settings.toml"
    file.write_text("[search]\nconfidence_level = 0.9\n")
    assert read_settings("fast", file).search.guarantee is None
    assert read_settings("fast", file, assignments=["guarantee=0.8"]).search.confidence_level is None
    with pytest.raises(ConfigError, match="expected one of the two"):
        SearchSpec(guarantee=0.9, confidence_level=0.9)


def test_a_third_decides_and_the_rest_is_held_out():
    task = build_task()
    deciding, held_out = split_validation(task, make_settings(search={"guarantee": 0.95}))
    assert (deciding.n_samples, held_out.n_samples) == (42, 86)
    deciding, held_out = split_validation(task, make_settings(search={"guarantee": 0.95, "validation_samples": 10}))
    assert (deciding.n_samples, held_out.n_samples) == (10, 118)


def test_too_few_samples_are_said_and_all_decide(tmp_path: Path):
    settings = make_settings(search={"guarantee": 0.95, "max_drop_pp": 2.0, "strategy": "all-analog"})
    task = build_task()
    assert split_validation(task, settings)[1] is None
    assert "128 validation samples leave 86 for the hold-out test" in explain_no_test(task, settings)
    results = map_layers(task, settings, run_dir=tmp_path / "run").results
    assert results.mapping.analog
    assert (results.guarantee.confirmed, results.holdout_tests) == (False, ())
    [caution] = [each.text for each in results.summary.cautions if each.code == "unconfirmed"]
    assert caution.startswith("The bound is not confirmed: 128 validation samples leave 86")


def test_a_metric_of_a_set_is_not_confirmed_and_said():
    task = SimpleNamespace(
        metric=Metric("RMSE", unit="mm", higher_is_better=False, scope="set"), validation=build_task().validation
    )
    assert "computed over the whole set" in explain_no_test(task, make_settings(search={"guarantee": 0.95}))


# --------------------------------------------------------------------------------------------------------- whole runs


def read_devices(names: Sequence[str], *, by_layer: bool) -> dict[str, list[ChipRead]]:
    model = copy_model(build_task().model)
    placements = {fqn: Placement.ANALOG if fqn in names else Placement.DIGITAL for fqn in ("0", "3", "7")}
    convert_to_analog_(model, LayerMapping(placements), TileSpec(rows=32, cols=32))
    ensemble = ChipEnsemble(model, n_chips=1, times=[DAY], streams=RandomStreams(0), by_layer=by_layer)
    [reads] = ensemble.program(0)
    return dict(zip(analog_layers(model), reads, strict=True))


def test_chips_by_layer_are_the_same_in_all_mappings():
    def weights(read: ChipRead) -> torch.Tensor:
        return torch.cat([part.flatten() for row, _ in read.weights for part in row])

    for by_layer in (True, False):
        alone, together = read_devices(["3"], by_layer=by_layer), read_devices(["0", "3", "7"], by_layer=by_layer)
        assert torch.equal(weights(alone["3"]), weights(together["3"])) == by_layer


class KilledError(BaseException):
    """Stands for a kill."""


@pytest.mark.usefixtures("small_noise_pool")
def test_a_run_is_confirmed_and_the_same_after_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    settings = make_settings(search={"guarantee": 0.9, "max_drop_pp": 25.0})
    whole = map_layers(build_task(), settings, run_dir=tmp_path / "whole").results
    assert whole.guarantee.confirmed
    assert whole.guarantee.n_tests == len(whole.holdout_tests) >= 1
    if whole.mapping.analog:
        assert any("confirmed with a probability of 90 %" in text for text in whole.summary.remarks)
    n_lines = len((tmp_path / "whole" / "journal.jsonl").read_text().splitlines())
    append = lionheart.runs.journal._append_line
    for n_before in range(2, n_lines, 3):
        left = n_before

        def kill(*args: Any) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise KilledError
            append(*args)

        run = tmp_path / f"killed-{n_before}"
        with monkeypatch.context() as patch:
            patch.setattr(lionheart.runs.journal, "_append_line", kill)
            with pytest.raises(KilledError):
                map_layers(build_task(), settings, run_dir=run)
        resumed = resume_run(build_task(), run).results
        assert resumed.mapping == whole.mapping
        assert resumed.guarantee == whole.guarantee
        assert resumed.holdout_tests == whole.holdout_tests
        assert resumed.test_over_time == whole.test_over_time

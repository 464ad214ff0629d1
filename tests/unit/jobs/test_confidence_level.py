"""Bounds with a stated confidence: limits of drops, held-out samples, and that promises are kept on a real task."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from benchmark_scripts import load_benchmark
from fake_problem import make_accuracy
from scipy import stats

from lionheart.errors import ArtifactError, ConfigError
from lionheart.evaluation import estimate_drop
from lionheart.jobs.context import Context
from lionheart.jobs.post.holdout import order_of_acceptance, run_holdout_tests
from lionheart.mapping import LayerMapping, Placement
from lionheart.metrics import ACCURACY
from lionheart.progress import SILENT
from lionheart.runs import Accuracy, Drop, HoldoutTest, Journal, TrainTrace
from lionheart.search import Decision, SearchOutcome, SearchResult, SearchSpec

DAY = 86_400.0

# ------------------------------------------------------------------------------------------------------------- estimates


def draw_scores(
    seed: int, n_chips: int, n_samples: int, chip_sigma: float = 0.01
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return scores of chips, of samples, and of the digital network: 90 % right; on chips 5 % of the right ones go wrong."""
    generator = torch.Generator().manual_seed(seed)
    digital = (torch.rand(n_samples, generator=generator) < 0.9).double()
    damage = (0.05 + chip_sigma * torch.randn(n_chips, 1, generator=generator)).clamp(0, 1)
    fragile = torch.rand(n_samples, generator=generator).double() * 2  # some samples suffer more on every chip
    broken = torch.rand(n_chips, n_samples, generator=generator) < damage * fragile
    analog = digital * ~broken
    return analog.mean(1), analog.mean(0), digital


TRUE_DROP = 100 * 0.9 * 0.05


@pytest.mark.parametrize(("n_chips", "n_samples"), [(3, 2_000), (20, 300), (6, 500)])
def test_the_limit_of_the_mean_holds_as_often_as_it_says(n_chips: int, n_samples: int):
    held, n = 0, 400
    for seed in range(n):
        chips, samples, digital = draw_scores(seed, n_chips, n_samples)
        held += estimate_drop(chips, samples, digital, confidence=0.9).drop_ucb_pp >= TRUE_DROP
    assert held >= stats.binom.ppf(0.001, n, 0.9)
    assert held <= 0.995 * n  # and is no wider than it must


def test_the_limit_for_a_share_of_chips_holds_as_often_as_it_says():
    held, n = 0, 300
    true = TRUE_DROP + 100 * 0.9 * 0.01 * stats.norm.ppf(0.9)
    for seed in range(n):
        chips, samples, digital = draw_scores(seed, 10, 4_000)
        held += estimate_drop(chips, samples, digital, confidence=0.9, chip_yield=0.9).drop_ucb_pp >= true
    assert held >= stats.binom.ppf(0.001, n, 0.9)


def test_without_a_confidence_the_estimate_is_the_limit():
    chips, samples, digital = draw_scores(0, 6, 500)
    estimate = estimate_drop(chips, samples, digital)
    assert estimate.drop_ucb_pp == estimate.drop_pp == pytest.approx(100 * float(digital.mean() - chips.mean()))
    some = estimate_drop(chips, samples, digital, chip_yield=0.9)
    assert some.drop_ucb_pp == some.drop_pp > estimate.drop_pp


def test_more_chips_and_samples_narrow_the_limit():
    widths = []
    for n_chips, n_samples in ((4, 400), (8, 1_600), (16, 6_400)):
        estimate = estimate_drop(*draw_scores(1, n_chips, n_samples), confidence=0.95)
        widths.append(estimate.drop_ucb_pp - estimate.drop_pp)
    assert widths[0] > 1.5 * widths[1] > 2 * widths[2]


def test_a_network_that_never_differs_has_no_doubt():
    ones = torch.ones(100)
    estimate = estimate_drop(torch.ones(3), ones, ones, confidence=0.99)
    assert (estimate.drop_pp, estimate.drop_ucb_pp) == (0.0, 0.0)


def test_one_chip_or_other_samples_are_clear_errors():
    with pytest.raises(ConfigError, match="got 1 chips and 9 samples, expected at least 2"):
        estimate_drop(torch.ones(1), torch.ones(9), torch.ones(9), confidence=0.9)
    with pytest.raises(ConfigError, match="reference scores of shape"):
        estimate_drop(torch.ones(2), torch.ones(9), torch.ones(8))


def test_times_of_a_lifetime():
    assert SearchSpec().decision_times() == (DAY,)
    times = SearchSpec(lifetime="1mo").decision_times()
    assert times[:3] == (1.0, 10.0, 100.0)
    assert times[-1] == 2_592_000.0
    assert all(1 < b / a <= 10.000001 for a, b in itertools.pairwise(times))
    assert SearchSpec(lifetime=0.5).decision_times() == (0.5,)


# ------------------------------------------------------------------------------------------------------- the last word


class FakeProblem:
    """Keeps the bound with at most `largest` projections."""

    def __init__(self, largest: int) -> None:
        self.largest, self.asked, self.restored = largest, [], None

    def test_holdout(self, mapping: LayerMapping, number: int, confidence: float) -> tuple[Accuracy, Drop]:
        self.asked.append((len(mapping.analog), round(confidence, 6)))
        limit = 0.5 if len(mapping.analog) <= self.largest else 1.5
        drop = Drop(
            drop_pp=limit - 0.4, drop_ucb_pp=limit, chip_error_pp=0.1, sample_error_pp=0.1, confidence=confidence,
            chip_yield=None,
        )  # fmt: skip
        return make_accuracy(0.9), drop

    def restore(self, mapping: LayerMapping) -> None:
        self.restored = mapping


def make_context(path: Path | None = None, confidence_level: float | None = 0.9) -> Context:
    """Return the context of a job without a network."""
    settings = SimpleNamespace(search=SearchSpec(confidence_level=confidence_level, max_drop_pp=1.0))
    return Context(SimpleNamespace(metric=ACCURACY), settings, None, (), Journal(path), SILENT)


def decide(index: int, fqn: str, analog: Sequence[str], *, accepted: bool = True) -> Decision:
    return Decision(
        index=index, fqn=fqn, macs=1, accepted=accepted, accuracy=make_accuracy(0.9), drop_pp=0.1, drop_ucb_pp=0.1,
        train=TrainTrace(), elapsed_s=0.0, analog=tuple(analog) if accepted else None,
    )  # fmt: skip


def found_mapping(n: int) -> SearchResult:
    names = [f"L{i}" for i in range(n)]
    decisions = tuple(decide(i, name, names[: i + 1]) for i, name in enumerate(names))
    return SearchResult(LayerMapping(dict.fromkeys(names, Placement.ANALOG)), decisions, SearchOutcome.MAPPED)


def test_without_a_promise_nothing_is_tested():
    problem = FakeProblem(0)
    mapping, tests = run_holdout_tests(make_context(confidence_level=None), problem, found_mapping(3))
    assert (mapping.analog, tests, problem.asked) == (("L0", "L1", "L2"), (), [])


@pytest.mark.parametrize(
    ("largest", "sizes"), [(9, [8]), (7, [8, 7]), (6, [8, 7, 5]), (4, [8, 7, 5, 1]), (0, [8, 7, 5, 1])]
)
def test_what_went_analog_last_goes_back_first(largest: int, sizes: list[int]):
    problem = FakeProblem(largest)
    mapping, tests = run_holdout_tests(make_context(), problem, found_mapping(8))
    assert [size for size, _ in problem.asked] == sizes
    kept = sizes[-1] if sizes[-1] <= largest else 0
    assert mapping.analog == tuple(f"L{i}" for i in range(kept))
    assert problem.restored == mapping
    assert [len(test.analog) for test in tests] == sizes
    assert [test.accepted for test in tests] == [False] * (len(sizes) - (kept > 0)) + [True] * (kept > 0)


def test_all_tests_together_have_the_doubt_of_the_promise():
    problem = FakeProblem(0)
    run_holdout_tests(make_context(), problem, found_mapping(30))
    doubts = [1 - confidence for _, confidence in problem.asked]
    assert doubts[0] == pytest.approx(0.05)
    assert sum(doubts) <= 0.1


def test_tests_made_before_a_stop_are_not_made_again(tmp_path: Path):
    path, first = tmp_path / "journal.jsonl", FakeProblem(6)
    whole = run_holdout_tests(make_context(path), first, found_mapping(8))
    assert Journal(path).count("holdout") == len(first.asked) == 3
    lines = path.read_text().splitlines()
    for n_kept in range(4):
        path.write_text("".join(f"{line}\n" for line in lines[:n_kept]))
        again = FakeProblem(6)
        assert run_holdout_tests(make_context(path), again, found_mapping(8)) == whole
        assert again.asked == first.asked[n_kept:]
        assert again.restored == first.restored


def test_a_test_that_was_written_down_is_believed(tmp_path: Path):
    path = tmp_path / "journal.jsonl"
    _, (test, *_) = run_holdout_tests(make_context(path), FakeProblem(9), found_mapping(8))
    path.unlink()
    Journal(path).once("holdout 0", HoldoutTest, lambda: test.replace(accepted=False))
    assert run_holdout_tests(make_context(path), FakeProblem(9), found_mapping(8))[0].analog == test.analog[:7]


def test_order_of_acceptance_follows_decisions_and_forgets_what_went_back():
    tried = (["c", "a"], ["x"], ["a", "b", "c"], ["a", "b"])
    decisions = tuple(decide(index, "group", analog, accepted=analog != ["x"]) for index, analog in enumerate(tried))
    mapping = LayerMapping({name: Placement.ANALOG if name in "ab" else Placement.DIGITAL for name in "abcx"})
    assert order_of_acceptance(decisions, mapping) == ["a", "b"]


# ------------------------------------------------------------------------------------------------------ the promise holds


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    return load_benchmark("studies/confidence_level")


@pytest.mark.usefixtures("small_noise_pool")
def test_a_promise_is_broken_no_more_often_than_it_says(benchmark: ModuleType):
    """Searches on CIFAR-10 at 8 x 8, each with other images and chips; without the promise the bound breaks far more often."""
    bound, n = 2.0, 30
    try:
        promised = benchmark.repeat(n, bound, 0.9)
    except ArtifactError as error:
        pytest.skip(error.message)
    _, broken = benchmark.count_broken(promised, bound)
    allowed = int(stats.binom.ppf(0.99, n, 0.1))
    assert broken <= allowed
    assert sum(share for _, share in promised) / n > 0.3  # it promises something
    n_free = 40
    _, broken_without = benchmark.count_broken(benchmark.repeat(n_free, bound, None), bound)
    assert broken_without / n_free > allowed / n  # what this test would see without the machinery

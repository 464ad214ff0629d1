"""A network under search whose accuracy is known: what strategies are tested with. No training, no physics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hypothesis import strategies as st

from lionheart.candidates import Candidate
from lionheart.devices import ReadPolicy
from lionheart.graph import LayerNode
from lionheart.mapping import LayerMapping, Placement
from lionheart.partition import partition_matrix
from lionheart.runs import Accuracy, TrainTrace
from lionheart.search import STRATEGIES, Decision, Objective, SearchLoop, SearchResult, Trial, check_candidates

BASELINE = 0.9
LEVELS = (ReadPolicy(), ReadPolicy(n_reads=2), ReadPolicy(n_reads=4))

# Multiples of 1/8 pp, and bounds between them: no drop lies on the bound, where the last bit would decide.
damages = st.lists(st.integers(-8, 40).map(lambda eighths: eighths / 8), max_size=9)
bounds = st.integers(0, 40).map(lambda eighths: eighths / 8 + 1 / 16)
budgets = st.one_of(st.just(10**6), st.integers(0, 9))


def make_accuracy(mean: float, **changes: object) -> Accuracy:
    """Return what one chip without any spread would have."""
    plain = {"t_inference": 86_400.0, "mean": mean, "low": mean, "high": mean, "std": 0.0, "n_chips": 1}
    return Accuracy(**{**plain, "scores": (mean,), **changes})


@dataclass
class FakeProblem:
    """Each layer on tiles lowers the accuracy by its damage [pp] over its reads; the log says what the strategy asked for."""

    damage_pp: Sequence[float]
    n_affordable: int = 10**6
    past: Sequence[Decision] = ()
    healing: float = 1.0  # a training multiplies all damage
    trained: int = 0  # steps of the weights that hold
    n_trainings: int = 0
    tried: list[LayerMapping] = field(default_factory=list)
    settled: list[tuple[Decision, LayerMapping]] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    trial_trained: int = 0
    doubt_pp: float = 0.0  # what is held against the bound is more than the drop by that

    @property
    def n_decided(self) -> int:
        return len(self.past)

    def decide_once(self, index: int, decide: Callable[[], Decision]) -> Decision:
        if index < len(self.past):
            assert not self.settled  # the past comes first
            return self.past[index]
        assert index == len(self.past) + len(self.settled)  # in order, none twice
        return decide()

    def drop_pp(self, mapping: LayerMapping, trained: int = 0) -> float:
        damage = sum(self.damage_pp[int(name[1:])] / (mapping.policy_of(name).n_reads or 1) for name in mapping.analog)
        return damage * (self.healing if trained else 1.0)

    def try_mapping(self, mapping: LayerMapping, index: int, label: str, *, retrain: bool, early_stop: bool) -> Trial:
        self.tried.append(mapping)
        self.log.append(f"try {index} {label}")
        n_steps = 4 if retrain else 0
        self.n_trainings += retrain
        self.trial_trained = self.trained + n_steps
        return self.measured(mapping, TrainTrace(losses=(1.0,) * retrain, n_steps=n_steps), 0.5)

    def remeasure(self, mapping: LayerMapping, index: int, number: int, *, early_stop: bool) -> Trial:
        return self.measured(mapping, TrainTrace(), 0.25)

    def measured(self, mapping: LayerMapping, train: TrainTrace, elapsed_s: float) -> Trial:
        drop_pp = self.drop_pp(mapping, self.trial_trained)
        accuracy = make_accuracy(BASELINE - drop_pp / 100)
        return Trial(accuracy, drop_pp, drop_pp + self.doubt_pp, train, elapsed_s)

    def loss_increase(self, fqns: Sequence[str]) -> dict[str, float]:
        return {fqn: self.damage_pp[int(fqn[1:])] for fqn in fqns}

    def level_increases(self, fqns: Sequence[str], levels: Sequence[ReadPolicy]) -> list[dict[str, float]]:
        rises = self.loss_increase(fqns)
        return [{fqn: rise / (level.n_reads or 1) for fqn, rise in rises.items()} for level in levels]

    def expected_loss_increase(self, fqns: Sequence[str]) -> dict[str, float]:
        return {fqn: max(rise, 0.0) for fqn, rise in self.loss_increase(fqns).items()}

    def commit(self, decision: Decision, mapping: LayerMapping) -> None:
        assert decision.accepted
        self.trained = self.trial_trained
        self._choose("commit", decision, mapping)

    def rollback(self, decision: Decision, mapping: LayerMapping) -> None:
        assert not decision.accepted
        self._choose("rollback", decision, mapping)

    def is_out_of_budget(self) -> bool:
        return len(self.past) + len(self.tried) >= self.n_affordable

    def _choose(self, verb: str, decision: Decision, mapping: LayerMapping) -> None:
        self.settled.append((decision, mapping))
        self.log.append(f"{verb} {decision.index} {decision.fqn}")


def search(
    name: str,
    problem: FakeProblem,
    candidates: Sequence[Candidate],
    start: LayerMapping,
    *,
    max_drop_pp: float = 1.0,
    objective: Objective | None = None,
    levels: Sequence[ReadPolicy] = LEVELS,
) -> SearchResult:
    """Search as a run does with the strategy of a name."""
    check_candidates(name, candidates)
    strategy = STRATEGIES.find(name)
    loop = SearchLoop(
        problem,
        candidates,
        start,
        max_drop_pp=max_drop_pp,
        objective=objective,
        early_stop=strategy.early_stop,
        levels=levels,
    )
    strategy.search(loop)
    return loop.result()


def make_candidates(n: int, n_tiles: Sequence[int] | None = None) -> list[Candidate]:
    """Return layers ``L0``, ``L1``, ... with fewer and fewer products, of one tile each or as many as told."""
    all_rows = [4] * n if n_tiles is None else [8 * each for each in n_tiles]
    nodes = [
        LayerNode(f"L{i}", "linear", rows, cols=4, groups=1, n_mvms=n - i, n_calls=1, n_inputs=4, n_outputs=4,
                  has_bias=True)
        for i, rows in enumerate(all_rows)
    ]  # fmt: skip
    return [Candidate(node, partition_matrix(node.rows, 4, 1, 8, 8)) for node in nodes]


def start_mapping(n: int) -> LayerMapping:
    """One projection more than there are candidates: `kept` is none and must stay digital."""
    return LayerMapping({**{f"L{i}": Placement.DIGITAL for i in range(n)}, "kept": Placement.DIGITAL})


def run(name: str, problem: FakeProblem, bound: float = 1.0) -> SearchResult:
    """Search over as many layers as the problem has."""
    n = len(problem.damage_pp)
    return search(name, problem, make_candidates(n), start_mapping(n), max_drop_pp=bound)


def as_read_back(decisions: Sequence[Decision]) -> list[Decision]:
    """Return decisions as a journal gives them back."""
    return [Decision.from_json(each.to_json(), "journal") for each in decisions]


def steps_of(decisions: Sequence[Decision]) -> int:
    """Return the optimiser steps that decisions took."""
    return sum(each.train.n_steps for each in decisions)

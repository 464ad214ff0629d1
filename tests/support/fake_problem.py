"""A network under search whose accuracy is known: what strategies are tested with."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from lionheart.mapping import LayerMapping
from lionheart.search import Decision, Trial

BASELINE = 0.9


@dataclass
class FakeProblem:
    """Each layer on tiles lowers the accuracy by its damage [pp]; the log says what the strategy asked for."""

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

    def drop_pp(self, mapping: LayerMapping, trained: int = 0) -> float:
        damage = sum(self.damage_pp[int(name[1:])] for name in mapping.analog)
        return damage * (self.healing if trained else 1.0)

    def try_mapping(
        self, mapping: LayerMapping, index: int, fqn: str, *, retrain: bool = True, hasty: bool = False
    ) -> Trial:
        self.tried.append(mapping)
        self.log.append(f"try {index} {fqn}")
        n_steps = 4 if retrain else 0
        self.n_trainings += retrain
        self.trial_trained = self.trained + n_steps
        return self.measured(mapping, {"losses": [1.0] * retrain, "n_steps": n_steps}, 0.5)

    def remeasure(self, mapping: LayerMapping, index: int, number: int, *, hasty: bool = False) -> Trial:
        return self.measured(mapping, {}, 0.25)

    def measured(self, mapping: LayerMapping, train: dict, elapsed_s: float) -> Trial:
        drop_pp = self.drop_pp(mapping, self.trial_trained)
        return Trial({"mean": BASELINE - drop_pp / 100}, drop_pp, drop_pp + self.doubt_pp, train, elapsed_s)

    def loss_increase(self, fqns: Sequence[str]) -> dict[str, float]:
        return {fqn: self.damage_pp[int(fqn[1:])] for fqn in fqns}

    def expected_loss_increase(self, fqns: Sequence[str]) -> dict[str, float]:
        return {fqn: max(rise, 0.0) for fqn, rise in self.loss_increase(fqns).items()}

    def settle(self, decision: Decision, mapping: LayerMapping) -> None:
        self.trained = self.trial_trained if decision.accepted else self.trained
        self.settled.append((decision, mapping))
        self.log.append(f"settle {decision.index} {decision.fqn}")

    def is_out_of_budget(self) -> bool:
        return len(self.past) + len(self.tried) >= self.n_affordable

    def past_decisions(self) -> Sequence[Decision]:
        return self.past

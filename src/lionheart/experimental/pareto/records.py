"""What the search for a front writes: ``pareto.json``, and its steps in the journal."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lionheart.mapping import LayerMapping
from lionheart.metrics import Metric, drop_pp
from lionheart.record import Record
from lionheart.runs import Accuracy, DigitalBaseline


class MeasuredMapping(Record):
    """A mapping with what it reaches and what it costs."""

    number: int = Field(description="trial that asked for it first")
    mapping: LayerMapping = Field(description="where everything runs")
    accuracy: Accuracy = Field(description="over chips")
    cost: float = Field(description="to be small, in the unit of the objective")
    elapsed_s: float = Field(description="wall time of the measurement [s]")

    @property
    def mean(self) -> float:
        """Mean accuracy, 0 to 1."""
        return self.accuracy.mean

    def drop_pp(self, baseline: float) -> float:
        """Return the drop against the digital accuracy `baseline` (0 to 1) [pp]."""
        return drop_pp(baseline, self.mean)


class FreshMeasurement(Record):
    """A mapping measured on chips and samples that did not choose it."""

    accuracy: Accuracy = Field(description="over fresh chips")
    drop_pp: float = Field(description="against the digital network on all of validation [pp]")


class FrontRow(Record):
    """One mapping of a front's search."""

    number: int = Field(description="trial")
    on_front: bool = Field(description="whether no other mapping is better in both accuracy and cost")
    mapping: LayerMapping = Field(description="where everything runs")
    accuracy: Accuracy = Field(description="on the chips and samples that chose the front")
    drop_pp: float = Field(description="against the digital network on these samples [pp]")
    fresh: FreshMeasurement | None = Field(None, description="of members of the front")
    cost: float = Field(description="in the unit of the objective")
    analog_mac_share: float = Field(description="share of the MACs on tiles, 0 to 1")
    analog_weight_share: float = Field(description="share of the weights on tiles, 0 to 1")
    n_analog: int = Field(description="projections on tiles")
    n_tiles: int = Field(description="crossbars")
    latency_s: float | None = Field(None, description="time of one inference [s]; None without a platform")
    energy_j: float | None = Field(None, description="energy of one inference [J]; None without a platform")
    elapsed_s: float = Field(description="wall time of the measurement [s]")


class BoundRow(Record):
    """The front's best mapping for one bound."""

    max_drop_pp: float = Field(description="the bound [pp]")
    number: int | None = Field(description="trial of the mapping; None = none is within the bound")
    file: str | None = Field(description="mapping, in the run directory")
    is_confirmed: bool = Field(description="whether fresh chips kept the bound too")
    first_choice: int | None = Field(description="trial that the first measurements alone would have chosen")


class FrontResults(Record):
    """Everything that the search for a front found: ``pareto.json``."""

    schema_version: Literal[2] = Field(2, description="of this record")
    task: str = Field(description="name of the task")
    metric: Metric = Field(description="what the scores mean")
    complete: bool = Field(description="whether the search ended by itself")
    objective: Literal["macs", "weights", "time", "energy"] = Field(description="what is weighed against accuracy")
    max_tiles: int | None = Field(None, description="limit of crossbars; None = none")
    platform: str | None = Field(description="that prices mappings")
    t_inference: float = Field(description="time since programming of all accuracies [s]")
    confidence: float = Field(description="of the intervals")
    n_chips: int = Field(description="chips of each mapping")
    n_chips_final: int = Field(description="fresh chips of the front's members")
    validation_samples: int | None = Field(description="samples that chose the front; None = all")
    n_trials: int = Field(description="mappings that were to be measured")
    baseline: DigitalBaseline = Field(description="scores of the digital network")
    n_projections: int = Field(description="projections of the network")
    mappings: tuple[FrontRow, ...] = Field(description="everything measured, in order")
    front: tuple[int, ...] = Field(description="trials on the front, the cheapest first")
    bounds: tuple[BoundRow, ...] = Field(description="the best mapping for each bound")
    elapsed_s: float = Field(description="wall time of all measurements [s]")

    @property
    def rows(self) -> dict[int, FrontRow]:
        """The mappings by trial."""
        return {row.number: row for row in self.mappings}

    @property
    def front_rows(self) -> tuple[FrontRow, ...]:
        """The front's members, the cheapest first."""
        return tuple(self.rows[number] for number in self.front)

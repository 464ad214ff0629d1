"""Records that a search for a Pareto front stores in ``pareto.json`` and in the journal of the run."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lionheart.mapping import LayerMapping
from lionheart.metrics import Metric
from lionheart.record import Record
from lionheart.runs import Accuracy, DigitalBaseline


class MeasuredMapping(Record):
    """A mapping that a search for a Pareto front measured, with the accuracy and the cost of the mapping."""

    number: int = Field(description="first trial that proposed the mapping")
    mapping: LayerMapping = Field(description="placement of each projection (weight matrix)")
    accuracy: Accuracy = Field(description="accuracy over chips")
    cost: float = Field(description="cost to minimise, in the unit of the objective")
    elapsed_s: float = Field(description="wall time of the measurement [s]")

    @property
    def mean(self) -> float:
        """Mean score of the mapping over chips."""
        return self.accuracy.mean


class FreshMeasurement(Record):
    """Accuracy of a mapping on the front, measured again on newly programmed simulated chips and all validation samples."""

    accuracy: Accuracy = Field(description="accuracy over fresh chips")
    drop_pp: float = Field(description="drop against the digital network on all validation samples [pp]")


class FrontRow(Record):
    """One mapping that was measured in a search for a Pareto front, as stored in ``pareto.json``."""

    number: int = Field(description="number of the trial")
    on_front: bool = Field(description="whether the mapping is on the Pareto front of accuracy and cost")
    mapping: LayerMapping = Field(description="placement of each projection (weight matrix)")
    accuracy: Accuracy = Field(description="accuracy on the chips and samples that determine the front")
    drop_pp: float = Field(description="drop against the digital network on these samples [pp]")
    fresh: FreshMeasurement | None = Field(
        None, description="measurement on fresh chips; only for members of the front"
    )
    cost: float = Field(description="cost in the unit of the objective")
    analog_mac_share: float = Field(description="fraction of the MACs on tiles, 0 to 1")
    analog_weight_share: float = Field(description="fraction of the weights on tiles, 0 to 1")
    n_analog: int = Field(description="number of projections (weight matrices) on tiles")
    n_tiles: int = Field(description="number of tiles in use")
    latency_s: float | None = Field(None, description="time of one inference [s]; None without a platform")
    energy_j: float | None = Field(None, description="energy of one inference [J]; None without a platform")
    elapsed_s: float = Field(description="wall time of the measurement [s]")


class BoundRow(Record):
    """The mapping on the Pareto front with the lowest cost that meets one bound of the accuracy drop."""

    max_drop_pp: float = Field(description="the bound, in the unit of the metric's drop (pp for a share)")
    max_drop: str | None = Field(
        None,
        description="the bound as it was given, if it is relative to the digital value ('2 % rel'); left out otherwise",
        exclude_if=lambda value: value is None,
    )
    number: int | None = Field(description="trial of the mapping; None if no mapping is within the bound")
    file: str | None = Field(description="file of the mapping in the run directory")
    is_confirmed: bool = Field(description="whether the mapping also meets the bound on fresh chips")
    first_choice: int | None = Field(description="trial that the measurements of the search alone would select")


class FrontResults(Record):
    """Results of a search for a Pareto front, as stored in ``pareto.json``."""

    schema_version: Literal[2] = Field(2, description="version of this record")
    task: str = Field(description="name of the task")
    metric: Metric = Field(description="metric of the scores")
    complete: bool = Field(description="whether the search completed")
    objective: Literal["macs", "weights", "time", "energy"] = Field(
        description="cost that is minimised along with the accuracy drop"
    )
    max_tiles: int | None = Field(None, description="largest number of tiles; None for no limit")
    platform: str | None = Field(description="platform of the cost estimates")
    t_inference: float = Field(description="time since programming of all accuracies [s]")
    confidence: float = Field(description="confidence level of the intervals")
    n_chips: int = Field(description="chips in each measurement of the search")
    n_chips_final: int = Field(description="fresh chips for each member of the front")
    validation_samples: int | None = Field(description="validation samples of the search; None for all")
    n_trials: int = Field(description="requested number of mappings")
    baseline: DigitalBaseline = Field(description="scores of the digital network")
    n_projections: int = Field(description="projections of the network")
    mappings: tuple[FrontRow, ...] = Field(description="all measured mappings, in order of measurement")
    front: tuple[int, ...] = Field(description="trials on the front, by increasing cost")
    bounds: tuple[BoundRow, ...] = Field(description="the best mapping for each bound")
    elapsed_s: float = Field(description="wall time of all measurements [s]")

    @property
    def rows(self) -> dict[int, FrontRow]:
        """Rows of all measured mappings. The key of a row is the number of the first trial that proposed the mapping."""
        return {row.number: row for row in self.mappings}

    @property
    def front_rows(self) -> tuple[FrontRow, ...]:
        """Mappings on the front, in ascending order of cost."""
        return tuple(self.rows[number] for number in self.front)

"""The record of a guarantee: whether a run confirmed that its mapping keeps the bound, and on which data."""

from __future__ import annotations

from pydantic import Field

from lionheart.record import Record


class Guarantee(Record):
    """Result of the sequential hold-out test of a run, on chips and samples that decided nothing."""

    probability: float = Field(
        description="smallest probability, over runs, that a run ends with a mapping that keeps its bound, 0 to 1"
    )
    confirmed: bool = Field(
        description="whether the mapping passed the test; a mapping without analog layers needs none"
    )
    n_chips: int = Field(0, description="fresh simulated chips of the test that the mapping passed")
    n_samples: int = Field(0, description="validation samples of this test, which no decision used")
    drop_pp: float | None = Field(None, description="drop of the mapping in this test [pp]; None = no test was passed")
    drop_ucb_pp: float | None = Field(None, description="upper confidence bound of this drop [pp]")
    margin_pp: float | None = Field(
        None, description="distance below the bound at which a test can pass, predicted before the tests [pp]"
    )
    original_weights: bool = Field(
        False,
        description="whether the mapping has the weights before the search, because retrained ones would not pass",
    )
    n_tests: int = Field(0, description="mappings that were tested")
    reason: str = Field("", description="why no mapping could be tested; empty if mappings were tested")

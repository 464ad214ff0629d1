"""What a task's scores mean, and how their mean and a drop of it are written: in one place, for terminal, report and cards."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, final

from lionheart.errors import ArtifactError


@final
@dataclass(frozen=True)
class Measure:
    """What a task's scores mean, and how their mean and a drop of it are written.

    Args:
        name: Of the mean of the scores: ``"accuracy"``, ``"F1"``, ``"perplexity"``.
        drop_unit: Of 100 times a difference of means.
        kind: ``share``: scores are from 0 to 1 and their mean is written in percent. ``perplexity``: a score is minus the
            cross-entropy of a sample in nats, ``exp`` of minus the mean is written, and a drop is in log-percent: perplexity
            times ``exp(drop / 100)``.
    """

    name: str = "accuracy"
    drop_unit: str = "pp"
    kind: Literal["share", "perplexity"] = "share"

    @classmethod
    def from_json(cls, data: Any, where: str) -> Measure:
        """Return the measure that `to_json` wrote; None, as in results of before there were others, is accuracy.

        Raises:
            ArtifactError: It is something else.
        """
        if data is None:
            return ACCURACY
        if isinstance(data, Mapping) and data.keys() == asdict(ACCURACY).keys():
            measure = cls(**data)
            if measure.kind in ("share", "perplexity"):
                return measure
        raise ArtifactError(
            f"{where}: measure: got {data!r}, expected name, drop_unit and kind", hint="the file is damaged; restore it"
        )

    def to_json(self) -> dict[str, str]:
        """Return plain data."""
        return asdict(self)

    def value_of(self, mean: float) -> float:
        """Return what the measure's name stands for, given a mean of scores: the mean itself, or the perplexity."""
        return math.exp(-mean) if self.kind == "perplexity" else mean


ACCURACY = Measure()
F1 = Measure("F1", "F1 points")
PERPLEXITY = Measure("perplexity", "log-%", "perplexity")

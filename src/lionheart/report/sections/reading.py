"""Section of the report page that explains how to read the page and how to reproduce the run."""

from __future__ import annotations

from typing import Any

from lionheart.report.data import ReportData
from lionheart.report.sections._base import SECTIONS, Section
from lionheart.runs.text import format_percent


def describe(data: ReportData) -> dict[str, Any]:
    """Return the template value of this section: the confidence level of all intervals on the page, for example ``"95 %"``."""
    return {"confidence": format_percent(data.results.confidence, 0)}


SECTIONS.add("reading", Section(70, describe))

"""The interface of a section of the page, and the registry of sections."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final

from lionheart.registry import Registry
from lionheart.report.data import ReportData


@final
@dataclass(frozen=True)
class Section:
    """One section of the page. The values from `describe` fill the template with the section's name.

    Args:
        order: Position on the page; sections with smaller numbers come first.
        describe: Function that returns the values for the template; None leaves the section out of the page.
        in_header: Whether the section is in the header of the page, above the other sections.
    """

    order: int
    describe: Callable[[ReportData], Mapping[str, Any] | None]
    in_header: bool = False


SECTIONS: Registry[Section] = Registry(
    "report section", "sections", package="lionheart.report.sections", one_per_module=True
)

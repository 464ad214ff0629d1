"""The interface of sections of the report page, and the registry of sections."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final

from lionheart.registry import Registry
from lionheart.report.data import ReportData


@final
@dataclass(frozen=True)
class Section:
    """One section of the report page. The template has the same name as the section.

    Args:
        order: Position on the page. Sections with smaller numbers are higher on the page.
        describe: Function that receives the records of a run and returns the values for the template. If it returns None, the
            page does not contain the section.
        in_header: Whether the section is in the header of the page, above the other sections.
    """

    order: int
    describe: Callable[[ReportData], Mapping[str, Any] | None]
    in_header: bool = False


SECTIONS: Registry[Section] = Registry(
    "report section", "sections", package="lionheart.report.sections", one_per_module=True
)

"""What a section of the page provides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final

from lionheart.registry import Registry
from lionheart.report.data import ReportData


@final
@dataclass(frozen=True)
class Section:
    """One section of the page. The values of `describe` fill the template that has its name.

    Args:
        order: Its place; smaller numbers come first.
        describe: Returns the values for the template; None = the page has no such section.
        in_header: Whether it stands above the others, in the head of the page.
    """

    order: int
    describe: Callable[[ReportData], Mapping[str, Any] | None]
    in_header: bool = False


SECTIONS: Registry[Section] = Registry(
    "report section", "sections", package="lionheart.report.sections", one_per_module=True
)

"""Render the report page: each section fills its template, and one page template combines the sections and the style sheet."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from lionheart.files import write_text
from lionheart.report.data import ReportData
from lionheart.report.sections import SECTIONS
from lionheart.text import escape_controls

_BEFORE_UNIT = re.compile(r"(?<=[\d\]]) (?=(?:%|pp|log-%|F1|MACs|chips|[pnµmkMGT]?(?:s|J|Hz|W))(?![\w]))")


def tie_units(text: str) -> str:
    """Return `text` with the space between each number and its unit replaced by a no-break space."""
    return _BEFORE_UNIT.sub("\u00a0", text)


def _break_dots(name: str) -> Markup:
    """Return a dotted name as HTML that allows a line break after each dot, unless an index follows the dot."""
    return Markup(".<wbr>").join(escape(part) for part in re.split(r"\.(?!\d)", name))


@cache
def environment(package: str = "lionheart.report") -> Environment:
    """Return a Jinja environment that searches for templates in the package `package` and then in `lionheart.report`."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(name) for name in dict.fromkeys([package, "lionheart.report"])]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["tie"] = tie_units
    environment.filters["break_dots"] = _break_dots
    return environment


def render_report(data: ReportData) -> str:
    """Return the report page of a run as self-contained HTML."""
    ordered = sorted(SECTIONS.items(), key=lambda item: item[1].order)
    head: list[Markup] = []
    body: list[Markup] = []
    for name, section in ordered:
        values = section.describe(data)
        if values is not None:
            template = environment().get_template(f"{name}.html.j2")
            text = Markup(template.render({**values, "data": data, "metric": data.metric}))  # noqa: S704  autoescaped
            (head if section.in_header else body).append(text)
    page = environment().get_template("page.html.j2")
    return escape_controls(page.render(data=data, summary=data.summary.headline, head=head, body=body))


def write_report(data: ReportData, out: Path) -> Path:
    """Write the report page of a run to a file atomically.

    Args:
        data: Records of the run.
        out: Path of the HTML file.

    Returns:
        The path `out`.

    Raises:
        ArtifactError: The file cannot be written.
    """
    write_text(out, render_report(data))
    return out

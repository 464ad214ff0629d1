"""Sections of the report page. Each module registers one section, which is rendered by ``templates/<name>.html.j2``.

The function `describe` of a section receives the records of a run and returns plain values for the template. Each template also
receives the variables `data` (the records of the run) and `metric` (the metric of the scores). To add a section, add a template
and a module that registers the section.
"""

from lionheart.report.sections._base import SECTIONS, Section

__all__ = ["SECTIONS", "Section"]

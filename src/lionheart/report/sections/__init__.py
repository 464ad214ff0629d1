"""Sections of the page: each module is one, with the template ``templates/<name>.html.j2``.

Takes: the records of a run. Returns: plain values for the template. Templates also see `data`, the records, and `metric`, what
the scores mean. To add a section, add a module that registers it and its template.
"""

from lionheart.report.sections._base import SECTIONS, Section

__all__ = ["SECTIONS", "Section"]

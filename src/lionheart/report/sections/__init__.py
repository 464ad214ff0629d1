"""Sections of the page: each module is one section with the template ``templates/<name>.html.j2``.

Input: the records of a run. Output: plain values for the template. Templates also receive `data`, the records, and `metric`,
the metric of the scores. To add a section, add a module that registers the section, and the template.
"""

from lionheart.report.sections._base import SECTIONS, Section

__all__ = ["SECTIONS", "Section"]

"""Report: one HTML page that explains a run.

Takes: the records of a run (its description, the network's graph, the results). Returns: one self-contained file that opens
without a network, in light, dark and print. Each module of `sections` is one section of the page. Must not know: how any
number was made; it computes shares and drops, and nothing else.
"""

from lionheart.report.data import ReportData
from lionheart.report.page import render_report, write_report
from lionheart.report.run import read_report_data, report_run
from lionheart.report.svg import LinearScale, element

__all__ = ["LinearScale", "ReportData", "element", "read_report_data", "render_report", "report_run", "write_report"]

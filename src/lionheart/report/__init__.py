"""Report: one HTML page that explains a run.

Input: the records of a run (its description, the network's graph, the results). Output: one self-contained HTML file with
light, dark and print styles that loads nothing over the network. Each module of `sections` is one section of the page. This
package must not know how a number was computed; apart from shares and accuracy drops the page computes nothing.
"""

from lionheart.report.data import ReportData
from lionheart.report.page import render_report, write_report
from lionheart.report.run import read_report_data, report_run
from lionheart.report.svg import LinearScale, element

__all__ = ["LinearScale", "ReportData", "element", "read_report_data", "render_report", "report_run", "write_report"]

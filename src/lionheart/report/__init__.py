"""Report: one HTML page that explains a run of LionHeart.

The package reads the records of a run: its description, the layer graph of the network, and the results. It writes one
self-contained HTML file with light, dark and print styles. Browsers can show this file without an internet connection. Each
module in `sections` renders one section of the page. The page shows recorded values and computes only fractions and accuracy
drops, so this package must not depend on the modules that compute the results.
"""

from lionheart.report.data import ReportData
from lionheart.report.page import render_report, write_report
from lionheart.report.run import read_report_data, report_run
from lionheart.report.svg import LinearScale, element

__all__ = ["LinearScale", "ReportData", "element", "read_report_data", "render_report", "report_run", "write_report"]

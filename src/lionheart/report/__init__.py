"""Report: one HTML page that explains a run.

Comes in: the plain data of a run (its settings, the network's graph, the results). Goes out: one self-contained file that
opens without a network, in light, dark and print. Must not know: how any number was made; it computes shares and drops, and
nothing else.
"""

from lionheart.report.page import render_report, write_report
from lionheart.report.run import report_run

__all__ = ["render_report", "report_run", "write_report"]

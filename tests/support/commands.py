"""The command line as tests call it."""

import re
from pathlib import Path

from typer.testing import CliRunner, Result

from lionheart.cli import app

TINY = """
[search]
max_drop_pp = 20.0
ranking = "weights"
strategy = "lionheart"
n_chips = 2
n_chips_final = 2
report_times = [1.0, "1h"]
[tile]
rows = 32
cols = 32
output_noise = 0.9
column_calibration = "none"
[train]
max_epochs = 2
steps_per_epoch = 4
learning_rate = 0.01
"""

#: Settings of a run with the same steps in less time, for tests that resume a run again and again.
QUICK = """
[search]
max_drop_pp = 60.0
ranking = "weights"
strategy = "lionheart"
n_chips = 1
n_chips_final = 1
report_times = ["1h"]
[tile]
rows = 128
cols = 32
output_noise = 0.9
column_calibration = "none"
[train]
max_epochs = 1
steps_per_epoch = 1
learning_rate = 0.01
"""


def lionheart_command(*arguments: str | Path) -> Result:
    """Run the command line at a width of 80 characters."""
    return CliRunner().invoke(app, [str(each) for each in arguments], env={"COLUMNS": "80", "TERM": "dumb"})


def assert_refused(result: Result, message: str, hint: str | None = None) -> None:
    """One message, one hint, exit code 2, no traceback, nothing on stdout."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert len(re.findall(r"^error: ", result.stderr, re.MULTILINE)) == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert "bug in lionheart" not in result.stderr
    assert result.stderr.count("  hint: ") == 1
    assert hint is None or hint in result.stderr.partition("  hint: ")[2]

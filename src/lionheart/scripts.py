"""What scripts share with the command line: progress bars on a terminal, tasks by name, exit codes.

Takes: names that a user typed. Returns: tasks. Nothing of the package imports this module.
"""

from lionheart.cli.console import EXIT_BAD_INPUT, EXIT_DONE, EXIT_INTERRUPTED, RichProgress
from lionheart.cli.tasks import load_task

__all__ = ["EXIT_BAD_INPUT", "EXIT_DONE", "EXIT_INTERRUPTED", "RichProgress", "load_task"]

"""Parts of the command line that scripts can import: progress bars on a terminal, loading of tasks by name, and exit codes.

No other module of the package imports this module.
"""

from lionheart.cli.console import EXIT_BAD_INPUT, EXIT_DONE, RichProgress
from lionheart.cli.signals import EXIT_INTERRUPTED
from lionheart.cli.tasks import load_task

__all__ = ["EXIT_BAD_INPUT", "EXIT_DONE", "EXIT_INTERRUPTED", "RichProgress", "load_task"]

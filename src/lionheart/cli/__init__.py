"""The command line. Each command parses its arguments, calls functions of the library, and prints the results.

JSON and templates are written to stdout, and text for the user to stderr.
"""

from lionheart.cli.app import app, main

__all__ = ["app", "main"]

"""Command line. Each command parses its arguments, calls the library once, and prints data to stdout and text to stderr."""

from lionheart.cli.app import app, main

__all__ = ["app", "main"]

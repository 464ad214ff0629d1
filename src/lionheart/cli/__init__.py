"""The command line: parse, make one library call, render. Data go to stdout, text for people to stderr."""

from lionheart.cli.app import app, main

__all__ = ["app", "main"]

"""Exports: formats in which other tools can read a finished run. Each module of this package defines one format.

The name of a format is the name of its module. The input of a format is an `ExportRequest`, and the output is an
`ExportResult`. The command line imports every module to create its help texts, so the modules must import torch and other large
libraries inside functions.
"""

from lionheart.exports._base import EXPORTS, Export, ExportRequest, ExportResult

__all__ = ["EXPORTS", "Export", "ExportRequest", "ExportResult"]

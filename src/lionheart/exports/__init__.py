"""Exports: formats of a finished run for other tools. Each module of this package is one format, under its own name.

Input: an `ExportRequest`. Output: an `ExportResult`. Modules are imported for help texts, so they must import torch and other
large libraries inside functions.
"""

from lionheart.exports._base import EXPORTS, Export, ExportRequest, ExportResult

__all__ = ["EXPORTS", "Export", "ExportRequest", "ExportResult"]

"""Exports: what a finished run can be handed on as. Each module of this package is one format, under the name of the module.

Takes: an `ExportRequest`. Returns: an `ExportResult`. Modules are imported for help texts, so they must import torch and other
large libraries inside functions.
"""

from lionheart.exports._base import EXPORTS, Export, ExportRequest, ExportResult

__all__ = ["EXPORTS", "Export", "ExportRequest", "ExportResult"]

"""Export of the mapping as JSON data."""

from __future__ import annotations

from typing import final

from lionheart.errors import ConfigError
from lionheart.exports._base import EXPORTS, ExportRequest, ExportResult


@final
class JsonExport:
    """The mapping as JSON data; see `Export`."""

    help = "the mapping as JSON data"

    def export(self, request: ExportRequest) -> ExportResult:
        """See `Export`."""
        from lionheart.jobs.result import open_finished
        from lionheart.mapping import LayerMapping
        from lionheart.record import write_record

        if request.check:
            raise ConfigError("--check: the format json holds a mapping and cannot be run", hint="omit --check")
        mapping = LayerMapping.load(open_finished(request.run).file("mapping.json"))
        data = write_record(mapping)
        if request.out is None:
            return ExportResult(data, is_output=True)
        mapping.save(request.out)
        return ExportResult(data, (f"mapping: {request.out}",))


EXPORTS.add("json", JsonExport())

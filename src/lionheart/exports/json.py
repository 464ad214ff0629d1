"""Export of the mapping of a finished run as JSON data. A mapping is the placement of each layer: analog or digital."""

from __future__ import annotations

from typing import final

from lionheart.errors import ConfigError
from lionheart.exports._base import EXPORTS, ExportRequest, ExportResult


@final
class JsonExport:
    """Export format that writes the mapping of a finished run as JSON data. It implements `Export`."""

    help = "the mapping as JSON data"

    def export(self, request: ExportRequest) -> ExportResult:
        """Write the mapping to the file `request.out`, or return it if `out` is None; see `Export.export`."""
        from lionheart.jobs.result import open_finished
        from lionheart.mapping import LayerMapping
        from lionheart.record import write_record

        if request.check:
            raise ConfigError(
                "--check: the format 'json' contains a mapping, not a program that could be checked",
                hint="omit --check, or export a program with --to alpine",
            )
        mapping = LayerMapping.load(open_finished(request.run).file("mapping.json"))
        data = write_record(mapping)
        rest = f"The mapping contains placements and read policies. The weights and the tile settings are in {request.run}."
        if request.out is None:
            return ExportResult(data, (rest,), is_output=True)
        mapping.save(request.out)
        return ExportResult(data, (f"mapping: {request.out}", rest))


EXPORTS.add("json", JsonExport())

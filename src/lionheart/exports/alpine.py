"""Export of a finished run as a C++ program for the ALPINE simulator."""

from __future__ import annotations

from typing import Any, final

from lionheart.exports._base import EXPORTS, ExportRequest, ExportResult


@final
class AlpineExport:
    """Export format that writes a C++ program for the ALPINE simulator. It implements `Export`."""

    help = "a C++ program for the ALPINE simulator"

    def export(self, request: ExportRequest) -> ExportResult:
        """Write a C++ program for the run. If `request.check` is True, also run and check the program; see `Export.export`."""
        from lionheart.interop.alpine.export import check_program, export_run

        out = request.out or request.run / "alpine"
        manifest = export_run(
            request.load_task(),
            request.run,
            out,
            n_calibration=request.n_calibration,
            n_stored=request.n_stored,
            n_scored=request.n_scored,
            progress=request.progress,
        )
        text = f"{manifest.n_analog} of {len(manifest.products)} products on {manifest.n_tiles} tiles, the rest digital"
        lines = [f"program: {out}: {text}", *manifest.notes]
        lines += manifest.score.lines() if manifest.score else ()
        data: dict[str, Any] = {"folder": str(out), "manifest": manifest.to_json()}
        if not request.check:
            lines.append(
                "To build the program and compare its outputs: make check in that directory; see its README.md."
            )
            return ExportResult(data, tuple(lines))
        found = check_program(out)
        lines += [f"outputs on {target}: {outcome}" for target, outcome in found.items()]
        return ExportResult(data | {"check": found}, tuple(lines), is_wrong="different" in found.values())


EXPORTS.add("alpine", AlpineExport())

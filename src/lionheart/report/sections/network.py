"""Section of the report page that shows the network layer by layer, with the reason for each placement."""

from __future__ import annotations

from typing import Any

from lionheart.mapping import Placement
from lionheart.report.data import ReportData
from lionheart.report.figures import share_strip
from lionheart.report.sections._base import SECTIONS, Section
from lionheart.runs.text import format_percent
from lionheart.units import format_count, format_si


def describe(data: ReportData) -> dict[str, Any]:
    """Return the template values of this section: one entry for each layer, and one line that lists the other operations."""
    return {"layers": list_layers(data), "other_ops": list_other_ops(data)}


def list_layers(data: ReportData) -> list[dict[str, Any]]:
    """Return one entry for each projection (weight matrix), in the order of the network.

    An entry contains the name, the size and the placement of the projection, the reason for this placement, and the width of
    the projection in the drawing of the network.
    """
    nodes, total = data.graph.nodes, data.graph.macs
    candidates = {candidate.fqn: candidate for candidate in data.graph.candidates}
    reasons = _explain_placements(data)
    layers = []
    for node, width in zip(nodes, share_strip([node.macs for node in nodes], minimum=8.0), strict=True):
        candidate = candidates[node.fqn]
        path, _, name = node.fqn.rpartition(".")
        if name.isdigit():
            path, _, parent = path.rpartition(".")
            name = f"{parent}.{name}" if parent else name
        layers.append(
            {
                "fqn": node.fqn,
                "layer_type": node.layer_type,
                "n_mvms": node.n_mvms,
                "name": name,
                "path": f"{path}." if path else "",
                "placement": data.placements[node.fqn],
                "width": f"{0.999 * width:.3f}",
                "size": f"{node.rows}×{node.cols}" + (f"×{node.groups}" if node.groups > 1 else ""),
                "macs_text": format_count(node.macs),
                "macs_short": format_si(node.macs, "").rstrip(),
                "share": format_percent(node.macs / total if total else 0.0),
                "n_tiles": candidate.n_tiles,
                "utilisation": candidate.tile_utilisation,
                "refused": candidate.reason,
                "reason": reasons[node.fqn],
            }
        )
    return layers


def _explain_placements(data: ReportData) -> dict[str, str]:
    left = "not within the bound" if data.tries_groups else "not tried"
    reasons = {candidate.fqn: candidate.reason or left for candidate in data.graph.candidates}
    present: set[str] = set()
    for decision in data.results.decisions:
        step = decision.index + 1
        if decision.accepted:
            names = set(decision.analog or [decision.fqn])
            reasons |= {name: f"accepted in step {step}" for name in names - present}
            present |= names
        else:
            reasons[decision.fqn] = f"rolled back in step {step}: drop {data.write_drop(decision.drop_pp)}"
    digital = {fqn for fqn, place in data.placements.items() if place is Placement.DIGITAL}
    reasons |= {fqn: note for fqn, note in data.results.notes.items() if fqn in digital}
    reasons |= {fqn: f"{reasons[fqn]}; {policy}" for fqn, policy in data.results.mapping.policies.items()}
    for each in () if data.results.rescaling is None else data.results.rescaling.folded:
        reasons |= {name: f"{reasons[name]}; inputs rescaled" for name in each.consumers if name in reasons}
    if data.results.holdout_tests:
        reasons |= dict.fromkeys(present & digital, "taken back: hold-out test")
    return reasons


def list_other_ops(data: ReportData) -> str:
    """Return the operations without a weight matrix as one line, for example ``"relu (9 calls), add (3 calls)"``."""
    return ", ".join(
        f"{op.name} ({op.n_calls} call{'' if op.n_calls == 1 else 's'}"
        + (f", {format_count(op.macs)} MACs)" if op.macs else ")")
        for op in data.graph.ops_by_name
    )


SECTIONS.add("network", Section(10, describe))

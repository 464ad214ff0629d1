"""Interop: other simulators beside the own physics and costs, each in a package of its own that needs the simulator installed.

Takes: our specs and models with analog layers, or another simulator's. Returns: the other side's, and backends on which
`map_layers` and `evaluate_run` compute. Importing this package makes the backends known by name and loads no simulator.
"""

from __future__ import annotations

from lionheart.jobs.backend import Backend, register_backend


def _load_aihwkit() -> Backend:
    from lionheart.interop.aihwkit.backend import AIHWKITBackend

    return AIHWKITBackend()


register_backend("aihwkit", _load_aihwkit)

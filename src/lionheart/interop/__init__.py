"""Interop: conversions to and from other simulators. Each simulator has a package here and must be installed to use it.

Input: LionHeart's specs and models with analog layers, or those of the other simulator. Output: the counterparts, and
backends for `map_layers` and `evaluate_run`. Importing this package registers the backends by name and imports no simulator.
"""

from __future__ import annotations

from lionheart.jobs.backend import Backend, register_backend


def _load_aihwkit() -> Backend:
    from lionheart.interop.aihwkit.backend import AIHWKITBackend

    return AIHWKITBackend()


register_backend("aihwkit", _load_aihwkit)

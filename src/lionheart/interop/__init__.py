"""Conversions between LionHeart and other simulators, with one subpackage for each simulator.

The subpackages convert settings and models, compare costs, and export programs. Importing `lionheart.interop` imports no
simulator. It only registers the names of those simulators that can compute analog layers in `map_layers` and `evaluate_run`.
"""

from __future__ import annotations

from lionheart.jobs.backend import Backend, register_backend


def _load_aihwkit() -> Backend:
    from lionheart.interop.aihwkit.backend import AIHWKITBackend

    return AIHWKITBackend()


register_backend("aihwkit", _load_aihwkit)

"""Connections between LionHeart and the simulators AIHWKIT, ZigZag and ALPINE, with one subpackage for each simulator.

The subpackage `aihwkit` converts settings and models, `zigzag` compares latency and energy, and `alpine` exports networks as
C++ programs. Importing `lionheart.interop` imports no simulator. The import only registers the backend name ``aihwkit``. With
this backend, `map_layers` and `evaluate_run` compute analog layers on AIHWKIT's tiles.
"""

from __future__ import annotations

from lionheart.jobs.backend import Backend, register_backend


def _load_aihwkit() -> Backend:
    from lionheart.interop.aihwkit.backend import AIHWKITBackend

    return AIHWKITBackend()


register_backend("aihwkit", _load_aihwkit)

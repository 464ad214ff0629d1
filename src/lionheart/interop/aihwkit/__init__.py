"""Conversion of settings and models between LionHeart and AIHWKIT, and a backend that computes on AIHWKIT's tiles.

docs/how-to/aihwkit.md lists which setting of AIHWKIT corresponds to each setting of LionHeart. Importing this package raises
a `ConfigError` if AIHWKIT cannot be imported.
"""

from lionheart.errors import ConfigError

try:
    import aihwkit.simulator.configs  # noqa: F401
except ImportError as error:
    raise ConfigError(
        f"AIHWKIT cannot be imported: {error}",
        hint="pip install --no-deps aihwkit==1.1.0. AIHWKIT's compiled C++ tiles require version 1.2.0 instead, which must be "
        "built from source as described in docs/how-to/aihwkit.md",
    ) from error

from lionheart.interop.aihwkit.backend import AIHWKITBackend
from lionheart.interop.aihwkit.config import ConversionWarning, from_rpu_config, to_rpu_config
from lionheart.interop.aihwkit.models import ConvOverPatches, from_aihwkit_, to_aihwkit_

__all__ = [
    "AIHWKITBackend",
    "ConvOverPatches",
    "ConversionWarning",
    "from_aihwkit_",
    "from_rpu_config",
    "to_aihwkit_",
    "to_rpu_config",
]

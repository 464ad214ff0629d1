"""What an analog module shares with the digital module that it replaces: parameters, hooks, attributes and apparent class.

The module must not depend on what an analog module computes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from lionheart.errors import UnsupportedLayerError

#: Dictionaries of parameters, buffers, children and hooks. The dictionaries themselves are shared, so handles remain valid.
_SHARED = tuple(name for name, value in vars(nn.Module()).items() if isinstance(value, (dict, set)))
_BACKWARD_STYLE = "_is_full_backward_hook"
_OWN = "_own_names"
_SHARES = "_shares_with_digital"


class _LooksLike:
    """Mixin that gives an object the class of the digital module in ``isinstance``; ``type`` returns the real class."""

    @property
    def __class__(self) -> type:  # type: ignore[override]
        # torch.compile skips every module that is a recurrent layer of PyTorch, but can compile the analog ones
        if not self.__dict__.get(_SHARES) or torch._guards.TracingContext.try_get() is not None:
            return type(self)
        return type(self.__dict__["digital"])

    @__class__.setter
    def __class__(self, new: type) -> None:
        raise UnsupportedLayerError(
            f"{type(self).__name__}: got the new class {new.__name__}, as register_parametrization sets it; tiles cannot follow "
            "a computed weight",
            hint="convert the model to digital first; the parametrised layer then stays digital",
        )


class Likeness(_LooksLike, nn.Module):
    """Base class of modules that replace a digital module and share its parameters, buffers, children, hooks and attributes."""

    def stand_for_(self, digital: nn.Module, *, shared: bool = True) -> None:
        """Replace the module `digital`.

        Args:
            digital: Digital module to replace.
            shared: Whether to share the parameters, buffers, children and hooks of `digital`. If False, this module only stores
                `digital`.
        """
        self.__dict__["digital"] = digital
        self.__dict__[_SHARES] = shared
        for name in _SHARED if shared else ():
            self.__dict__[name] = digital.__dict__.setdefault(name, self.__dict__[name])
        if shared:
            self.__dict__[_BACKWARD_STYLE] = getattr(digital, _BACKWARD_STYLE, None)
        self.__dict__["training"] = digital.training

    def remember_own_names_(self) -> None:
        """Store the names of the attributes that the conversion has set. All later attributes are those of users."""
        self.__dict__[_OWN] = frozenset(self.__dict__)

    def check_release(self, fqn: str) -> None:
        """Raise if something that was attached to this module cannot be moved to the digital module.

        Args:
            fqn: Name of the module in the model, for the error message.

        Raises:
            UnsupportedLayerError: The forward of this module was replaced.
        """
        if "forward" in self.__dict__:
            raise UnsupportedLayerError(
                f"layer {fqn!r}: the attribute 'forward' was set on the analog layer; the digital layer would not have it",
                hint="delete the attribute 'forward' before the conversion to digital, and set it again afterwards",
            )

    def leave_(self) -> nn.Module:
        """Return the digital module, with the training mode of this module and the attributes that users set on this module."""
        digital: nn.Module = self.__dict__["digital"]
        for name in self.__dict__.keys() - self.__dict__.get(_OWN, self.__dict__.keys()) - {_OWN}:
            digital.__dict__[name] = self.__dict__[name]
        digital.__dict__[_BACKWARD_STYLE] = self.__dict__[_BACKWARD_STYLE]
        digital.training = self.training
        return digital

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            digital = self.__dict__.get("digital")
            if digital is None or (name.startswith("_") and name not in digital.__dict__):
                raise
            return getattr(digital, name)

    def __setattr__(self, name: str, value: Any) -> None:
        digital = self.__dict__.get("digital")
        if digital is not None and name not in self.__dict__ and name in digital.__dict__:
            setattr(digital, name, value)
        else:
            super().__setattr__(name, value)

    def __reduce_ex__(self, protocol: Any) -> Any:
        state = super().__reduce_ex__(protocol)
        return (_make_bare, (type(self),), *state[2:])  # pickle would create an object of the apparent class

    def _get_name(self) -> str:
        return type(self).__name__


def _make_bare(kind: type) -> Any:
    return kind.__new__(kind)

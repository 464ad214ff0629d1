"""What an analog module has in common with the digital one it stands for: parameters, hooks, attributes, apparent class.

Takes a digital module; returns it with everything that was attached meanwhile. Must not know what the analog module computes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from lionheart.errors import UnsupportedLayerError

#: Parameters, buffers, children and all kinds of hooks: the dictionaries themselves are shared, so that handles keep working.
_SHARED = tuple(name for name, value in vars(nn.Module()).items() if isinstance(value, (dict, set)))
_BACKWARD_STYLE = "_is_full_backward_hook"
_OWN = "_own_names"
_SHARES = "_shares_with_digital"


class _LooksLike:
    """Says that it is of the digital module's class, to ``isinstance``; ``type`` still tells the truth."""

    @property
    def __class__(self) -> type:  # type: ignore[override]
        # PyTorch compiles nothing that is one of its recurrent layers, and ours can be compiled
        if not self.__dict__.get(_SHARES) or torch._guards.TracingContext.try_get() is not None:
            return type(self)
        return type(self.__dict__["digital"])

    @__class__.setter
    def __class__(self, new: type) -> None:
        raise UnsupportedLayerError(
            f"{type(self).__name__}: got another class, {new.__name__}, as `register_parametrization` gives it; tiles would "
            "not follow computed weights",
            hint="convert the model to digital first; a parametrised layer stays digital",
        )


class Likeness(_LooksLike, nn.Module):
    """Stands for a digital module, its parameters, buffers, children, hooks and attributes."""

    def stand_for_(self, digital: nn.Module, *, shared: bool = True) -> None:
        """Take the place of `digital`; whatever it has is shared from now on unless it is not `shared`."""
        self.__dict__["digital"] = digital
        self.__dict__[_SHARES] = shared
        for name in _SHARED if shared else ():
            self.__dict__[name] = digital.__dict__.setdefault(name, self.__dict__[name])
        if shared:
            self.__dict__[_BACKWARD_STYLE] = getattr(digital, _BACKWARD_STYLE, None)
        self.__dict__["training"] = digital.training

    def remember_own_names_(self) -> None:
        """Tell attributes of the conversion from those that a user sets afterwards."""
        self.__dict__[_OWN] = frozenset(self.__dict__)

    def check_release(self, fqn: str) -> None:
        """Raise where something attached on tiles cannot go back to the digital module.

        Raises:
            UnsupportedLayerError: The forward was replaced.
        """
        if "forward" in self.__dict__:
            raise UnsupportedLayerError(
                f"{fqn or 'the layer'}: its forward was replaced while it was on tiles, the digital layer would lose that",
                hint="delete the attribute `forward` first, and replace it again afterwards",
            )

    def leave_(self) -> nn.Module:
        """Return the digital module with the attributes and the mode that this one has got since."""
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
        made = super().__reduce_ex__(protocol)  # pickle asks the class that `__class__` says
        return (_make_bare, (type(self),), *made[2:])

    def _get_name(self) -> str:
        return type(self).__name__


def _make_bare(kind: type) -> Any:
    return kind.__new__(kind)

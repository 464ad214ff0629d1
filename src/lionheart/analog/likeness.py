"""What an analog module shares with the digital module that it replaces: parameters, hooks, attributes and apparent class.

The module must not depend on what an analog module computes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from types import MethodType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lionheart.errors import UnsupportedLayerError

#: Dictionaries of parameters, buffers, children and hooks. The dictionaries themselves are shared, so handles remain valid.
_SHARED = tuple(name for name, value in vars(nn.Module()).items() if isinstance(value, (dict, set)))
#: Names of the attributes that every module has.
MODULE_STATE = frozenset(vars(nn.Module()))
_BACKWARD_STYLE = "_is_full_backward_hook"  # attribute of PyTorch's modules: whether backward hooks are full ones
_OWN_NAMES = "_own_names"  # attribute with the names of the attributes that the conversion has set


class _LooksLike:
    """Mixin that gives an object the class of the digital module in ``isinstance``; ``type`` returns the real class."""

    #: Whether the object shares the parameters, buffers, children, hooks and class of the digital module.
    _shares_state: ClassVar[bool] = True

    @property
    def __class__(self) -> type:
        # torch.compile skips every module that is a recurrent layer of PyTorch, but can compile the analog ones
        digital = self.__dict__.get("digital") if self._shares_state else None
        if digital is None or torch._guards.TracingContext.try_get() is not None:
            return type(self)
        return type(digital)

    @__class__.setter
    def __class__(self, new: type) -> None:
        raise UnsupportedLayerError(
            f"{type(self).__name__}: got the new class {new.__name__}, as register_parametrization sets it; tiles cannot "
            "follow a computed weight",
            hint="convert the model to digital first; the parametrised layer then stays digital",
        )


class Likeness(_LooksLike, nn.Module):
    """Base class of modules that replace a digital module and share its parameters, buffers, children, hooks and attributes."""

    #: Attributes that the conversion sets, with the types of their values.
    own_attributes: ClassVar[Mapping[str, type]] = {"digital": nn.Module}

    @classmethod
    def reserves(cls, name: str) -> bool:
        """Return whether users cannot use an attribute name, because it is the name of a public attribute of this class."""
        is_public = hasattr(cls, name) and not hasattr(nn.Module, name) and not name.startswith("__")
        return is_public or name in cls.own_attributes

    def stand_for_(self, digital: nn.Module) -> None:
        """Replace the module `digital`, and share its parameters, buffers, children and hooks if this class shares them."""
        self.__dict__["digital"] = digital
        if self._shares_state:
            for name in _SHARED:
                self.__dict__[name] = digital.__dict__.setdefault(name, self.__dict__[name])
            self.__dict__[_BACKWARD_STYLE] = getattr(digital, _BACKWARD_STYLE, None)
        self.__dict__["training"] = digital.training

    def weight_names(self) -> Collection[str]:
        """Return the names of the parameters that store the weights of this module."""
        return ("weight",)

    def remember_own_names_(self) -> None:
        """Store the names of the attributes that the conversion has set. All later attributes are those of users."""
        self.__dict__[_OWN_NAMES] = frozenset(self.__dict__)

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
        for name in self.__dict__.keys() - self.__dict__.get(_OWN_NAMES, self.__dict__.keys()) - {_OWN_NAMES}:
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
        if self.reserves(name) and not isinstance(value, self.own_attributes.get(name, ())):
            raise UnsupportedLayerError(
                f"{type(self).__name__}: got the attribute {name!r}, which is the name of an attribute of analog layers",
                hint="use another name, or set the attribute on the digital layer",
            )
        if isinstance(value, Tensor) and not isinstance(value, nn.Parameter) and name in self.weight_names():
            raise UnsupportedLayerError(
                f"{type(self).__name__}: got a tensor as {name!r}, as weight_norm and pruning set it; tiles cannot follow a "
                "computed weight",
                hint="convert the model to digital first; a layer with a computed weight then stays digital",
            )
        if name == "training" and digital is not None:
            digital.__dict__["training"] = value
        if digital is not None and name not in self.__dict__ and name in digital.__dict__:
            setattr(digital, name, value)
        else:
            super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        digital = self.__dict__.get("digital")
        if digital is not None and name not in self.__dict__ and name in digital.__dict__:
            delattr(digital, name)
        else:
            super().__delattr__(name)

    def __reduce_ex__(self, protocol: Any) -> Any:
        state = super().__reduce_ex__(protocol)
        return (_make_bare, (type(self),), *state[2:])  # pickle would create an object of the apparent class

    def _get_name(self) -> str:
        return type(self).__name__


def _make_bare(kind: type[nn.Module]) -> nn.Module:
    return kind.__new__(kind)


def exchange(value: Any, old: nn.Module, new: nn.Module) -> Any:
    """Return `value` with `new` instead of the module `old`, and methods of `new` instead of methods of `old`.

    Lists and dictionaries are changed in place. Other values are returned as they are.
    """
    if value is old:
        return new
    if isinstance(value, MethodType) and value.__self__ is old:
        return getattr(new, value.__name__, value)
    if type(value) is partial:
        parts = (value.func, value.args, value.keywords)
        func, args, keywords = (exchange(each, old, new) for each in parts)
        return value if func is value.func and args is value.args else partial(func, *args, **keywords)
    if type(value) is list:
        value[:] = [exchange(each, old, new) for each in value]
    elif isinstance(value, dict):
        value.update({key: exchange(each, old, new) for key, each in value.items()})
    elif type(value) is tuple:
        changed = tuple(exchange(each, old, new) for each in value)
        return changed if any(a is not b for a, b in zip(changed, value, strict=True)) else value
    return value

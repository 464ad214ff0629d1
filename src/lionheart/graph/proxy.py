"""Weight proxies: objects that replace a weight while the forward of its module runs.

A proxy passes the inputs of products with the weight to another function, for example a product on analog tiles. Proxies are
needed for modules that override forward, such as a subclass of `nn.Linear` that scales its inputs. The supported products are
calls of `F.linear`, a convolution function or `torch.addmm`, and matrix products such as ``inputs @ weight.T``. Any other use
of the weight is reported to a function or raises an error.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lionheart.errors import UnsupportedLayerError
from lionheart.graph.convolutions import CONVOLVE

#: Function that maps inputs to their product with the weight, without bias.
Multiply = Callable[[Tensor], Tensor]
#: Stride, padding, dilation, groups.
Geometry = tuple[tuple[int, ...], tuple[int, ...] | str, tuple[int, ...], int]
_CONVOLUTION_ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_MATMULS = (torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.mm, Tensor.mm)
_ADDMMS = (torch.addmm, Tensor.addmm)


@final
class WeightProxy:
    """An object that replaces a weight in the forward of a module and calls `multiply` for each product with the weight.

    Args:
        weight: Weight to replace. The proxy has the same shape, data type and torch device.
        multiply: Function that maps inputs to their product with the weight, without bias. The function returns the convolution
            of the inputs if the module is a convolution. Otherwise, it maps inputs ``(..., in)`` to outputs ``(..., out)``.
        inputs_first: Whether the weight is stored as ``(in, out)`` instead of ``(out, in)``.
        geometry: Tuple of stride, padding, dilation and groups of the module; None if the module is not a convolution. A
            convolution call with other values is not a supported product.
        note: Function that is called with the name of each operation on the weight that is not a supported product. The
            operation then uses the weight itself. If `note` is None, the operation raises an error.
        transposed: Whether the proxy represents the transposed weight.

    Raises:
        UnsupportedLayerError: An operation other than a supported product uses the weight, and `note` is None.
    """

    def __init__(
        self,
        weight: Tensor,
        multiply: Multiply,
        *,
        inputs_first: bool = False,
        geometry: Geometry | None = None,
        note: Callable[[str], None] | None = None,
        transposed: bool = False,
    ) -> None:
        self._weight, self._multiply, self._note = weight, multiply, note
        self._inputs_first, self._geometry, self._transposed = inputs_first, geometry, transposed

    def seen(self) -> Tensor:
        """Return the weight itself, transposed if the proxy represents the transposed weight."""
        return self._weight.t() if self._transposed else self._weight

    @property
    def T(self) -> WeightProxy:  # noqa: N802  a tensor's name
        """A weight proxy that represents the transposed weight."""
        return self.t()

    @property
    def mT(self) -> WeightProxy:  # noqa: N802  a tensor's name
        """A weight proxy that represents the transposed weight."""
        return self.t()

    def t(self) -> WeightProxy:
        """Return a weight proxy that represents the transposed weight."""
        return WeightProxy(
            self._weight,
            self._multiply,
            inputs_first=self._inputs_first,
            geometry=self._geometry,
            note=self._note,
            transposed=not self._transposed,
        )

    def transpose(self, first: int, second: int) -> Any:
        """Return a proxy for the transposed weight if `first` and `second` are the two dimensions of a matrix.

        For other dimensions, report the call as an operation that is not a product, and return the weight itself with these
        dimensions exchanged.

        Raises:
            UnsupportedLayerError: The call is not the transpose of a matrix, and the proxy was created with ``note=None``.
        """
        if {first % 2, second % 2} == {0, 1} and self._weight.ndim == 2:
            return self.t()
        self._refuse("transpose")
        return self.seen().transpose(first, second)

    def to(self, *args: Any, **kwargs: Any) -> WeightProxy:
        """Return the proxy itself.

        The arguments of `Tensor.to` are ignored, because each product has the data type of its inputs.
        """
        return self

    def __rmatmul__(self, inputs: Tensor) -> Any:
        return torch.matmul(inputs, self)  # type: ignore[arg-type]

    def __getitem__(self, index: Any) -> Any:
        self._refuse("indexing")
        return self.seen()[index]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name not in ("shape", "dtype", "device", "ndim", "requires_grad", "is_cuda", "size", "dim", "numel"):
            self._refuse(name)
        return getattr(self.seen(), name)

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run a PyTorch function that received a weight proxy as an argument.

        A supported product is computed by the function `multiply` of the proxy. The name of any other function is passed to the
        function `note` of the proxy, and the other function is then called with the weight itself. If `note` is None, an error
        is raised instead.
        """
        given = dict(kwargs or {})
        product = _find_product(function, args, given)
        if product is not None:
            x, proxy, bias = product
            out = proxy._multiply(x)
            return out if bias is None else out + bias
        found = next(each for each in pytree.tree_leaves((args, given)) if isinstance(each, cls))
        found._refuse(getattr(function, "__name__", str(function)))
        args, given = pytree.tree_map(lambda each: each.seen() if isinstance(each, cls) else each, (args, given))
        return function(*args, **given)

    def _refuse(self, name: str) -> None:
        if self._note is None:
            raise UnsupportedLayerError(
                f"weight: the forward of the layer uses the weight in the operation {name!r}, "
                "expected a product of inputs with the weight",
                hint="keep the layer digital, or use its weight only in F.linear, a convolution function, matmul, mm or addmm",
            )
        self._note(name)

    def _is_matrix(self) -> bool:
        """Return whether the proxy represents a matrix of shape ``(in, out)``, which can be the right factor of a product."""
        return self._weight.ndim == 2 and self._transposed != self._inputs_first


def _operator(name: str) -> Callable[..., Any]:
    def apply(self: WeightProxy, *others: Any) -> Any:
        self._refuse(name)
        return getattr(operator, name)(self.seen(), *others)

    return apply


for _name in ("add", "sub", "mul", "truediv", "pow", "neg", "matmul", "mod"):
    setattr(WeightProxy, f"__{_name}__", _operator(_name))


def _find_product(
    function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Tensor, WeightProxy, Tensor | None] | None:
    """Return ``(inputs, proxy, bias)`` if a function call is a supported product with a weight proxy, else None.

    In the tuple, the bias is None if the call adds no bias to the product.
    """
    bias: Tensor | None = None
    if function is F.linear:
        x, weight, bias = _bind(args, kwargs, ("input", "weight", "bias"))
        fits = isinstance(weight, WeightProxy) and weight._weight.ndim == 2 and not weight._is_matrix()
    elif function in CONVOLVE.values():
        x, weight, bias, *asked = _bind(args, kwargs, _CONVOLUTION_ARGUMENTS)
        fits = isinstance(weight, WeightProxy) and weight._geometry is not None
        fits = fits and not weight._transposed and _same_geometry(asked, weight._geometry)
        bias = None if bias is None else bias.view(-1, *[1] * (weight.dim() - 2))
    elif function in _MATMULS:
        x, weight = _bind(args, kwargs, ("input", "other"))
        fits = isinstance(weight, WeightProxy) and weight._is_matrix()
    elif function in _ADDMMS and not {"beta", "alpha"} & set(kwargs):
        bias, x, weight = _bind(args, kwargs, ("input", "mat1", "mat2"))
        fits = isinstance(weight, WeightProxy) and weight._is_matrix()
    else:
        return None
    return (x, weight, bias) if fits and isinstance(x, Tensor) else None


def _bind(args: tuple[Any, ...], kwargs: Mapping[str, Any], names: tuple[str, ...]) -> list[Any]:
    given = {**kwargs, **dict(zip(names, args, strict=False))}
    return [given.get(name) for name in names]


def _same_geometry(asked: list[Any], geometry: Geometry | None) -> bool:
    if geometry is None:
        return False
    n = len(geometry[0])
    values = [default if value is None else value for value, default in zip(asked, (1, 0, 1, 1), strict=True)]
    spread = [value if isinstance(value, str) else _spread(value, n) for value in values[:3]]
    return (*spread, values[3]) == geometry


def _spread(value: Any, n: int) -> tuple[int, ...]:
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * n if len(values) == 1 else values


@contextmanager
def proxied(module: nn.Module, proxies: Mapping[str, WeightProxy]) -> Iterator[None]:
    """Replace parameters of `module` with weight proxies within the context.

    Args:
        module: Module that owns the parameters.
        proxies: Weight proxies by names of parameters.
    """
    module.__dict__.update(proxies)
    try:
        yield
    finally:
        for name in proxies:
            module.__dict__.pop(name, None)

"""Layers that are a function with its settings."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from ..engine.core import Tensor
from .checks import require_real
from .module import Module
from .parameter import Buffer

Check = Callable[[str, Any], None]
"""Called with the layer's name and a setting; raises what is to be said of a wrong one."""


class FunctionLayer(Module):
    """A function with its settings, which have the names, the order and the defaults that they have there and
    are attributes of the layer.

    What the function annotates as a float must be a number. What it annotates as a tensor is a Buffer: it
    moves and is saved with the model.
    """

    function: Callable[..., Any]
    checks: Mapping[str, Check] = {}
    __signature__: inspect.Signature

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        name, known = type(self).__name__, self.__signature__.parameters
        try:
            bound = self.__signature__.bind(*args, **kwargs)
        except TypeError:
            given = ", ".join([*map(repr, args), *(f"{k}={v!r}" for k, v in kwargs.items())])
            raise TypeError(f"{name}: expected settings ({', '.join(known)}), got ({given})") from None
        bound.apply_defaults()
        for key, value in bound.arguments.items():
            if known[key].annotation is float:
                require_real(self, **{key: value})
            if key in self.checks:
                self.checks[key](name, value)
            setattr(self, key, Buffer(value) if _is_tensor(known[key]) and value is not None else value)

    def forward(self, *inputs: Any, **more: Any) -> Any:
        settings = {key: getattr(self, key) for key in self.__signature__.parameters}
        return self.function(*inputs, **more, **settings)

    def extra_repr(self) -> str:
        known = self.__signature__.parameters.items()
        shown = [key for key, p in known if not _is_tensor(p) and (key != "inplace" or self.inplace)]
        return ", ".join(f"{key}={getattr(self, key)!r}" for key in shown)


L = TypeVar("L", bound=FunctionLayer)


def layer_of(
    base: type[L],
    name: str,
    function: Callable[..., Any],
    inputs: int = 1,
    without: str = "",
    **checks: Check,
) -> type[L]:
    """The layer, a subclass of `base`, of a function whose first `inputs` parameters are no settings, without
    the setting `without`, which PyTorch's layer has not.
    """
    signature = inspect.signature(function, eval_str=True)
    settings = [p for p in list(signature.parameters.values())[inputs:] if p.name != without]
    members = {
        "function": staticmethod(function),
        "checks": {p.name: checks[p.name] for p in settings if p.name in checks},
        "__signature__": signature.replace(parameters=settings),
        "__doc__": function.__doc__,
        "__module__": base.__module__,
    }
    return type(name, (base,), members)


def _is_tensor(parameter: inspect.Parameter) -> bool:
    return parameter.annotation == Tensor | None

"""What every public function is wrapped in: NumPy's `axis` for PyTorch's `dim`, and its own name on a wrong argument.

Arguments are looked at after something went wrong, so a call that goes well pays nothing for it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any

from tinydl_kernels.errors import DtypeError

from ..core import Tensor


@functools.cache
def public(function: Callable[..., Any], name: str | None = None) -> Callable[..., Any]:
    """The same function, for users: it names itself where it is given what is no tensor, and takes `axis` for `dim`.

    What it takes as f(*dims) it also takes as f(dims=(0, 1)).
    """
    if not inspect.isfunction(function):
        return function
    who = name or function.__name__
    parameters = inspect.signature(function).parameters.values()
    has_dim = any(p.name == "dim" for p in parameters)
    many = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), None)

    @functools.wraps(function)
    def called(*args: Any, **settings: Any) -> Any:
        if settings:
            if has_dim and "axis" in settings:
                if "dim" in settings:
                    raise TypeError(f"{who}: expected dim or axis, got both")
                settings["dim"] = settings.pop("axis")
            if many in settings:
                args = (*args, settings.pop(many))
        try:
            return function(*args, **settings)
        except (AttributeError, TypeError) as error:
            told = refusal(who, function, args, settings)
            if told is None or str(error).startswith(f"{who}: "):
                raise
            raise told from error

    return called


def refusal(who: str, function: Callable[..., Any], args: Sequence[Any], settings: Mapping[str, Any]) -> DtypeError | None:
    """What to say of the first argument that is annotated as a tensor, or a sequence of them, and is none."""
    signature = inspect.signature(function)
    try:
        given = signature.bind_partial(*args, **settings).arguments
    except TypeError:  # an argument too many: Python's own message says which
        return None
    for name, value in given.items():
        parameter = signature.parameters[name]
        kind = str(parameter.annotation)
        several = "[" in kind or parameter.kind is parameter.VAR_POSITIONAL
        if not kind.startswith(("Tensor", "Sequence[Tensor", "Iterable[Tensor")):
            continue
        taken: list[type] = [Tensor, *[type(None)] * ("None" in kind), *[Real] * ("float" in kind)]
        for x in value if several and isinstance(value, (list, tuple)) else (value,):
            if not isinstance(x, tuple(taken)):
                expected = "tensors" if several else "a tensor"
                return DtypeError(f"{who}: expected {expected} for {name!r}, got {type(x).__name__}")
    return None

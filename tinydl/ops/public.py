"""What every public function is wrapped in: NumPy's `axis` for PyTorch's `dim`, and its
own name on a wrong argument.

Arguments are looked at after something went wrong, so a call that goes well pays nothing for it.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import DtypeError

from ..engine.core import Tensor

TAKEN: dict[str, tuple[Any, ...]] = {
    "Tensor": ((Tensor,), "a tensor", "tensors"),
    "int": ((int, np.integer), "an integer", "integers"),
    "float": ((Real,), "a number", "numbers"),
    "None": ((type(None),),),
}
"""By the word of an annotation: the types that it takes, and what to call one and several of them."""


@functools.cache
def public(function: Callable[..., Any], name: str | None = None) -> Callable[..., Any]:
    """The same function, for users: it names itself where it is given what is no
    tensor, and takes `axis` for `dim`.

    What it takes as f(*dims) it also takes as f(dims=(0, 1)).
    """
    if not inspect.isfunction(function):
        return function
    who = name or function.__name__
    parameters = inspect.signature(function).parameters.values()
    has_dim = any(p.name == "dim" for p in parameters)
    many = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), None)

    names = [p.name for p in parameters]

    @functools.wraps(function)
    def called(*args: Any, **settings: Any) -> Any:
        if settings:
            if has_dim and "axis" in settings:
                if "dim" in settings:
                    raise TypeError(f"{who}: expected dim or axis, got both")
                settings["dim"] = settings.pop("axis")
            if many in settings:
                leading = names[len(args) : names.index(many)]
                args = (*args, *(settings.pop(n) for n in leading if n in settings), settings.pop(many))
        try:
            return function(*args, **settings)
        except (AttributeError, TypeError) as error:
            told = refusal(who, function, args, settings)
            if told is None or str(error).startswith(f"{who}: "):
                raise
            raise told from error

    return called


def refusal(
    who: str, function: Callable[..., Any], args: Sequence[Any], settings: Mapping[str, Any]
) -> DtypeError | None:
    """What to say of the first argument that is annotated as a tensor, a number or a
    sequence of them, and is none.
    """
    signature = inspect.signature(function)
    try:
        given = signature.bind_partial(*args, **settings).arguments
    except TypeError:  # an argument too many: Python's own message says which
        return None
    for name, value in given.items():
        parameter = signature.parameters[name]
        words = re.findall(r"\w+", str(parameter.annotation))  # "int | Sequence[int]"
        kinds = [word for word in words if word in TAKEN]
        if not kinds or words[0] not in (kinds[0], "Sequence", "Iterable"):
            continue
        several = "[" in str(parameter.annotation) or parameter.kind is parameter.VAR_POSITIONAL
        taken = tuple(kind for word in (*kinds, *{"None"}.intersection(words)) for kind in TAKEN[word][0])
        for x in value if several and isinstance(value, (list, tuple)) else (value,):
            if not isinstance(x, taken):
                got = type(x).__name__ if kinds[0] == "Tensor" else repr(x)
                return DtypeError(f"{who}: expected {TAKEN[kinds[0]][1 + several]} for {name!r}, got {got}")
    return None

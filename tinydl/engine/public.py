"""What every public function is decorated with: NumPy's `axis` for PyTorch's `dim`, and its own name in the
error of a wrong argument.

Arguments are looked at after something went wrong: a good call pays for one frame more.
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Real
from typing import Any, TypeVar

import numpy as np
from tinydl_kernels.machine.errors import DtypeError

from .core import Tensor
from .rule import parameters

F = TypeVar("F", bound=Callable[..., Any])
TAKEN: dict[Any, tuple[type, ...]] = {
    Tensor: (Tensor,),
    int: (int, np.integer),
    float: (Real,),
    types.NoneType: (types.NoneType,),
}
"""By annotation: the types of the arguments that are right."""
WORDS = {Tensor: ("a tensor", "tensors"), int: ("an integer", "integers"), float: ("a number", "numbers")}
"""By annotation: what to call one of them, and several."""


def public(function: F, name: str | None = None) -> F:
    """The same function, for users: it names itself (or `name`) where an argument is of the wrong type, and
    takes `axis` for `dim`.

    What it takes as f(*dims) it also takes as f(dims=(0, 1)).
    """
    who = name or function.__name__
    positional, many, settings_only = parameters(function)
    has_dim = "dim" in positional or "dim" in settings_only

    @functools.wraps(function)
    def called(*args: Any, **settings: Any) -> Any:
        if settings:
            if has_dim and "axis" in settings:
                if "dim" in settings:
                    raise TypeError(f"{who}: expected dim or axis, got both")
                settings["dim"] = settings.pop("axis")
            if many in settings:
                leading = positional[len(args) :]
                args = (*args, *(settings.pop(n) for n in leading if n in settings), settings.pop(many))
        try:
            return function(*args, **settings)
        except (AttributeError, TypeError) as error:
            told = refusal(who, function, args, settings)
            if told is None or str(error).startswith(f"{who}: "):
                raise
            raise told from error

    return typing.cast(F, called)


def refusal(
    who: str, function: Callable[..., Any], args: Sequence[Any], settings: Mapping[str, Any]
) -> DtypeError | None:
    """What to say of the first argument that is annotated as a tensor, a number or a sequence of them, and is
    of another type.
    """
    try:
        signature = inspect.signature(function, eval_str=True)
        given = signature.bind_partial(*args, **settings).arguments
    except TypeError:  # too many arguments: Python's own message says which
        return None
    except (NameError, AttributeError, SyntaxError):  # a user's annotations need not be expressions
        return None
    for name, value in given.items():
        parameter = signature.parameters[name]
        kinds, several = _kinds(parameter.annotation)
        if not kinds or kinds[0] not in WORDS:
            continue
        several = several or parameter.kind is parameter.VAR_POSITIONAL
        right = tuple(kind for annotation in kinds for kind in TAKEN[annotation])
        for x in value if several and isinstance(value, (list, tuple)) else (value,):
            if not isinstance(x, right):
                got = type(x).__name__ if kinds[0] is Tensor else repr(x)
                return DtypeError(f"{who}: expected {WORDS[kinds[0]][several]} for {name!r}, got {got}")
    return None


def _kinds(annotation: Any) -> tuple[list[Any], bool]:
    """The keys of `TAKEN` that an annotation is a union of, and may they also come in a sequence? No keys
    where it takes anything else.
    """
    united = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    kinds: list[Any] = []
    several = False
    for part in typing.get_args(annotation) if united else (annotation,):
        if typing.get_origin(part) in (Sequence, Iterable):
            inner, _ = _kinds(*typing.get_args(part))
            several = True
        else:
            inner = [part] if isinstance(part, type) and part in TAKEN else []
        if not inner:
            return [], False
        kinds += inner
    return kinds, several

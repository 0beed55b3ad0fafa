"""What the kernels of a .cu file take: their signatures, read from the source.

CUDA reads whatever bytes it is given, so each argument of a launch is held to the parameter that the source
declares. Of C++ this knows as much as the sources use:

    extern "C" __global__ void __launch_bounds__(256) name(const float* x, Arrays<real> out, int n) { ... }

    #define UNARY(name, result, ...) extern "C" __global__ void map_##name(const real* a, result* y) { ... }
    UNARY(neg, real, -a)            one kernel per line, by a macro that is used at the line's beginning

The source is cut into words, uses of such macros are replaced by the words that they stand for, and the
parameters of a kernel are looked up in the short list of types that may travel with a launch. Anything else
is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..machine import layout, window
from ..machine.constants import GROUP
from ..machine.errors import BackendError, DtypeError, ShapeError

TABLE = np.dtype([("at", np.int64, GROUP)])
"""int64 numbers that travel with the launch."""
COUNTS = np.dtype([("at", np.int32, GROUP)])
"""The same in half the bytes, for numbers of blocks."""

DTYPES: dict[str, Any] = {
    "bool": np.bool_,
    "signed char": np.int8,
    "unsigned char": np.uint8,
    "int": np.int32,
    "unsigned": np.uint32,
    "unsigned int": np.uint32,
    "long long": np.int64,
    "unsigned long long": np.uint64,
    "float": np.float32,
    "double": np.float64,
    "Layout": layout.STRUCT,
    "Window": window.STRUCT,
    "Table": TABLE,
    "Counts": COUNTS,
}
"""The types that parameters may have, or point to; and `real` or `number`, where the module has one."""

KERNEL = ["extern", '"C"', "__global__"]
"""What a kernel begins with."""

COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_WORD = re.compile(r'"[^"\n]*"|\w+|##|\.\.\.|\S')
_MACRO = re.compile(r"#\s*define (\w+)\(([^()]*)\)(.*)")


@dataclass(frozen=True)
class Parameter:
    """One parameter of a kernel: a value of `dtype`, a pointer to it, or a list of pointers."""

    name: str
    type: str
    dtype: np.dtype
    pointer: bool
    const: bool
    many: bool = False

    def check(self, who: str, argument: Any) -> None:
        """DtypeError or ShapeError unless `argument` can be passed for this parameter."""
        if self.many:
            if not isinstance(argument, list) or len(argument) > GROUP:
                got = f"{len(argument)} of them" if isinstance(argument, list) else type(argument).__name__
                raise DtypeError(f"{who}: {self.name}: expected a list of at most {GROUP} arrays, got {got}")
            member = replace(self, many=False)
            for array in argument:
                member.check(who, array)
            return
        if self.pointer and argument is None:
            return
        scalar = isinstance(argument, np.generic)
        if scalar is self.pointer or getattr(argument, "dtype", None) != self.dtype:
            kind = "scalar" if scalar else "array"
            got = f"a {argument.dtype} {kind}" if hasattr(argument, "dtype") else type(argument).__name__
            expected = f"a {self.dtype} array" if self.pointer else f"a numpy.{self.dtype} scalar"
            raise DtypeError(f"{who}: {self.name}: expected {expected}, got {got}")
        if self.pointer and not argument.flags.c_contiguous:
            layout = f"shape {argument.shape}, strides {argument.strides}"
            raise ShapeError(f"{who}: {self.name}: expected a C-contiguous array, got {layout}")


def signatures(source: str, real: np.dtype | None = None) -> dict[str, tuple[Parameter, ...]]:
    """The kernels of a .cu source and their parameters. BackendError for a type that is not in `DTYPES`."""
    words = list(_words_of_code(source))
    found = {}
    for at in range(len(words)):
        if words[at : at + 3] == KERNEL:
            name, parameters = _declared(words, at + 3)
            found[name] = tuple(_parameter(name, parameter, real) for parameter in parameters)
    return found


def _words_of_code(source: str) -> Iterator[str]:
    """The words of a source, with the kernels that its macros make."""
    macros: dict[str, tuple[list[str], list[str]]] = {}  # parameters, words of the body
    lines = COMMENT.sub(" ", source).replace("\\\n", " ").splitlines()
    for line in lines:
        words = _WORD.findall(line)
        if macro := _MACRO.match(line):
            name, parameters, body = macro.groups()
            if KERNEL[-1] in body:
                macros[name] = (
                    [word for word in _WORD.findall(parameters) if word != ","],
                    _WORD.findall(body),
                )
        elif words and line.startswith(words[0]) and words[0] in macros:
            yield from _written_out(*macros[words[0]], words)
        elif words and words[0] != "#":
            yield from words


def _written_out(parameters: list[str], body: list[str], use: list[str]) -> Iterator[str]:
    """The words of a macro's body with the arguments of a use in the place of its parameters.

    `...` stands for all that is left: it goes into the body of a kernel, of which nothing is read.
    """
    values, _ = _in_brackets(use, 1)
    given = dict(zip(parameters, values, strict=False))
    pasted = ""  # what ## joins to the next word
    for at, word in enumerate(body):
        if word == "##":
            continue
        words = given.get(word, [word])
        if body[at + 1 : at + 2] == ["##"]:
            pasted += "".join(words)
        else:
            yield from [pasted + words[0], *words[1:]] if words else [pasted] * bool(pasted)
            pasted = ""


def _declared(words: list[str], at: int) -> tuple[str, list[list[str]]]:
    """The name of the kernel whose declaration goes on there, and the words of each of its parameters."""
    while words[at] in ("void", "__launch_bounds__"):  # in either order
        at = at + 1 if words[at] == "void" else _in_brackets(words, at + 1)[1]
    return words[at], _in_brackets(words, at + 1)[0]


def _in_brackets(words: list[str], at: int) -> tuple[list[list[str]], int]:
    """What stands between the bracket there and the one that closes it, cut at commas; where it goes on."""
    parts: list[list[str]] = [[]]
    depth = 0
    for end, word in enumerate(words[at:], at + 1):
        depth += (word in "([{") - (word in ")]}")
        if depth == 0:
            return [] if parts == [[]] else parts, end
        if depth == 1 and word == ",":
            parts.append([])
        elif end > at + 1:
            parts[-1].append(word)
    raise BackendError(f"signatures: expected brackets that close, got {' '.join(words[at - 1 : at + 9])!r}")


def _parameter(kernel: str, words: list[str], real: np.dtype | None) -> Parameter:
    """[const] type [* [__restrict__]] name, or Arrays<[const] type> name."""
    known: dict[str, Any] = DTYPES if real is None else {**DTYPES, "real": real, "number": real}
    *kind, name = words or [""]
    many = kind[:2] == ["Arrays", "<"] and kind[-1:] == [">"]
    if many:
        kind = kind[2:-1]
    const, pointer = kind[:1] == ["const"], many
    kind = kind[const:]
    for suffix in (["*", "__restrict__"], ["*"]):
        if not many and kind[-len(suffix) :] == suffix:
            kind, pointer = kind[: -len(suffix)], True
            break
    type_ = " ".join(kind)
    if type_ not in known or not name.isidentifier():
        text = " ".join(words).replace(" *", "*").replace("< ", "<").replace(" >", ">")
        raise BackendError(
            f"{kernel}: expected a parameter of type {', '.join(known)} or a pointer to it, got {text!r}"
        )
    return Parameter(name, type_, np.dtype(known[type_]), pointer, const, many)

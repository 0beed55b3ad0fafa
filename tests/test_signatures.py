"""The parameters of every public function, method and layer against PyTorch's: names, places, defaults.

Python functions and classes are asked by `inspect`, built-in ones by the signatures that
their documentation begins with. What differs stands in pytorch_differences.py, word for word.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from pytorch_differences import OWN, SIGNATURES, WITHOUT_MEANING
from test_surface import PAIRS, found

import tinydl as td
from tinydl.ops import METHODS

torch = pytest.importorskip("torch")

Parameters = dict[str, Any]  # by name, the default (EMPTY where there is none); variadic ones under "*", "**"
EMPTY = inspect.Parameter.empty

UNDOCUMENTED: dict[str, Callable[[], list[Parameters]]] = {
    "masked_fill": lambda: [{"input": EMPTY} | form for form in of_torch("Tensor.masked_fill")],
    "index_fill": lambda: [{"input": EMPTY, "dim": EMPTY, "index": EMPTY, "value": EMPTY}],
    "log_softmax": lambda: of_torch("F.log_softmax"),
    "relu": lambda: of_torch("F.relu"),
    "new": lambda: [{"size": EMPTY}],
    "clamp_min": lambda: [{"input": EMPTY, "min": EMPTY}],
    "clamp_max": lambda: [{"input": EMPTY, "max": EMPTY}],
    "clamp_min_": lambda: [{"min": EMPTY}],
    "clamp_max_": lambda: [{"max": EMPTY}],
    "relu_": lambda: [{}],
}
"""Built-in ones without a signature: that of who has the same parameters."""


def documented(name: str, text: str) -> list[Parameters]:
    """The forms of a built-in function that its documentation names: `f(input,
    dim=None, *, out=None) -> Tensor`.
    """
    forms = []
    for arguments in re.findall(
        rf"^\s*(?:\.\. \w+:: )?(?:torch\.)?(?:linalg\.)?{name}\((.*?)\) *(?:->|$)",
        text,
        re.DOTALL | re.MULTILINE,
    ):
        form = {}
        while re.search(r"\[[^\[\]]*\]", arguments):  # commas within types
            arguments = re.sub(r"\[[^\[\]]*\]", "", arguments)
        for argument in re.split(r",(?![^(]*\))", arguments):
            declared, _, default = argument.strip().partition("=")
            words = declared.replace("\\", "").partition(":")[0].split()  # "Tensor input" or "input: Tensor"
            if words and words[-1] not in ("/", "*"):
                word = words[-1]
                star = word[: len(word) - len(word.lstrip("*"))]
                form[star or word] = value(default.strip()) if default else EMPTY
        forms.append(form)
    return forms


def value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def of_torch(name: str) -> list[Parameters]:
    """The forms of torch.`name`, or of torch.nn.functional's for F.`name`; a method's without self."""
    owner = torch.nn.functional if name.startswith("F.") else torch
    name = name.removeprefix("F.")
    theirs = found(owner, f"{name}_with_indices") or found(owner, name)
    last, text = name.rpartition(".")[2], theirs.__doc__ or ""
    if inspect.isclass(theirs) and theirs.__init__ is torch.nn.Module.__init__:
        return [{}]
    try:
        own = of_ours(theirs)
    except (ValueError, TypeError):
        return documented(last, text) or UNDOCUMENTED[last]()
    if set(own) <= {"*", "**"}:  # which says nothing: the documentation may say more
        return documented("__init__" if inspect.isclass(theirs) else last, text) or [own]
    own.pop("self", None)
    return [own]


def of_ours(function: Any) -> Parameters:
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return {stars.get(p.kind, p.name): p.default for p in inspect.signature(function).parameters.values()}


def disagreements(own: Sequence[inspect.Parameter], forms: Sequence[Parameters]) -> list[str]:
    """What is wrong with our parameters, as against the form that is nearest."""
    return min((against(own, form, forms) for form in forms), key=len)


def against(own: Sequence[inspect.Parameter], form: Parameters, forms: Sequence[Parameters]) -> list[str]:
    names = [p for p in form if p not in WITHOUT_MEANING]
    kept = {name_of(p, names): p for p in own if p.name not in WITHOUT_MEANING}
    wrong = [f"{name} is none of PyTorch's" for name in kept if name not in names and name not in OWN]
    wrong += [f"{name} is missing" for name in names if name not in kept]
    kept, names = without_own(kept), list(without_own(dict.fromkeys(names)))
    common = [name for name in kept if name in names]
    places = [names.index(name) for name in common]
    wrong += [f"the order is not {', '.join(names)}"] if places != sorted(places) else []
    for i, (name, p) in enumerate(kept.items()):
        if name not in names or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
            continue
        if p.kind is p.POSITIONAL_OR_KEYWORD and names.index(name) != i:
            wrong.append(f"{name} is not at place {names.index(name)}")
        optional = form[name] is EMPTY and any(name not in other for other in forms)
        if named(p.default) != named(form[name]) and not optional:
            wrong.append(f"{name}: default {shown(p.default)}, PyTorch's {shown(form[name])}")
    return wrong


def named(default: Any) -> Any:
    """Functions by their names: each library has its own relu."""
    return default.__name__ if inspect.isfunction(default) else default


def without_own(named: dict[str, Any]) -> dict[str, Any]:
    """Parameters that PyTorch may have among those without meaning here have no place to compare."""
    return {name: value for name, value in named.items() if name not in OWN}


def name_of(p: inspect.Parameter, names: Sequence[str]) -> str:
    """f(*dims), which takes f(dims=(0, 1)) too, is PyTorch's f(dims) or f(*dims)."""
    if p.kind is p.VAR_POSITIONAL:
        return p.name if p.name in names else "*"
    return "**" if p.kind is p.VAR_KEYWORD else p.name


def shown(default: Any) -> str:
    return "none" if default is EMPTY else repr(default)


@pytest.mark.parametrize(
    ("name", "theirs"), [pytest.param(*pair, id=pair[0]) for pair in PAIRS if pair[1] != "-"]
)
def test_parameters_are_those_of_pytorch(name: str, theirs: str) -> None:
    own = list(inspect.signature(found(td, name)).parameters.values())
    assert sorted(disagreements(own, of_torch(theirs))) == differences(name)


@pytest.mark.parametrize("name", METHODS)
def test_parameters_of_methods_are_those_of_pytorch(name: str) -> None:
    own = list(inspect.signature(METHODS[name]).parameters.values())[1:]
    # the function's documentation is the fuller one; `torch.zero_` has none
    plain = callable(found(torch, name)) and not name.endswith("_")
    forms = [without_input(form) for form in of_torch(name)] if plain else []
    forms = forms or of_torch(f"Tensor.{name}")
    assert sorted(disagreements(own, forms)) == differences(f"Tensor.{name}")


def without_input(form: Parameters) -> Parameters:
    first = "input" if "input" in form else next(iter(form))
    return {name: default for name, default in form.items() if name != first}


def differences(name: str) -> list[str]:
    """What is listed of a name; each listed difference must still be one."""
    return sorted(what for names, what, _ in SIGNATURES if name in names.split())


def test_listed_names_are_public() -> None:
    known = {name for name, theirs in PAIRS if theirs != "-"} | {f"Tensor.{name}" for name in METHODS}
    assert sorted({name for names, *_ in SIGNATURES for name in names.split()} - known) == []

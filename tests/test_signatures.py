"""The parameters of every public function, method and layer against PyTorch's: names, places, defaults.

Python functions and classes are asked by `inspect`, built-in ones by the signatures that
their documentation begins with.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Sequence
from typing import Any

import pytest
from test_surface import PAIRS, found

import tinydl as td
from tinydl.ops import METHODS

torch = pytest.importorskip("torch")

Parameters = dict[str, Any]  # by name, the default (EMPTY where there is none)
EMPTY = inspect.Parameter.empty

ADDED = {"generator", "dtype", "requires_grad"}
"""Ours in addition, where PyTorch has none: the source of random numbers, the dtype of a layer."""

LEFT_OUT = {
    *(
        "out",
        "layout",
        "device",
        "force",
        "pin_memory",
        "memory_format",
        "inplace",
        "size_average",
        "reduce",
        "names",
        "_stacklevel",
    ),
    *ADDED,
}
"""PyTorch's, without meaning here, or deprecated there."""

DIFFERENT: dict[str, set[str]] = {
    "add": {"alpha"},
    "sub": {"alpha"},
    "div": {"rounding_mode"},
    "round": {"decimals"},
    "repeat_interleave": {"output_size"},
    "gather": {"sparse_grad"},
    "from_dlpack": {"copy"},
    "interpolate": {"antialias"},
    "embedding": {"max_norm", "norm_type", "scale_grad_by_freq", "sparse"},
    "scaled_dot_product_attention": {"enable_gqa"},
    **{f"{name}_loss": {"weight"} for name in ("mse", "l1", "huber")},
    "nn.Embedding": {"max_norm", "norm_type", "scale_grad_by_freq", "sparse", "_weight", "_freeze"},
    **{f"nn.ConvTranspose{n}d": {"padding_mode"} for n in (1, 2, 3)},
    **{f"nn.{kind}Norm{n}d": {"bias"} for kind in ("Batch", "Instance") for n in (1, 2, 3)},
    "nn.GroupNorm": {"bias"},
    "nn.MultiheadAttention": {"add_bias_kv", "add_zero_attn", "kdim", "vdim"},
    "nn.Hardtanh": {"min_value", "max_value"},
    "cuda": {"non_blocking"},
}
"""Not there yet."""

MERGED: dict[str, set[str]] = {
    **{name: {"unbiased", "correction", "keepdim"} for name in ("var", "std", "var_mean")},
    "arange": {"start", "end"},
    "bernoulli": {"p"},
    "normal": {"mean", "std", "size"},
    "randint": {"low", "high", "size"},
    "scatter": {"src", "value"},
    "split": {"split_size", "split_size_or_sections"},
}
"""Two of PyTorch's forms in one signature, where no single documented form has these parameters as we do."""

DEFAULTS = {
    ("softmax", "dim"),
    ("log_softmax", "dim"),
    ("softmin", "dim"),
    ("nn.Softmax", "dim"),
    ("nn.LogSoftmax", "dim"),
} | {
    ("meshgrid", "indexing"),
    ("topk", "dim"),
    ("pad", "value"),
    ("squeeze", "dim"),
}
"""PyTorch documents None or no default, and means ours."""


def documented(name: str, text: str) -> list[Parameters]:
    """The forms of a built-in function that its documentation names: `f(input,
    dim=None, *, out=None) -> Tensor`.
    """
    forms = []
    for arguments in re.findall(
        rf"^\s*(?:\.\. \w+:: )?(?:torch\.)?{name}\((.*?)\) *(?:->|$)", text, re.DOTALL | re.MULTILINE
    ):
        form = {}
        while re.search(r"\[[^\[\]]*\]", arguments):  # commas within types
            arguments = re.sub(r"\[[^\[\]]*\]", "", arguments)
        for argument in re.split(r",(?![^(]*\))", arguments):
            declared, _, default = argument.strip().lstrip("\\*").partition("=")
            words = declared.partition(":")[0].split()  # "Tensor input" or "input: Tensor"
            if words and words[-1] != "/":
                form[words[-1]] = value(default.strip()) if default else EMPTY
        forms.append(form)
    return forms


def value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def of_torch(name: str) -> list[Parameters]:
    owner = torch.nn.functional if name.startswith("F.") else torch
    name = name.removeprefix("F.")
    theirs = found(owner, f"{name}_with_indices") or found(owner, name)
    try:
        parameters = inspect.signature(theirs).parameters.values()
    except (ValueError, TypeError):
        return documented(name.rpartition(".")[2], theirs.__doc__ or "")
    general = any(p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in parameters)
    return [] if general else [{p.name: p.default for p in parameters}]


def disagreements(name: str, own: Sequence[inspect.Parameter], forms: Sequence[Parameters]) -> list[str]:
    """What is wrong with our parameters, as against the form that is nearest."""
    different, found = MERGED.get(name, set()), []
    own = [p for p in own if p.name not in LEFT_OUT | different]
    for form in forms:
        names = [p for p in form if p not in LEFT_OUT | different]
        kept = [p for p in own if p.kind is not p.VAR_POSITIONAL or p.name in names]
        wrong = [f"{p.name} is none of PyTorch's" for p in kept if p.name not in names]
        wrong += [
            f"{p} is missing"
            for p in names
            if p not in DIFFERENT.get(name, ()) and p not in {q.name for q in own}
        ]
        places = [names.index(p.name) for p in kept if p.name in names]
        wrong += [f"the order is not {names}"] if places != sorted(places) else []
        for i, p in enumerate(kept):
            if p.kind is p.POSITIONAL_OR_KEYWORD and p.name in names and names.index(p.name) != i:
                wrong.append(f"{p.name} is not at place {names.index(p.name)}")
            default = form.get(p.name, EMPTY)
            optional = default is EMPTY and any(p.name not in other for other in forms)
            if (
                p.default != default
                and not optional
                and p.kind is not p.VAR_POSITIONAL
                and (name, p.name) not in DEFAULTS
            ):
                wrong.append(f"{p.name}: default {p.default!r}, not {default!r}")
        found.append(wrong)
    return min(found, key=len, default=[])


@pytest.mark.parametrize(
    ("name", "theirs"), [pytest.param(*pair, id=pair[0]) for pair in PAIRS if pair[1] != "-"]
)
def test_parameters_are_those_of_pytorch(name: str, theirs: str) -> None:
    own = list(inspect.signature(found(td, name)).parameters.values())
    if not any(p.kind is p.VAR_KEYWORD for p in own):
        assert disagreements(name, own, of_torch(theirs)) == []


@pytest.mark.parametrize("name", METHODS)
def test_parameters_of_methods_are_those_of_pytorch(name: str) -> None:
    own = list(inspect.signature(METHODS[name]).parameters.values())[1:]
    theirs = found(torch.Tensor, name)
    assert theirs is not None
    if not any(p.kind is p.VAR_POSITIONAL for p in own):
        forms = of_torch(name) if hasattr(torch, name) else []
        forms = [
            {p: d for p, d in form.items() if p != ("input" if "input" in form else next(iter(form)))}
            for form in forms
        ]
        assert disagreements(name, own, forms or documented(name, theirs.__doc__ or "")) == []


def test_most_signatures_are_found() -> None:
    without = [name for name, theirs in PAIRS if theirs != "-" and not of_torch(theirs)]
    assert len(without) < 20, without

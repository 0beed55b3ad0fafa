"""Products of vectors, matrices and tensors, composed of `matmul`, `mul` and `sum`."""

from __future__ import annotations

import functools
import itertools
import math
import string
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tinydl_kernels.machine.errors import ShapeError

from ..engine.core import Tensor, add
from ..engine.promotion import require_one_dtype, whole
from ..engine.public import public
from .elementwise import mul, sub
from .matmul import _matmul, matmul
from .reduce import sum
from .shape import common_shape, diagonal, normalize_dim, permute, reshape, roll, squeeze, unsqueeze

__all__ = [
    "addmm",
    "baddbmm",
    "bmm",
    "cross",
    "dot",
    "einsum",
    "kron",
    "mm",
    "mv",
    "outer",
    "tensordot",
    "trace",
]


def _product(who: str, kinds: str, a: Tensor, b: Tensor) -> Tensor:
    """matmul of operands with exactly the dims that `kinds` names, say "(n, k) and (k, m)"."""
    dims = tuple(kind.count(",") + (not kind.endswith(",)")) for kind in kinds.split(" and "))
    if (
        (a.ndim, b.ndim) != dims
        or a.shape[-1] != b.shape[-2 if b.ndim > 1 else 0]
        or (b.ndim > 2 and a.shape[0] != b.shape[0])
    ):
        raise ShapeError(f"{who}: expected {kinds}, got {a.shape} and {b.shape}")
    require_one_dtype(who, a.dtype, b.dtype)
    return matmul(a, b)


@public
def mm(input: Tensor, mat2: Tensor) -> Tensor:
    """The product of two matrices: (n, k) and (k, m) give (n, m)."""
    return _product("mm", "(n, k) and (k, m)", input, mat2)


@public
def bmm(input: Tensor, mat2: Tensor) -> Tensor:
    """Products of a batch of matrices: (b, n, k) and (b, k, m) give (b, n, m)."""
    return _product("bmm", "(b, n, k) and (b, k, m)", input, mat2)


@public
def addmm(input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta · input + alpha · mat1 mat2; the input broadcasts to (n, m). With beta 0 it counts for nothing."""
    return _added("addmm", input, _product("addmm", "(n, k) and (k, m)", mat1, mat2), beta, alpha)


@public
def baddbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta · input + alpha · batch1 batch2; the input broadcasts to (b, n, m). With beta 0 it counts for
    nothing.
    """
    require_one_dtype("baddbmm", input.dtype, batch1.dtype)
    product = _product("baddbmm", "(b, n, k) and (b, k, m)", batch1, batch2)
    return _added("baddbmm", input, product, beta, alpha)


def _added(who: str, x: Tensor, product: Tensor, beta: float, alpha: float) -> Tensor:
    require_one_dtype(who, x.dtype, product.dtype)
    if common_shape(who, x, product) != product.shape:
        raise ShapeError(f"{who}: expected an input that broadcasts to {product.shape}, got {x.shape}")
    beta, alpha = whole(x, beta, alpha)
    product = product if alpha == 1 else mul(product, alpha)
    return add(x if beta == 1 else mul(x, beta), product) if beta else product


@public
def tensordot(a: Tensor, b: Tensor, dims: Any = 2) -> Tensor:
    """Products summed over the last `dims` dims of a and the first of b, or over the two lists of dims."""
    if isinstance(dims, int):
        if not 0 <= dims <= min(a.ndim, b.ndim):
            raise ShapeError(f"tensordot: expected dims from 0 to {min(a.ndim, b.ndim)}, got {dims}")
        over_a, over_b = [*range(a.ndim - dims, a.ndim)], [*range(dims)]
    else:
        over_a, over_b = (
            [normalize_dim("tensordot", d, x.ndim) for d in ((side,) if isinstance(side, int) else side)]
            for x, side in zip((a, b), dims, strict=True)
        )
    if [a.shape[d] for d in over_a] != [b.shape[d] for d in over_b]:
        raise ShapeError(f"tensordot: expected dims of equal sizes, got {a.shape} and {b.shape} over {dims}")
    require_one_dtype("tensordot", a.dtype, b.dtype)
    free_a, free_b = ([d for d in range(x.ndim) if d not in over] for x, over in ((a, over_a), (b, over_b)))
    rows, inner, columns = (
        math.prod(x.shape[d] for d in ds) for x, ds in ((a, free_a), (a, over_a), (b, free_b))
    )
    left = reshape(permute(a, *free_a, *over_a), (rows, inner))
    right = reshape(permute(b, *over_b, *free_b), (inner, columns))
    return reshape(matmul(left, right), (*(a.shape[d] for d in free_a), *(b.shape[d] for d in free_b)))


@public
def mv(input: Tensor, vec: Tensor) -> Tensor:
    """The product of a matrix and a vector: (n, k) and (k,) give (n,)."""
    return _product("mv", "(n, k) and (k,)", input, vec)


@public
def dot(input: Tensor, tensor: Tensor) -> Tensor:
    """The inner product of two vectors: (k,) and (k,) give ()."""
    return _product("dot", "(k,) and (k,)", input, tensor)


@public
def outer(input: Tensor, vec2: Tensor) -> Tensor:
    """out[i, j] = input[i] vec2[j]: (n,) and (m,) give (n, m)."""
    if (input.ndim, vec2.ndim) != (1, 1):
        raise ShapeError(f"outer: expected (n,) and (m,), got {input.shape} and {vec2.shape}")
    return mul(unsqueeze(input, 1), vec2)


@public
def cross(input: Tensor, other: Tensor, dim: int | None = None) -> Tensor:
    """The vector product along `dim`, which has size 3 (the first such dim if it is not
    given); the others broadcast.
    """
    if dim is None:
        if 3 not in input.shape:
            raise ShapeError(f"cross: expected a dim of size 3, got {input.shape}")
        d = input.shape.index(3)
    else:
        d = normalize_dim("cross", dim, input.ndim)
    if input.ndim != other.ndim or not input.ndim or (input.shape[d], other.shape[d]) != (3, 3):
        raise ShapeError(
            f"cross: expected size 3 along dim {d} and as many dims, got {input.shape} and {other.shape}"
        )
    common_shape("cross", input, other)
    return sub(mul(roll(input, -1, d), roll(other, -2, d)), mul(roll(input, -2, d), roll(other, -1, d)))


@public
def kron(input: Tensor, other: Tensor) -> Tensor:
    """Kronecker's product: blocks input[i] · other along every dim; the one with
    fewer dims gets ones in front.
    """
    ndim = max(input.ndim, other.ndim)
    a, b = ((1,) * (ndim - x.ndim) + x.shape for x in (input, other))
    left = reshape(input, tuple(n for size in a for n in (size, 1)))
    right = reshape(other, tuple(n for size in b for n in (1, size)))
    return reshape(mul(left, right), tuple(m * n for m, n in zip(a, b, strict=True)))


# ---- einsum

Labels = list[str]


@public
def einsum(equation: Any, *operands: Any) -> Tensor:
    """Sums of products in Einstein's notation, as numpy.einsum and torch.einsum:
    einsum("bij,bjk->bik", x, y).

    A label that is repeated within an operand takes its diagonal, one that the output lacks is summed; "..."
    stands for dims that broadcast. Without "->" the output has the labels that appear once, in alphabetical
    order. Operands and lists of integers may take turns instead of the equation. Pairs are contracted by
    `matmul`, the smallest result first.
    """
    tensors = (
        list(operands[0]) if len(operands) == 1 and not isinstance(operands[0], Tensor) else list(operands)
    )
    if isinstance(equation, Tensor):
        equation, tensors = _spelled((equation, *operands))
    if not isinstance(equation, str):
        raise TypeError(
            f"einsum: expected an equation or operands and lists of integers, got {type(equation).__name__}"
        )
    require_one_dtype("einsum", *(x.dtype for x in tensors))
    inputs, output = _parsed(equation, tuple(x.shape for x in tensors))
    terms = [_diagonals(equation, x, labels) for x, labels in zip(tensors, inputs, strict=True)]
    terms = _without_broadcast(equation, terms)
    while len(terms) > 1:
        pairs = itertools.combinations(range(len(terms)), 2)
        i, j = min(pairs, key=lambda pair: _cost(terms, pair[0], pair[1], output))
        a, b = terms[i], terms[j]
        rest = [term for k, term in enumerate(terms) if k not in (i, j)]
        terms = [*rest, _contracted(a, b, {*output}.union(*(labels for _, labels in rest)))]
    x, labels = _summed(*terms[0], {*output})
    missing = [label for label in output if label not in labels]  # sizes of one that were dropped
    x = reshape(x, (*x.shape, *(1 for _ in missing))) if missing else x
    labels = [*labels, *missing]
    return permute(x, *(labels.index(label) for label in output)) if labels != output else x


def _spelled(arguments: Sequence[Any]) -> tuple[str, list[Tensor]]:
    """The equation of operands that take turns with lists of integers."""
    pairs = list(zip(arguments[::2], arguments[1::2], strict=False))
    words = [
        "".join("..." if k is Ellipsis else string.ascii_letters[k] for k in labels) for _, labels in pairs
    ]
    output = arguments[-1] if len(arguments) % 2 else None
    tail = (
        ""
        if output is None
        else "->" + "".join("..." if k is Ellipsis else string.ascii_letters[k] for k in output)
    )
    return ",".join(words) + tail, [x for x, _ in pairs]


@functools.lru_cache(maxsize=256)
def _parsed(equation: str, shapes: tuple[tuple[int, ...], ...]) -> tuple[list[Labels], Labels]:
    """The labels of the operands and of the output; dims under "..." are labelled
    "0", "1", ... from the last.
    """
    left, arrow, right = equation.replace(" ", "").partition("->")
    words = left.split(",")
    if len(words) != len(shapes):
        raise ShapeError(
            f"einsum: expected an operand for each of {len(words)} terms of {equation!r}, got {len(shapes)}"
        )
    widest, inputs = 0, []
    for word, shape in zip(words, shapes, strict=True):
        extra = len(shape) - len(word.replace("...", "", 1))
        if extra < 0 or (extra and "..." not in word):
            raise ShapeError(
                f"einsum: expected {word!r} of {equation!r} to label the dims of its operand, got {shape}"
            )
        widest = max(widest, extra) if "..." in word else widest
        inputs.append(_labels(equation, word, extra))
    counts = Counter(label for labels in inputs for label in labels)
    if arrow:
        output = _labels(equation, right, widest if "..." in right else 0)
    else:
        output = [str(k) for k in reversed(range(widest))]
        output += sorted(label for label in counts if counts[label] == 1 and label in string.ascii_letters)
    if any(output.count(label) > 1 or label not in counts for label in output):
        raise ValueError(
            f"einsum: expected an output with labels of the operands, each once, got {equation!r}"
        )
    return inputs, output


def _labels(equation: str, word: str, extra: int) -> Labels:
    before, dots, behind = word.partition("...")
    if any(label not in string.ascii_letters for label in before + behind):
        raise ValueError(f"einsum: expected letters, commas, '...' and '->', got {equation!r}")
    return [*before, *(str(k) for k in reversed(range(extra if dots else 0))), *behind]


Term = tuple[Tensor, Labels]


def _diagonals(equation: str, x: Tensor, labels: Labels) -> Term:
    """Without repeated labels."""
    for label in [label for label, count in Counter(labels).items() for _ in range(count - 1)]:
        first = labels.index(label)
        second = labels.index(label, first + 1)
        if x.shape[first] != x.shape[second]:
            raise ShapeError(f"einsum: expected equal sizes under {label!r} of {equation!r}, got {x.shape}")
        x = diagonal(x, 0, first, second)
        labels = [*(other for k, other in enumerate(labels) if k not in (first, second)), label]
    return x, labels


def _without_broadcast(equation: str, terms: list[Term]) -> list[Term]:
    """Dims of size one dropped where another operand has the label with a larger
    size: there they are constant.
    """
    largest: dict[str, int] = {}
    for x, labels in terms:
        for label, n in zip(labels, x.shape, strict=True):
            if largest.setdefault(label, n) == 1:
                largest[label] = n
            if n not in (1, largest[label]):
                raise ShapeError(
                    f"einsum: expected one size under {label!r} of {equation!r}, got {largest[label]} and {n}"
                )
    kept = []
    for x, labels in terms:
        for label in list(labels):
            if x.shape[labels.index(label)] == 1 != largest[label]:
                x = squeeze(x, labels.index(label))
                labels = [other for other in labels if other != label]
        kept.append((x, labels))
    return kept


def _cost(terms: list[Term], i: int, j: int, output: Labels) -> int:
    """The size of the result of contracting two terms."""
    others = {*output}.union(*(labels for k, (_, labels) in enumerate(terms) if k not in (i, j)))
    sizes = {label: n for x, labels in (terms[i], terms[j]) for label, n in zip(labels, x.shape, strict=True)}
    return math.prod(n for label, n in sizes.items() if label in others)


def _summed(x: Tensor, labels: Labels, kept: set[str]) -> Term:
    """Summed over the labels that are not kept."""
    dims = [d for d, label in enumerate(labels) if label not in kept]
    return (sum(x, dims), [label for label in labels if label in kept]) if dims else (x, labels)


def _contracted(a: Term, b: Term, kept: set[str]) -> Term:
    """Σ a · b over the labels that are not kept: as matrices (shared, rows, inner)
    times (shared, inner, columns).
    """
    x, in_a = _summed(*a, kept | {*b[1]})
    y, in_b = _summed(*b, kept | {*a[1]})
    shared = [label for label in in_a if label in in_b and label in kept]
    inner = [label for label in in_a if label in in_b and label not in kept]
    rows, columns = ([label for label in own if label not in (*shared, *inner)] for own in (in_a, in_b))
    sizes = dict(zip([*in_a, *in_b], [*x.shape, *y.shape], strict=True))
    labels = [*shared, *rows, *columns]
    shape = tuple(sizes[label] for label in labels)
    if not inner:
        left, right = _ordered(x, in_a, [*shared, *rows]), _ordered(y, in_b, [*shared, *columns])
        left = reshape(left, (*left.shape, *(1 for _ in columns)))
        return mul(
            left,
            reshape(right, (*right.shape[: len(shared)], *(1 for _ in rows), *right.shape[len(shared) :])),
        ), labels
    left, ta = _matrices(x, in_a, shared, rows, inner)
    right, tb = _matrices(y, in_b, shared, inner, columns)
    return reshape(_matmul(left, right, ta=ta, tb=tb), shape), labels


def _ordered(x: Tensor, labels: Labels, wanted: Labels) -> Tensor:
    return x if labels == wanted else permute(x, *(labels.index(label) for label in wanted))


def _matrices(
    x: Tensor, labels: Labels, shared: Labels, rows: Labels, columns: Labels
) -> tuple[Tensor, bool]:
    """x as a batch of matrices (shared, rows, columns), or transposed, and True, where it lies so already."""
    turned = bool(rows and columns) and labels == [*shared, *columns, *rows]
    sizes = dict(zip(labels, x.shape, strict=True))
    groups = [shared, columns, rows] if turned else [shared, rows, columns]
    merged = [math.prod(sizes[label] for label in group) for group in groups]
    x = _ordered(x, labels, [label for group in groups for label in group])
    return reshape(x, merged if shared else merged[1:]), turned


@public
def trace(input: Tensor) -> Tensor:
    """The sum of the diagonal of a matrix (n, m)."""
    if input.ndim != 2:
        raise ShapeError(f"trace: expected a matrix (n, m), got {input.shape}")
    return sum(diagonal(input))

"""Derivatives of functions of tensors, of any order: vjp, jvp, hvp, jacobian, hessian; and vmap.

Signatures are those of torch.func (hvp: torch.autograd.functional). They are built on `grad` alone. Results
carry a graph only where there is something outside to differentiate by: an input, a cotangent or a tensor
that `func` closes over requires grad.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tinydl_kernels.machine import memory
from tinydl_kernels.machine.errors import GraphError, ShapeError

from .engine.backward import grad
from .engine.core import Tensor, enable_grad, state
from .engine.public import public
from .engine.pullback import alias, zeros_like
from .engine.tape import ancestors
from .ops.shape import normalize_dim, reshape, stack, unbind


@public
def vjp(func: Callable[..., Any], *primals: Tensor) -> tuple[Any, Callable[..., tuple[Tensor, ...]]]:
    """(func(*primals), vjp_fn): vjp_fn(cotangents) gives the vector-Jacobian product for
    each primal, as often as asked.

    Args:
        func: of tensors; returns a tensor or a tuple of them.
        primals: where to differentiate; floating.

    Returns:
        What func returns, and a function of as many cotangents, each shaped as its output.
    """
    outputs, fresh, followed = _follow("vjp", func, primals)
    values = _listed(outputs)

    def vjp_fn(*cotangents: Any) -> tuple[Tensor, ...]:
        given = (
            cotangents[0] if len(cotangents) == 1 and not isinstance(cotangents[0], Tensor) else cotangents
        )
        if len(given) != len(values):
            raise GraphError(f"vjp: expected {len(values)} cotangents, got {len(given)}")
        return _gradients(values, fresh, given, followed)

    return outputs if followed else _detached(outputs), vjp_fn


@public
def jvp(func: Callable[..., Any], primals: Sequence[Tensor], tangents: Sequence[Tensor]) -> tuple[Any, Any]:
    """(func(*primals), J tangents), by the double transposition trick: v ↦ vᵀJ is
    linear, and its transpose is J.

    Args:
        func: of tensors; returns a tensor or a tuple of them.
        primals, tangents: as many, of the same shapes and dtypes.

    Returns:
        What func returns, and the derivative of it along the tangents, of the same structure.
    """
    _require_alike("jvp", "tangents", tangents, primals)
    outputs, fresh, followed = _follow("jvp", func, primals)
    values = _listed(outputs)
    with enable_grad():
        dummies = [zeros_like(y).requires_grad_() for y in values]
        products = _gradients(values, fresh, dummies, True)
    tangent = _gradients(products, dummies, tangents, followed)
    return outputs if followed else _detached(outputs), tangent[0] if isinstance(outputs, Tensor) else tangent


@public
def hvp(func: Callable[..., Tensor], inputs: Any, v: Any) -> tuple[Tensor, Any]:
    """(func(*inputs), H v) for a scalar function: the gradient of <gradient, v>.

    Args:
        func: of tensors; returns a scalar.
        inputs, v: a tensor each, or sequences of as many, of the same shapes and dtypes.

    Returns:
        The value, and the product, of the structure of `inputs`.
    """
    xs, vs = _listed(inputs), _listed(v)
    _require_alike("hvp", "v", vs, xs)
    y, fresh, followed = _follow("hvp", func, xs)
    with enable_grad():
        first = _gradients([_scalar("hvp", y)], fresh, [None], True)
    products = _gradients(first, fresh, vs, followed)
    return y if followed else y.detach(), products[0] if isinstance(inputs, Tensor) else products


@public
def jacobian(func: Callable[..., Tensor], argnums: int | tuple[int, ...] = 0) -> Callable[..., Any]:
    """A function of the same inputs that gives the Jacobian of `func` with respect to
    input `argnums`, row by row.

    Its shape is (*output, *input). A tuple of argnums gives a tuple of Jacobians. As torch.func.jacrev.
    """

    def evaluate(*inputs: Tensor) -> Any:
        chosen = _chosen("jacobian", argnums, inputs)
        y, vjp_fn = vjp(_partial(func, inputs, chosen), *(inputs[i] for i in chosen))
        if not isinstance(y, Tensor):
            raise GraphError(f"jacobian: expected a function that returns a tensor, got {type(y).__name__}")
        rows = [vjp_fn(_unit(y, i)) for i in range(y.array.size)]
        found = tuple(
            reshape(stack(column), (*y.shape, *inputs[i].shape))
            if column
            else _zeros((*y.shape, *inputs[i].shape), y)
            for i, column in zip(chosen, list(zip(*rows, strict=True)) or [()] * len(chosen), strict=True)
        )
        return found[0] if isinstance(argnums, int) else found

    return evaluate


jacrev = jacobian


@public
def jacfwd(func: Callable[..., Tensor], argnums: int | tuple[int, ...] = 0) -> Callable[..., Any]:
    """What `jacobian` gives, column by column: cheaper where there are fewer inputs than outputs. As
    torch.func.jacfwd.
    """

    def evaluate(*inputs: Tensor) -> Any:
        chosen = _chosen("jacfwd", argnums, inputs)
        found = tuple(_columns(_partial(func, inputs, [i]), inputs[i]) for i in chosen)
        return found[0] if isinstance(argnums, int) else found

    return evaluate


def _columns(func: Callable[..., Any], x: Tensor) -> Tensor:
    """The Jacobian (*output, *input) of a function of one input."""
    columns = [jvp(func, [x], [_unit(x, i)])[1] for i in range(x.array.size)]
    if not columns:
        y = func(x)
        return _zeros((*y.shape, *x.shape), y)
    if not isinstance(columns[0], Tensor):
        raise GraphError("jacfwd: expected a function that returns a tensor, got several")
    return reshape(stack(columns, -1), (*columns[0].shape, *x.shape))


@public
def grad_and_value(func: Callable[..., Tensor], argnums: int | tuple[int, ...] = 0) -> Callable[..., Any]:
    """A function of the same inputs that gives (gradient, value) of the scalar `func` with respect to input
    `argnums`; a tuple of gradients for a tuple of argnums. As torch.func.grad_and_value.
    """

    def evaluate(*inputs: Tensor) -> Any:
        chosen = _chosen("grad_and_value", argnums, inputs)
        points = [inputs[i] for i in chosen]
        y, fresh, followed = _follow("grad_and_value", _partial(func, inputs, chosen), points)
        slopes = _gradients([_scalar("grad_and_value", y)], fresh, [None], followed)
        return slopes[0] if isinstance(argnums, int) else slopes, y if followed else y.detach()

    return evaluate


@public
def hessian(func: Callable[..., Tensor], argnums: int | tuple[int, ...] = 0) -> Callable[..., Any]:
    """A function of the same inputs that gives the Hessian of the scalar `func`
    with respect to input `argnums`.

    Its shape is (*input, *input). A tuple of argnums gives a tuple of tuples: block [i][j] is (*input i,
    *input j). As torch.func.hessian, but backward over backward.
    """

    def gradient(which: int) -> Callable[..., Tensor]:
        def evaluate(*inputs: Tensor) -> Tensor:
            y, fresh, followed = _follow("hessian", _partial(func, inputs, [which]), [inputs[which]])
            return _gradients([_scalar("hessian", y)], fresh, [None], followed)[0]

        return evaluate

    def evaluate(*inputs: Tensor) -> Any:
        chosen = _chosen("hessian", argnums, inputs)
        blocks = tuple(jacobian(gradient(i), tuple(chosen))(*inputs) for i in chosen)
        return blocks[0][0] if isinstance(argnums, int) else blocks

    return evaluate


def _follow(who: str, func: Callable[..., Any], primals: Sequence[Tensor]) -> tuple[Any, list[Tensor], bool]:
    """func of the primals under new identities, these, and whether somebody may
    differentiate the result again.
    """
    for i, x in enumerate(primals):
        if not isinstance(x, Tensor):
            raise TypeError(f"{who}: expected tensors, got {type(x).__name__} as input {i}")
    with enable_grad():
        fresh = [alias(x) for x in primals]
        outputs = func(*fresh)
    known = {x.slot for x in fresh}
    nodes = ancestors(y.node for y in _listed(outputs) if y.node is not None)
    leaves = {
        edge.slot for node in nodes for edge in node.edges if edge is not None and edge.slot is not None
    }
    leaves |= {y.slot for y in _listed(outputs) if y.slot is not None}
    return outputs, fresh, state.grad and not leaves <= known


def _gradients(
    outputs: Sequence[Tensor], inputs: Sequence[Tensor], seeds: Sequence[Tensor | None], followed: bool
) -> tuple[Tensor, ...]:
    """`grad`, which keeps the graph and gives zeros where an output does not depend on an input."""
    used = [(y, seed) for y, seed in zip(outputs, seeds, strict=True) if y.requires_grad]
    if not used:
        return tuple(map(zeros_like, inputs))
    again = state.grad and (followed or any(seed is not None and seed.requires_grad for _, seed in used))
    found = grad([y for y, _ in used], inputs, [seed for _, seed in used], True, again, allow_unused=True)
    return tuple(zeros_like(x) if g is None else g for x, g in zip(inputs, found, strict=True))


def _listed(structure: Any) -> list[Tensor]:
    return [structure] if isinstance(structure, Tensor) else list(structure)


def _detached(outputs: Any) -> Any:
    return outputs.detach() if isinstance(outputs, Tensor) else tuple(y.detach() for y in outputs)


def _scalar(who: str, y: Any) -> Tensor:
    if not isinstance(y, Tensor) or y.array.size != 1:
        got = y.shape if isinstance(y, Tensor) else type(y).__name__
        raise GraphError(f"{who}: expected a function that returns a scalar, got {got}")
    return y


def _require_alike(who: str, what: str, given: Sequence[Tensor], like: Sequence[Tensor]) -> None:
    got, expected = ([(x.shape, str(x.dtype)) for x in tensors] for tensors in (given, like))
    if got != expected:
        raise ShapeError(f"{who}: expected {what} like the inputs {expected}, got {got}")


def _chosen(who: str, argnums: int | tuple[int, ...], inputs: Sequence[Tensor]) -> list[int]:
    numbers = (argnums,) if isinstance(argnums, int) else argnums
    if not all(-len(inputs) <= i < len(inputs) for i in numbers):
        raise ValueError(f"{who}: expected argnums of {len(inputs)} inputs, got {argnums}")
    return [i % len(inputs) for i in numbers]


def _partial(func: Callable[..., Any], inputs: Sequence[Tensor], chosen: Sequence[int]) -> Callable[..., Any]:
    """func of the chosen inputs alone."""

    def function(*values: Tensor) -> Any:
        given = dict(zip(chosen, values, strict=True))
        return func(*(given.get(i, x) for i, x in enumerate(inputs)))

    return function


def _zeros(shape: tuple[int, ...], like: Tensor) -> Tensor:
    return Tensor(memory.array_module(like.array).zeros(shape, like.dtype))


def _unit(y: Tensor, i: int) -> Tensor:
    unit = zeros_like(y)
    unit.array.reshape(-1)[i] = 1
    return unit


@public
def vmap(
    func: Callable[..., Any],
    in_dims: int | tuple[int | None, ...] = 0,
    out_dims: int | tuple[int, ...] = 0,
    randomness: str = "error",
    *,
    chunk_size: int | None = None,
) -> Callable[..., Any]:
    """A function that calls `func` for each slice of its inputs and stacks what it returns, as torch.vmap but
    with one call per slice: no faster than the loop that it replaces, as differentiable, and recorded whole.

    Args:
        func: of tensors; returns a tensor or a tuple of them, of one shape for all slices.
        in_dims: of each input the dim to slice, or None: it goes as it is into every call. One number is for
            all. Lists and dicts of tensors as inputs are not taken.
        out_dims: where the slices are stacked in each output; one number is for all.
        randomness: "different": each call draws its own numbers, as it does with "error", where PyTorch would
            refuse to draw. "same" is not there.
        chunk_size: without meaning.

    Raises:
        ShapeError: there is nothing to slice, sizes differ, or there is no slice.
    """
    if randomness not in ("error", "different"):
        raise ValueError(f"vmap: expected randomness 'error' or 'different', got {randomness!r}")

    def mapped(*inputs: Any) -> Any:
        dims = in_dims if isinstance(in_dims, tuple) else (in_dims,) * len(inputs)
        if len(dims) != len(inputs):
            raise ShapeError(f"vmap: expected in_dims for {len(inputs)} inputs, got {in_dims}")
        for x, dim in zip(inputs, dims, strict=True):
            if dim is not None and not (isinstance(dim, int) and isinstance(x, Tensor) and x.ndim):
                got = f"{type(x).__name__} {x.shape if isinstance(x, Tensor) else ''}".strip()
                raise ShapeError(f"vmap: expected in_dims None, or a dim of a tensor, got {dim!r} for {got}")
        cut = [
            x if dim is None else unbind(x, normalize_dim("vmap", dim, x.ndim))
            for x, dim in zip(inputs, dims, strict=True)
        ]
        sizes = {len(parts) for parts, dim in zip(cut, dims, strict=True) if dim is not None}
        if len(sizes) != 1 or 0 in sizes:
            raise ShapeError(f"vmap: expected one size, at least 1, of the sliced dims, got {sorted(sizes)}")
        calls = [
            func(*(parts if dim is None else parts[i] for parts, dim in zip(cut, dims, strict=True)))
            for i in range(*sizes)
        ]
        if isinstance(calls[0], Tensor):
            if not isinstance(out_dims, int):
                raise ShapeError(f"vmap: expected one number for out_dims of one output, got {out_dims}")
            return stack(calls, out_dims)
        outputs = [*zip(*calls, strict=True)]
        places = out_dims if isinstance(out_dims, tuple) else (out_dims,) * len(outputs)
        if len(places) != len(outputs):
            raise ShapeError(f"vmap: expected out_dims for {len(outputs)} outputs, got {out_dims}")
        return tuple(stack(parts, dim) for parts, dim in zip(outputs, places, strict=True))

    return mapped

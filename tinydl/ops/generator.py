"""Where random numbers come from: generators, and scopes in which draws are made from others, are noted, or
are made again.

A draw reserves a range of its generator's counter, and is a function of that range.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
from tinydl_kernels import random as kernels
from tinydl_kernels.machine.errors import GraphError, ShapeError
from tinydl_kernels.machine.scoped import Scoped

from ..devices import Resident, checked_device, constant, move
from ..engine.core import Array, Tensor, no_grad, state
from ..engine.effect import effect, made
from ..engine.public import public
from .update import assign

__all__ = [
    "Generator",
    "default_generator",
    "manual_seed",
    "noise_generator",
    "random_from",
    "remember",
    "repeat",
]

SEEDS = 1 << 64


@effect(writes=("counter",))
def _reserve(counter: Array, *, blocks: int) -> Array:
    """The counter as it was; it then moves on by `blocks`."""
    return kernels.reserve(counter, blocks)


class Generator:
    """A stream of random numbers: a key (seed, stream) and a counter of 128-bit blocks, both
    arrays that `record` can replay.

    Generators of one seed and different streams are independent. The counter follows the draws from
    device to device, so that the same draws give the same numbers on all of them; a change of
    device is a wait for the GPU.
    """

    def __init__(self, seed: int = 0, stream: int = 0) -> None:
        self.key = Resident(np.zeros(2, np.uint64))
        self.counter = Resident(np.zeros(1, np.uint64))
        for x in (self.key, self.counter):
            made(x)
        self.load_state_dict({"seed": seed, "stream": stream, "counter": 0})

    def manual_seed(self, seed: int) -> Generator:
        """Start anew from `seed`."""
        self.load_state_dict({"seed": seed, "stream": self.stream, "counter": 0})
        return self

    def initial_seed(self) -> int:
        """The seed that it began from."""
        return int(self.seed)

    seed = property(lambda self: int(move(self.key.array, "cpu")[0]))
    stream = property(lambda self: int(move(self.key.array, "cpu")[1]))

    def state_dict(self) -> dict[str, int]:
        """All there is to know: seed, stream and counter."""
        return {"seed": self.seed, "stream": self.stream, "counter": int(move(self.counter.array, "cpu")[0])}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from a `state_dict`, in place."""
        for name in ("seed", "stream", "counter"):
            if not isinstance(state.get(name), (int, np.integer)) or not 0 <= state[name] < SEEDS:
                raise ValueError(f"Generator: expected {name} in [0, 2**64), got {state.get(name)!r}")
        with no_grad():
            assign(self.key, constant(self.key, np.array([state["seed"], state["stream"]], np.uint64)))
            assign(self.counter, constant(self.counter, np.array([state["counter"]], np.uint64)))

    def __repr__(self) -> str:
        return f"Generator({', '.join(f'{name}={value}' for name, value in self.state_dict().items())})"


Draw = tuple[Tensor, Tensor]  # (key, start): what a draw is a function of
Source = Callable[[Generator | None, tuple[int, ...], Any, str], Draw]


def _reserved(generator: Generator | None, shape: tuple[int, ...], dtype: Any, device: str) -> Draw:
    source = generator or default_generator
    key, counter = source.key.on(device), source.counter.on(device)
    first, _, end = placed(shape, dtype)
    if first:  # those of the ranks before
        _reserve(counter, blocks=first)
    start = _reserve(counter, blocks=end - first)
    return key, start


def placed(shape: tuple[int, ...], dtype: Any) -> tuple[int, int, int]:
    """(the block in which a draw begins, the numbers of that block before it, the blocks of all ranks). But
    for draws of samples, where ranks share a batch, no more than (0, 0, the draw's blocks).
    """
    shard = state.shard if _here.of_samples else None
    if shard is None:
        return 0, 0, kernels.blocks(shape, dtype)
    times, odd = divmod(shape[0], shard.samples) if shape and shard.samples else (1, not shape)
    if odd:
        raise ShapeError(
            f"random: expected a draw for each of this rank's {shard.samples} samples, along axis 0, got "
            f"{shape}"
        )
    each = times * math.prod(shape[1:])
    in_block = 4 // (2 if np.dtype(dtype).itemsize == 8 else 1)
    first, before = divmod(shard.start * each, in_block)
    return first, before, kernels.blocks((shard.total * each,), dtype)


class _Here(Scoped):
    source: Source = staticmethod(_reserved)
    generator: Generator | None = None  # what serves instead of the one that a draw names
    of_samples: bool | None = None  # is axis 0 of a draw that of the batch's samples? None: nobody has said


_here = _Here()
default_generator = Generator()
noise_generator = Generator(stream=1)  # the default of dropout and noise


def reserved(generator: Generator | None, shape: tuple[int, ...], dtype: Any, device: Any = "cpu") -> Draw:
    return _here.source(_here.generator or generator, shape, dtype, checked_device(device, "device"))


def of_samples(draw: Callable[..., Any], *args: Any, **settings: Any) -> Any:
    """draw(*args, **settings), whose axis 0 is that of the batch's samples: where ranks share a batch, each
    draws for the places of its own (`Shard`), and together they draw what one process draws. Dropout and
    what else noises activations does so by itself.
    """
    with _here.replaced(of_samples=True):
        return draw(*args, **settings)


def of_batch(draw: Callable[..., Any], *args: Any, **settings: Any) -> Any:
    """draw(*args, **settings), one for all samples, also by dropout: the same on all ranks."""
    with _here.replaced(of_samples=False):
        return draw(*args, **settings)


def of_activations(draw: Callable[..., Any], *args: Any, **settings: Any) -> Any:
    """`of_samples`, unless somebody has said otherwise."""
    with _here.replaced(of_samples=_here.of_samples is not False):
        return draw(*args, **settings)


@public
def manual_seed(seed: int) -> Generator:
    """Seed the default generator, and that of dropout and noise; returns the former."""
    noise_generator.manual_seed(seed)
    return default_generator.manual_seed(seed)


def random_from(generator: Generator | None) -> AbstractContextManager[None]:
    """Within the scope every draw is made from `generator`, whichever one it names; the
    streams outside do not move.

    None leaves things as they are. `remember` and `repeat` around it see its draws as any others.
    """
    return _here.replaced(generator=generator or _here.generator)


def serving() -> Generator | None:
    """The generator of the innermost `random_from`; None outside of any."""
    return _here.generator


@contextmanager
def remember() -> Iterator[list[Draw]]:
    """Note every draw of the scope, so that `repeat` can make them again."""
    outer, draws = _here.source, []

    def noting(generator: Generator | None, shape: tuple[int, ...], dtype: Any, device: str) -> Draw:
        draws.append(outer(generator, shape, dtype, device))
        return draws[-1]

    with _here.replaced(source=noting):
        yield draws


@contextmanager
def repeat(draws: list[Draw]) -> Iterator[None]:
    """Make the noted draws again, in their order: a second pass with the same
    random numbers. No stream moves.
    """
    remaining = iter(draws)

    def again(generator: Generator | None, shape: tuple[int, ...], dtype: Any, device: str) -> Draw:
        draw = next(remaining, None)
        if draw is None:
            raise GraphError(
                f"repeat: expected at most the {len(draws)} draws that were noted, got another of shape "
                f"{shape}"
            )
        return draw

    with _here.replaced(source=again):
        yield

"""Noise on gradients, less with every step."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import Any

from ..devices import follow, on_host
from ..engine.core import Tensor, no_grad, state
from ..nn.parameter import Buffer
from ..ops.elementwise import add, div, mul, pow, sqrt, to_dtype
from ..ops.random import Generator, default_generator, randn_like
from ..ops.update import assign, increment

__all__ = ["GradientNoise"]


class GradientNoise:
    """Adds N(0, eta / (1 + t)^gamma) to each element of the gradients, t the number of calls before.

        noise = GradientNoise(0.01)
        ...
        loss.backward()
        noise(model.parameters())
        optimizer.step()

    Neelakantan et al. 2015 (arXiv 1511.06807), section 3; they take eta of 0.01, 0.3 and 1. A call may stand
    in a recorded step.

    Args:
        eta: the variance of the first noise, at least 0.
        gamma: how fast it falls, at least 0. Both may be changed; recorded steps are recorded anew.
        generator: where the noise comes from; by default a stream of its own, of the default generator's
            seed, so that other draws stay what they are without noise.

    Attributes:
        count: the calls so far, an int64 Buffer.

    Raises:
        ValueError: eta or gamma below 0.
    """

    def __init__(self, eta: float = 0.3, gamma: float = 0.55, generator: Generator | None = None) -> None:
        for name, value in (("eta", eta), ("gamma", gamma)):
            if not value >= 0:
                raise ValueError(f"GradientNoise: {name}: expected at least 0, got {value}")
        self.eta, self.gamma = float(eta), float(gamma)
        stream = (1 << 32) + zlib.crc32(b"gradient_noise")
        self.generator = generator or Generator(default_generator.seed, stream)
        self.count = Buffer(0)

    def __call__(self, parameters: Tensor | Iterable[Tensor]) -> None:
        """Bind `.grad` of every parameter that has one to what it is with noise, and count a call."""
        if state.recorder is not None:
            state.recorder.seen.depends(self, GradientNoise._settings)
        given = [parameters] if isinstance(parameters, Tensor) else list(parameters)
        taken = [(p, g) for p in given if (g := p.grad) is not None]
        with no_grad():
            follow([self.count], taken[0][0].device if taken else self.count.device)
            falling = pow(add(to_dtype(self.count, "float64"), 1.0), self.gamma)
            std = sqrt(div(self.eta, falling))
            for p, g in taken:
                p.grad = add(g, mul(randn_like(g, generator=self.generator), to_dtype(std, g.dtype)))
            increment(self.count)

    def state_dict(self) -> dict[str, Any]:
        """The calls counted, the settings and the state of the generator, ready for JSON."""
        return {
            "count": int(on_host(self.count)),
            "eta": self.eta,
            "gamma": self.gamma,
            "generator": self.generator.state_dict(),
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`, in place.

        Raises:
            ValueError: other keys.
        """
        wanted, got = sorted(self.state_dict()), sorted(state_dict)
        if wanted != got:
            raise ValueError(f"GradientNoise.load_state_dict: expected the keys {wanted}, got {got}")
        self.generator.load_state_dict(state_dict["generator"])
        self.eta, self.gamma = state_dict["eta"], state_dict["gamma"]
        with no_grad():
            assign(self.count, state_dict["count"])

    def _settings(self) -> tuple[float, float]:
        return self.eta, self.gamma

    def __repr__(self) -> str:
        return f"GradientNoise(eta={self.eta}, gamma={self.gamma})"

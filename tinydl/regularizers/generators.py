"""The generator's side of critic_losses.py: its loss is what the critic makes of its samples.

    Objective(generator, GeneratorLoss(critic, Hinge()))(noise)

The objective is the generator's: x is what it makes samples of. The critic is a constant, and its pass an
extra one: neither its gradients, its running statistics nor the vectors of its spectral norms move.
"""

from __future__ import annotations

from typing import Any

from ..devices import follow
from ..engine.core import Tensor
from ..nn.module import Module, functional_call
from ..ops.random import Generator
from .contract import Penalty, Weight
from .critic_losses import CriticLoss, Relativistic
from .gradients import single_outputs
from .passes import Pass

__all__ = ["GeneratorLoss"]


class GeneratorLoss(Penalty):
    """A loss: the generator's, of what a critic D says of the model's outputs.

        Wasserstein, Hinge    -mean D(fake)
        LeastSquares          mean (D(fake) - 1)²
        Logistic              mean softplus(-D(fake)), the non-saturating one
        Relativistic          mean_b softplus(-(D(fake_b) - D(x_b))), needs `real=` of the objective's call

    Args:
        critic: gives one number per sample; as it is in training or evaluation mode, with random numbers of
            the term's.
        loss: the critic's.

    Raises:
        ShapeError: a critic with several outputs per sample.
        ValueError: no real= where the loss compares.
    """

    def __init__(
        self,
        critic: Module,
        loss: CriticLoss,
        *,
        weight: Weight = 1.0,
        every: int = 1,
        generator: Generator | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, every=every, generator=generator, name=name)
        if not isinstance(loss, CriticLoss):
            raise TypeError(
                f"GeneratorLoss: expected a critic's loss, such as Hinge(), got {type(loss).__name__}"
            )
        self.critic, self.loss = critic, loss

    def __call__(self, seen: Pass) -> Tensor:
        follow([*self.critic.parameters(), *self.critic.buffers()], seen.logits.device)
        fake = self.scores(seen, seen.logits)
        if not isinstance(self.loss, Relativistic):
            return self.loss.of_generator(fake, None)
        real = seen.given.get("real")
        if not isinstance(real, Tensor):
            got = [*seen.given] if real is None else type(real).__name__
            raise ValueError(f"{self.name}: expected real= of the objective's call, a tensor, got {got}")
        return self.loss.of_generator(fake, self.scores(seen, real))

    def scores(self, seen: Pass, x: Tensor) -> Tensor:
        """D(x), (B,)."""
        there = seen.again(x, model=Constant(self.critic), draws="own", generator=self.generator)
        return single_outputs("GeneratorLoss", there.logits)

    def state(self) -> dict[str, Any]:
        return {key: value for key, value in super().state().items() if key != "critic"}


class Constant(Module):
    """A model without parameters to train."""

    def __init__(self, model: Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Any) -> Any:
        held = {name: p.detach() for name, p in self.model.named_parameters()}
        return functional_call(self.model, held, inputs)

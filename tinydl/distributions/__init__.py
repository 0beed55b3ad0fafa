"""Distributions with PyTorch's names and shapes (torch.distributions).

    policy = Categorical(logits=net(state))
    action = policy.sample()
    loss = -policy.log_prob(action) * gain

Densities, entropies and divergences are written with the operations of tinydl, so they can be differentiated
as often as one likes, and recorded.
"""

from .base import Distribution, kl_divergence
from .continuous import Beta, Exponential, Gamma, Laplace, Normal, Uniform
from .discrete import Bernoulli, Categorical
from .joint import Independent, MultivariateNormal

__all__ = [
    "Bernoulli",
    "Beta",
    "Categorical",
    "Distribution",
    "Exponential",
    "Gamma",
    "Independent",
    "Laplace",
    "MultivariateNormal",
    "Normal",
    "Uniform",
    "kl_divergence",
]

"""What the optimizers around an optimizer share: the groups, the states and the hooks are those of the one
inside, so that schedules and loops see no difference; and what they remember of each parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tinydl_kernels.machine.errors import DtypeError
from tinydl_kernels.update import State

from ..devices import follow
from ..engine.core import Tensor, state
from ..nn.parameter import Buffer
from .groups import Group
from .hooks import RemovableHandle
from .optimizer import Optimizer, made


class Wrapper:
    """Base of SAM and Lookahead. A step of it is one step of `base`, whose hooks run and which counts it.

    Attributes:
        base: the optimizer inside; another wrapper may be.
        settings: names of the attributes that are saved. A recorded step is recorded anew when one changes.

    Raises:
        TypeError: a base of the wrong type.
    """

    settings: tuple[str, ...] = ()

    def __init__(self, base: Optimizer | Wrapper) -> None:
        if not isinstance(base, (Optimizer, Wrapper)):
            raise TypeError(f"{self}: expected an optimizer to wrap, got {type(base).__name__}")
        self.base = base

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; returns what the closure returns."""
        raise NotImplementedError

    @property
    def param_groups(self) -> list[Group]:
        return self.base.param_groups

    @property
    def state(self) -> Any:
        return self.base.state

    @property
    def defaults(self) -> dict[str, Any]:
        return self.base.defaults

    def add_param_group(self, options: Mapping[str, Any]) -> None:
        """As of the optimizer inside."""
        self.base.add_param_group(options)

    def zero_grad(self) -> None:
        """Set `.grad` of every parameter to None."""
        self.base.zero_grad()

    def register_step_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """A hook of the optimizer inside, which is its first argument."""
        return self.base.register_step_pre_hook(hook)

    def register_step_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """A hook of the optimizer inside, which is its first argument."""
        return self.base.register_step_post_hook(hook)

    def state_dict(self) -> dict[str, Any]:
        """The state of the optimizer inside under "base", and the settings."""
        return {"base": self.base.state_dict(), **self._settings()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from the `state_dict` of the same wrapper around an optimizer of the same groups, in place.

        Raises:
            ValueError: other keys, a setting out of range, or a state that the optimizer inside refuses;
                nothing is written then.
        """
        wanted, got = sorted(self.state_dict()), sorted(state_dict)
        if wanted != got:
            raise ValueError(f"{self}.load_state_dict: expected the keys {wanted}, got {got}")
        before = self._settings()
        try:
            for name in self.settings:
                setattr(self, name, state_dict[name])
            self.base.load_state_dict(state_dict["base"])
        except Exception:
            for name, value in before.items():
                setattr(self, name, value)
            raise

    def _settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.settings}

    def _note(self) -> None:
        """Tell a recorder on what the step depends."""
        if state.recorder is not None:
            state.recorder.seen.depends(self, type(self)._settings)

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def _own(self, kept: dict[Tensor, Buffer], p: Tensor) -> Buffer:
        """What is kept of p, on its device; made in memory that no recorder plans, a copy of p, where there
        is nothing yet.
        """
        own = kept.get(p)
        if own is None:
            own = kept[p] = made(State(), p)
            own.array[...] = p.array
        follow([own], p.device)
        if own.dtype != p.dtype:
            raise DtypeError(
                f"{self}: expected a parameter {p.shape} in {own.dtype}, got {p.dtype}: make the optimizer "
                "once the model has its dtype"
            )
        return own

    def __repr__(self) -> str:
        return type(self).__name__

"""Modules that hold other modules, or change nothing but the shape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from tinydl_kernels.machine.errors import ShapeError

from ..engine.core import Tensor, add
from ..ops.shape import flatten
from ..ops.views import unflattened
from .module import Module
from .parameter import Parameter

__all__ = [
    "Flatten",
    "Identity",
    "Lambda",
    "ModuleDict",
    "ModuleList",
    "ParameterDict",
    "ParameterList",
    "Residual",
    "Sequential",
    "Unflatten",
]


def _require_iterable(container: Module, members: Any) -> None:
    if not isinstance(members, Iterable):
        raise TypeError(f"{type(container).__name__}: expected its members in an iterable, got {members!r}")


class _Ordered(Module):
    """Modules in an order, with names "0", "1", ... that follow it when it is edited."""

    def append(self: O, module: Module) -> O:
        """Add a module at the end."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self: O, modules: Iterable[Module]) -> O:
        """Add modules at the end."""
        _require_iterable(self, modules)
        for module in list(modules):
            self.append(module)
        return self

    def insert(self: O, index: int, module: Module) -> O:
        """Put a module before the one at `index`, as list.insert."""
        members = list(self)
        members.insert(index, module)
        return self._renamed(members)

    def pop(self, index: int = -1) -> Module:
        """Take a module out, the last one unless told otherwise."""
        members = list(self)
        module = members.pop(index)
        self._renamed(members)
        return module

    def _renamed(self: O, members: list[Any]) -> O:
        """The same container of other members, by their places. Nothing changes if one is no module."""
        for i, module in enumerate(members):
            self._require(Module, str(i), module)
        self._modules.clear()
        self._modules.update({str(i): module for i, module in enumerate(members)})
        return self

    def __setitem__(self, index: int, module: Module) -> None:
        name = list(self._modules)[index]
        self._require(Module, name, module)
        self._modules[name] = module

    def __delitem__(self, index: int | slice) -> None:
        members = list(self)
        del members[index]
        self._renamed(members)

    def __iadd__(self: O, other: Iterable[Module]) -> O:
        return self.extend(other)

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules.values())


O = TypeVar("O", bound=_Ordered)


class Sequential(_Ordered):
    """Modules one after another; indexable, with names "0", "1", ... or those of a
    dict. A slice keeps the names.
    """

    def __init__(self, *modules: Any) -> None:
        super().__init__()
        named = (
            modules[0].items() if len(modules) == 1 and isinstance(modules[0], dict) else enumerate(modules)
        )
        for name, module in named:
            self.add_module(str(name), module)

    def forward(self, input: Any) -> Any:
        for module in self._modules.values():
            input = module(input)
        return input

    def __add__(self, other: Iterable[Module]) -> Sequential:
        return Sequential(*self, *other)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return Sequential(dict(list(self._modules.items())[index]))
        return list(self._modules.values())[index]


class ModuleList(_Ordered):
    """A list of modules, registered in order as "0", "1", ..."""

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        self.extend(() if modules is None else modules)

    def __add__(self, other: Iterable[Module]) -> ModuleList:
        return ModuleList([*self, *other])

    def __getitem__(self, index: int | slice) -> Any:
        chosen = list(self._modules.values())[index]
        return ModuleList(chosen) if isinstance(index, slice) else chosen


class _Named(Module):
    """Members by name, in the order in which they came. They are the values of `_held`."""

    _held: dict[str, Any]

    def __init__(self, members: Mapping[str, Any] | Iterable[tuple[str, Any]] | None) -> None:
        super().__init__()
        self.update(() if members is None else members)

    def __getitem__(self, name: str) -> Any:
        return self._held[name]

    def __setitem__(self, name: str, member: Any) -> None:
        raise NotImplementedError

    def __delitem__(self, name: str) -> None:
        del self._held[name]

    def pop(self, name: str) -> Any:
        """Take a member out."""
        return self._held.pop(name)

    def clear(self) -> None:
        """Take all members out."""
        self._held.clear()

    def update(self, members: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> None:
        """Add members, or put them in the places of others of their names."""
        _require_iterable(self, members)
        for name, member in dict(members).items():
            self[name] = member

    def __contains__(self, name: str) -> bool:
        return name in self._held

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def keys(self) -> Any:
        return self._held.keys()

    def values(self) -> Any:
        return self._held.values()

    def items(self) -> Any:
        return self._held.items()


class ModuleDict(_Named):
    """Modules by name."""

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] | None = None) -> None:
        super().__init__(modules)

    @property
    def _held(self) -> dict[str, Any]:  # type: ignore[override]
        return self._modules

    def __setitem__(self, name: str, module: Module) -> None:
        self.add_module(name, module)


class ParameterDict(_Named):
    """Parameters by name."""

    def __init__(self, parameters: Mapping[str, Any] | Iterable[tuple[str, Any]] | None = None) -> None:
        super().__init__(parameters)

    @property
    def _held(self) -> dict[str, Any]:  # type: ignore[override]
        return self._parameters

    def __setitem__(self, name: str, parameter: Any) -> None:
        """Add a parameter, or what one can be made of."""
        self.register_parameter(name, parameter if isinstance(parameter, Parameter) else Parameter(parameter))


class ParameterList(Module):
    """A list of parameters, registered in order as "0", "1", ..."""

    def __init__(self, values: Iterable[Any] | None = None) -> None:
        super().__init__()
        self.extend(() if values is None else values)

    def append(self, parameter: Any) -> ParameterList:
        """Add a parameter (or what one can be made of) at the end."""
        self.register_parameter(
            str(len(self)), parameter if isinstance(parameter, Parameter) else Parameter(parameter)
        )
        return self

    def extend(self, values: Iterable[Any]) -> ParameterList:
        """Add several at the end."""
        _require_iterable(self, values)
        for value in values:
            self.append(value)
        return self

    def __len__(self) -> int:
        return len(self._parameters)

    def __iter__(self) -> Iterator[Parameter]:
        return iter(self._parameters.values())

    def __getitem__(self, index: int) -> Parameter:
        return list(self._parameters.values())[index]


class Residual(Module):
    """x + body(x), or shortcut(x) + body(x). He et al., arXiv 1512.03385."""

    def __init__(self, body: Module, shortcut: Module | None = None) -> None:
        super().__init__()
        for name, module in (("body", body), ("shortcut", shortcut)):
            if not isinstance(module, Module) and (module is not None or name == "body"):
                raise TypeError(f"Residual: expected a Module for {name!r}, got {type(module).__name__}")
        self.body, self.shortcut = body, Identity() if shortcut is None else shortcut

    def forward(self, input: Tensor) -> Tensor:
        shortcut, y = self.shortcut(input), self.body(input)
        if shortcut.shape != y.shape:
            raise ShapeError(
                f"Residual: expected a body that gives the shortcut's shape {shortcut.shape}, got {y.shape}"
            )
        return add(shortcut, y)


class Lambda(Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        if not callable(function):
            raise TypeError(f"Lambda: expected a function, got {type(function).__name__}")
        self.function = function

    def forward(self, *inputs: Any) -> Any:
        return self.function(*inputs)

    def extra_repr(self) -> str:
        return getattr(self.function, "__name__", repr(self.function))


class Identity(Module):
    """The input itself. Takes any settings and looks at none, as torch.nn.Identity."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, input: Tensor) -> Tensor:
        return input


class Flatten(Module):
    """The dims from start_dim to end_dim as one."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, input: Tensor) -> Tensor:
        return flatten(input, self.start_dim, self.end_dim)


class Unflatten(Module):
    """One dim split into several; one of the sizes may be -1."""

    def __init__(self, dim: int, unflattened_size: tuple[int, ...]) -> None:
        super().__init__()
        self.dim, self.unflattened_size = dim, tuple(unflattened_size)

    def forward(self, input: Tensor) -> Tensor:
        return unflattened("Unflatten", input, self.dim, self.unflattened_size)

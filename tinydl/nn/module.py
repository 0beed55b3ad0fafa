"""Module: a tree of layers with named parameters and buffers."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
from tinydl_kernels.machine.errors import TinydlError

from ..devices import move
from ..engine.core import Tensor, no_grad, state
from ..engine.hooks import RemovableHandle
from ..engine.public import public, refusal
from ..ops.creation import target
from ..ops.update import assign, clear_gradients
from .backward_hooks import call_watched
from .parameter import Buffer, Parameter, as_buffer
from .saved import Keys, load

__all__ = [
    "Module",
    "functional_call",
    "intercept",
]

M = TypeVar("M", bound="Module")
Hook = Callable[..., Any]


class Module:
    """Base of all layers and networks: assign Parameters, Buffers and Modules as
    attributes and write `forward`.
    """

    training: bool

    def __init__(self) -> None:
        object.__setattr__(self, "_transient", set())  # names of the buffers that are not saved
        for name in (
            "_parameters",
            "_buffers",
            "_modules",
            "_computed",
            "_forward_hooks",
            "_forward_pre_hooks",
            "_backward_hooks",
        ):
            object.__setattr__(self, name, {})
        object.__setattr__(self, "training", True)

    def __init_subclass__(cls, **options: Any) -> None:
        """Layers of this library that take a dtype take a device too: they are made on the CPU and moved."""
        super().__init_subclass__(**options)
        if cls.__module__.startswith("tinydl.") and "__init__" in vars(cls):
            parameters = inspect.signature(cls.__init__).parameters
            if parameters.get("dtype") is not None and parameters["dtype"].default is None:
                cls.__init__ = _with_device(cls.__init__)  # type: ignore[method-assign]

    def forward(self, *inputs: Any) -> Any:
        """What the module computes. Subclasses write it."""
        raise NotImplementedError(f"{type(self).__name__}.forward")

    def __call__(self, *inputs: Any, **settings: Any) -> Any:
        if state.recorder is not None:
            state.recorder.seen.runs(self)
        if state.tracer is not None:
            state.tracer.enter(self)
        try:
            for hook in list(self._forward_pre_hooks.values()) if self._forward_pre_hooks else ():
                changed = hook(self, inputs)
                inputs = inputs if changed is None else changed if isinstance(changed, tuple) else (changed,)
            if self._backward_hooks:
                output = call_watched(self, list(self._backward_hooks.values()), inputs, settings)
            else:
                output = self.forward(*inputs, **settings)
            for hook in list(self._forward_hooks.values()) if self._forward_hooks else ():
                changed = hook(self, inputs, output)
                output = output if changed is None else changed
            return output
        except Exception as error:
            told = self._told(error, inputs, settings)
            self._locate(told)
            if told is error:
                raise
            raise told from error
        finally:
            if state.tracer is not None:
                state.tracer.leave()

    def _told(self, error: Exception, inputs: Any, settings: Any) -> Exception:
        """An error that names the input of the wrong type, if there is one; else the error itself."""
        told = None
        # not from a layer below
        if isinstance(error, (AttributeError, TypeError)) and not hasattr(error, "module"):
            told = refusal(type(self).__name__, self.forward, inputs, settings)
        return error if told is None else told

    def _locate(self, error: Any) -> None:
        """Put this module's part before the path to the layer that the error comes from; it stands in the
        message of an error of ours, and in a note under any other.
        """
        inner, layers = getattr(error, "module", None), getattr(error, "layers", ())
        path = next((path for path, module in self.named_modules() if module is inner), "")
        error.layers = (path, *layers) if path else layers
        error.module = self
        if error.layers and not isinstance(error, TinydlError):
            notes = [note for note in getattr(error, "__notes__", []) if note != _note(layers)]
            error.__notes__ = [*notes, _note(error.layers)]

    # Attributes
    # --------------------------------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        homes = {Parameter: "_parameters", Buffer: "_buffers", Module: "_modules"}
        home = next((homes[kind] for kind in homes if isinstance(value, kind)), None)
        if "_modules" not in self.__dict__:
            if home is None:  # a setting may come first
                object.__setattr__(self, name, value)
                return
            raise AttributeError(
                f"{type(self).__name__}: expected super().__init__() before assigning {name!r}"
            )
        if name in self._buffers and type(value) is Tensor:
            if self._took(name, value):
                return
            value, home = as_buffer(value), "_buffers"
        if home is None:
            kind, home = next(
                ((kind, h) for kind, h in homes.items() if name in getattr(self, h)), (None, None)
            )
            if kind is not None:  # set to None it stays registered: bias=None
                self._require(kind, name, value)
        for other in homes.values():
            if other != home:
                getattr(self, other).pop(name, None)
        if home is None:
            if state.recorder is not None:
                state.recorder.seen.runs(self)
            object.__setattr__(self, name, value)
        else:
            self.__dict__.pop(name, None)
            getattr(self, home)[name] = value

    def __getattr__(self, name: str) -> Any:
        for home in ("_parameters", "_buffers", "_modules"):
            if name in self.__dict__.get(home, {}):
                return self.__dict__[home][name]
        if name in self.__dict__.get("_computed", {}):
            return self.__dict__["_computed"][name](self)
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __delattr__(self, name: str) -> None:
        for home in ("_parameters", "_buffers", "_modules", "_computed"):
            if name in getattr(self, home):
                del getattr(self, home)[name]
                self._transient.discard(name)
                return
        object.__delattr__(self, name)

    def _require(self, kind: type, name: str, value: Any) -> None:
        if value is not None and not isinstance(value, kind):
            got = type(value).__name__
            raise TypeError(
                f"{type(self).__name__}: expected a {kind.__name__} or None for {name!r}, got {got}"
            )

    def register_parameter(self, name: str, parameter: Parameter | None) -> None:
        """A named parameter, or the name of one that is absent (None)."""
        self._require(Parameter, name, parameter)
        self._parameters[name] = parameter

    def _took(self, name: str, value: Tensor) -> bool:
        """A tensor assigned to a buffer: inside a recorded step, which does not see what names stand for, it
        is written into the buffer if it fits.
        """
        own = self._buffers[name]
        fits = own is not None and (own.shape, own.dtype, own.device) == (
            value.shape,
            value.dtype,
            value.device,
        )
        if state.recorder is None or not fits:
            return False
        with no_grad():
            assign(own, as_buffer(value))
        return True

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """A named buffer, or the name of one that is absent (None). A tensor becomes a Buffer of the same
        memory. Without `persistent` it moves with the module and is not saved with it.
        """
        if type(tensor) is Tensor:
            tensor = as_buffer(tensor)
        self._require(Buffer, name, tensor)
        self._buffers[name] = tensor
        (self._transient.discard if persistent else self._transient.add)(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """A named child, or the name of one that is absent (None)."""
        if "." in name or not name:
            raise ValueError(f"{type(self).__name__}: expected a name without dots, got {name!r}")
        self._require(Module, name, module)
        self._modules[name] = module

    register_module = add_module

    def register_computed(self, name: str, function: Callable[[Module], Tensor]) -> None:
        """An attribute that is `function(self)` whenever it is read: a weight that others make, say."""
        self._computed[name] = function

    # The tree
    # --------------------------------------------------------------------------------------------------------

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules right below this one by name, each once."""
        seen: set[int] = set()
        for name, child in self._modules.items():
            if child is not None and id(child) not in seen:
                seen.add(id(child))
                yield name, child

    def children(self) -> Iterator[Module]:
        return (child for _, child in self.named_children())

    def named_modules(
        self, memo: set[int] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """("", self), then every module below it by its dotted path, each once unless told otherwise."""
        seen: set[int] = set() if memo is None else memo
        stack = [(prefix, self)]
        while stack:
            path, module = stack.pop()
            if module is not None and id(module) not in seen:
                if remove_duplicate:
                    seen.add(id(module))
                yield path, module
                stack += [
                    (f"{path}.{name}" if path else name, child)
                    for name, child in reversed(module._modules.items())
                ]

    def modules(self) -> Iterator[Module]:
        return (module for _, module in self.named_modules())

    def _named(self, home: str, prefix: str, recurse: bool, once: bool) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        modules = self.named_modules(None, prefix, once) if recurse else [(prefix, self)]
        for path, module in modules:
            for name, value in getattr(module, home).items():
                if value is not None and id(value) not in seen:
                    if once:
                        seen.add(id(value))
                    yield f"{path}.{name}" if path else name, value

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Every parameter by its dotted path, each once; without `recurse` the module's own."""
        return self._named("_parameters", prefix, recurse, remove_duplicate)

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Buffer]]:
        """Every buffer by its dotted path, each once; without `recurse` the module's own."""
        return self._named("_buffers", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        return (p for _, p in self.named_parameters(recurse=recurse))

    def buffers(self, recurse: bool = True) -> Iterator[Buffer]:
        return (b for _, b in self.named_buffers(recurse=recurse))

    def saved_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """The module's own parameters and buffers, by name, as far as they are saved."""
        for name, value in (*self._parameters.items(), *self._buffers.items()):
            if value is not None and name not in self._transient:
                yield name, value

    def get_submodule(self, path: str) -> Module:
        """The module at a dotted path; "" is the module itself."""
        module = self
        for name in path.split(".") if path else ():
            if name not in module._modules:
                known = ", ".join(module._modules) or "no children"
                raise AttributeError(
                    f"get_submodule: expected one of {known} in {type(module).__name__}, got {name!r} of "
                    f"{path!r}"
                )
            module = module._modules[name]
        return module

    def apply(self: M, function: Callable[[Module], None]) -> M:
        """Call `function` on every module of the tree, children first, by their own `apply`."""
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    def train(self: M, mode: bool = True) -> M:
        """Training mode (batch statistics, dropout) for the whole tree, by the children's own `train`."""
        if state.recorder is not None:  # which asks for the mode before the step
            state.recorder.seen.runs(self)
        object.__setattr__(self, "training", mode)
        for child in self.children():
            child.train(mode)
        return self

    def eval(self: M) -> M:
        """Evaluation mode for the whole tree."""
        return self.train(False)

    def requires_grad_(self: M, requires_grad: bool = True) -> M:
        """Freeze or thaw every parameter."""
        for p in self.parameters():
            p.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Set `.grad` of every parameter to None; or those that are there to zeros."""
        clear_gradients(self.parameters(), set_to_none)

    def to(
        self: M,
        *wanted: Any,
        dtype: Any = None,
        device: Any = None,
        non_blocking: bool = False,
        memory_format: Any = None,
    ) -> M:
        """Parameters and buffers on another device, floating ones in another dtype, as a tensor's `to`.

        Children move by their own `to`. Drops gradients of what changes; recordings end, optimizers follow.
        """
        dtype, device = target("to", wanted, dtype, device)
        for tensor in (*self.parameters(False), *self.buffers(False)):
            cast = dtype is not None and tensor.dtype.kind == "f" and tensor.dtype != dtype
            if cast or device not in (None, tensor.device):
                tensor.grad = None
                array = move(tensor.array, device or tensor.device)
                tensor.array = array.astype(dtype) if cast else array
        given = {"dtype": dtype, "device": device}
        for child in self.children():
            child.to(**{name: value for name, value in given.items() if value is not None})
        return self

    def cuda(self: M, device: Any = "cuda") -> M:
        return self.to(device=device)

    def cpu(self: M) -> M:
        return self.to(device="cpu")

    def double(self: M) -> M:
        return self.to(np.float64)

    def float(self: M) -> M:
        return self.to(np.float32)

    # State
    # --------------------------------------------------------------------------------------------------------

    def state_dict(
        self, destination: dict[str, Any] | None = None, prefix: str = "", keep_vars: bool = False
    ) -> dict[str, Any]:
        """Parameters and persistent buffers by dotted path, in PyTorch's order; they share memory with the
        module, and with `keep_vars` are the tensors themselves. Children say by their own `state_dict`.

        What is shared inside the module is there under each of its names, as in PyTorch.
        """
        found: dict[str, Any] = {} if destination is None else destination
        for name, value in self.saved_tensors():
            found[prefix + name] = value if keep_vars else value.detach()
        for name, child in self._modules.items():
            if child is not None:
                theirs = child.state_dict(keep_vars=True) if keep_vars else child.state_dict()
                found.update({f"{prefix}{name}.{key}": value for key, value in theirs.items()})
        return found

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> Keys:
        """Copy arrays or tensors in by name, each cast to its dtype; returns (missing_keys, unexpected_keys),
        an error if `strict`.

        Nothing is written unless all of it fits; a module below that overrides `load_state_dict` is given its
        part, by names without its path, before the rest is written. Running statistics without
        `num_batches_tracked` come with 0, as in PyTorch.
        """
        return load(self, Module, state_dict, strict)

    # Hooks
    # --------------------------------------------------------------------------------------------------------

    def register_forward_hook(self, hook: Hook) -> RemovableHandle:
        """Call hook(module, inputs, output) after `forward`; what it returns replaces the output. The handle
        removes it: `handle.remove()`, or `handle()`.
        """
        return RemovableHandle(self._forward_hooks, hook)

    def register_forward_pre_hook(self, hook: Hook) -> RemovableHandle:
        """Call hook(module, inputs) before `forward`; what it returns replaces the inputs. The handle removes
        it.
        """
        return RemovableHandle(self._forward_pre_hooks, hook)

    def register_full_backward_hook(self, hook: Hook) -> RemovableHandle:
        """Call hook(module, grad_input, grad_output) in each backward pass; what it returns replaces the
        gradients of the inputs. Not in a recorded step.
        """
        return RemovableHandle(self._backward_hooks, hook)

    def extra_repr(self) -> str:
        """What `repr` shows of the settings."""
        return ""

    def __repr__(self) -> str:
        lines = [f"({name}): {child!r}".replace("\n", "\n  ") for name, child in self._modules.items()]
        inside = "\n  ".join(["", *lines]) + "\n" if lines else ""
        return f"{type(self).__name__}({self.extra_repr()}{inside})"


def _with_device(construct: Callable[..., None]) -> Callable[..., None]:
    """A constructor that takes `device=` too."""
    signature = inspect.signature(construct)

    @functools.wraps(construct)
    def init(self: Module, *args: Any, device: Any = None, **settings: Any) -> None:
        construct(self, *args, **settings)
        if device is not None:
            self.to(device=device)

    own = inspect.Parameter("device", inspect.Parameter.KEYWORD_ONLY, default=None)
    init.__signature__ = signature.replace(parameters=[*signature.parameters.values(), own])  # type: ignore[attr-defined]
    return init


def _note(layers: tuple[str, ...]) -> str:
    return f"in layer {'.'.join(layers)}"


@contextmanager
def intercept(model: Module, layer: str, function: Callable[[Tensor], Tensor | None]) -> Iterator[None]:
    """Within the scope, `function` sees the output of the layer at that dotted path, and
    what it returns replaces it.

    For a second pass with the same dropout masks run both passes under `random.remember` and `random.repeat`.
    """
    remove = model.get_submodule(layer).register_forward_hook(lambda module, inputs, output: function(output))
    try:
        yield
    finally:
        remove()


@public
def functional_call(
    model: Module,
    parameters_and_buffers: Mapping[str, Tensor],
    args: Any,
    kwargs: dict[str, Any] | None = None,
) -> Any:
    """model(*args) with other tensors in place of the parameters and buffers of those names,
    as torch.func.functional_call.

    What the model holds in several places is replaced in all of them.
    """
    given: dict[int, Tensor] = {}  # by the identity of what is replaced
    for name, tensor in parameters_and_buffers.items():
        path, _, leaf = name.rpartition(".")
        module = model.get_submodule(path)
        own = next(
            (home[leaf] for home in (module._parameters, module._buffers) if home.get(leaf) is not None), None
        )
        if own is None:
            raise KeyError(
                f"functional_call: expected a parameter or buffer of {type(model).__name__}, got {name!r}"
            )
        if given.setdefault(id(own), tensor) is not tensor:
            raise ValueError(
                f"functional_call: expected one tensor for what {name!r} shares with another name, got two"
            )
    places = [
        (home, leaf, own)
        for module in model.modules()
        for home in (module._parameters, module._buffers)
        for leaf, own in home.items()
        if id(own) in given
    ]
    try:
        for home, leaf, own in places:
            home[leaf] = given[id(own)]
        return model(*(args if isinstance(args, tuple) else (args,)), **(kwargs or {}))
    finally:
        for home, leaf, own in places:
            home[leaf] = own

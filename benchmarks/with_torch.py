"""The cases in PyTorch, eager: ATen's operators, and training steps as its users write them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from .cases import EPS, LEARNING_RATE, PENALTIES, Arrays, Case
from .models_torch import MODELS

VERSION = torch.__version__
Contenders = dict[str, Any]
aten = torch.ops.aten


def start(threads: int) -> None:
    torch.set_num_threads(threads)


def arrays(result: Any) -> list[np.ndarray]:
    parts = result if isinstance(result, (tuple, list)) else [result]
    return [part.detach().numpy() for part in parts]


def _tensors(d: Arrays) -> dict[str, torch.Tensor]:
    return {name: torch.as_tensor(array) for name, array in d.items()}


def conv_forward(case: Case, d: Arrays) -> Contenders:
    s, t = case.settings, _tensors(d)
    return {"": lambda: F.conv2d(t["x"], t["w"], None, s.stride, s.pad, s.dilation, s.groups)}


def _conv_backward(case: Case, d: Arrays, wanted: int) -> Contenders:
    s, t = case.settings, _tensors(d)
    mask = [i == wanted for i in range(3)]

    def call() -> torch.Tensor:
        window = ([s.stride] * 2, [s.pad] * 2, [s.dilation] * 2, False, [0, 0], s.groups)
        return aten.convolution_backward(t["g"], t["x"], t["w"], None, *window, mask)[wanted]

    return {"": call}


def conv_grad_input(case: Case, d: Arrays) -> Contenders:
    return _conv_backward(case, d, 0)


def conv_grad_weight(case: Case, d: Arrays) -> Contenders:
    return _conv_backward(case, d, 1)


def matmul(case: Case, d: Arrays) -> Contenders:
    t = _tensors(d)
    return {"": lambda: t["a"] @ t["b"]}


def norm_forward(case: Case, d: Arrays) -> Contenders:
    t = _tensors(d)
    return {"": lambda: aten.native_batch_norm(t["x"], t["gamma"], t["beta"], None, None, True, 0.1, EPS)[0]}


def norm_backward(case: Case, d: Arrays) -> Contenders:
    t = _tensors(d)
    _, mean, scale = aten.native_batch_norm(t["x"], t["gamma"], t["beta"], None, None, True, 0.1, EPS)
    settings = (None, None, mean, scale, True, EPS, [True] * 3)
    return {"": lambda: aten.native_batch_norm_backward(t["g"], t["x"], t["gamma"], *settings)}


def norm_second(case: Case, d: Arrays) -> Contenders:
    t = _tensors(d)
    x, gamma, g = (t[name].requires_grad_() for name in ("x", "gamma", "g"))
    y = F.batch_norm(x, None, None, gamma, t["beta"], True, 0.1, EPS)
    (dx,) = torch.autograd.grad(y, x, g, create_graph=True)
    return {"": lambda: torch.autograd.grad(dx, (g, x, gamma), t["v"], retain_graph=True)}


def _pool(case: Case, d: Arrays) -> tuple[Any, ...]:
    s = case.settings
    return _tensors(d), ([s.k] * 2, [s.stride] * 2, [s.pad] * 2, [1, 1], False)


def pool_forward(case: Case, d: Arrays) -> Contenders:
    t, settings = _pool(case, d)
    return {"": lambda: aten.max_pool2d_with_indices(t["x"], *settings)[0]}


def pool_backward(case: Case, d: Arrays) -> Contenders:
    t, settings = _pool(case, d)
    _, indices = aten.max_pool2d_with_indices(t["x"], *settings)
    return {"": lambda: aten.max_pool2d_with_indices_backward(t["g"], t["x"], *settings, indices)}


def loss(case: Case, d: Arrays) -> Contenders:
    t = _tensors(d)
    return {"": lambda: F.cross_entropy(t["x"], t["target"], reduction="none")}


def loss_backward(case: Case, d: Arrays) -> Contenders:
    t = _tensors(d)
    log_p, total = torch.log_softmax(t["x"], 1), torch.tensor(0.0)

    def call() -> torch.Tensor:
        g = aten.nll_loss_backward(t["g"], log_p, t["target"], None, 0, -100, total)
        return aten._log_softmax_backward_data(g, log_p, 1, torch.float32)

    return {"": call}


def dropout(case: Case, d: Arrays) -> Contenders:
    t = _tensors(d)
    return {"": lambda: aten.native_dropout(t["x"], 0.5, True)}


def adam(case: Case, d: Arrays) -> Contenders:
    return {"": _optimizer(torch.optim.Adam, d), "fused": _optimizer(torch.optim.Adam, d, fused=True)}


def rmsprop(case: Case, d: Arrays) -> Contenders:
    return {"": _optimizer(torch.optim.RMSprop, d)}


def _optimizer(kind: Any, d: Arrays, **options: Any) -> Any:
    params = [torch.from_numpy(p.copy()) for p in d["params"]]
    for p, g in zip(params, d["grads"], strict=True):
        p.grad = torch.from_numpy(g)
    optimizer = kind(params, lr=LEARNING_RATE, **options)

    def call() -> torch.Tensor:
        optimizer.step()
        return params[0]

    return call


def training_step(
    case: Case, d: Arrays, fused: bool | None, capturable: bool = False, compiled: bool = False
) -> Any:
    """() -> (loss, penalty), on a minibatch that stays, on its device."""
    x, y, r = (torch.as_tensor(d[name]) for name in "xyr")
    model = MODELS[case.settings.model]().to(x.device)
    model.load_state_dict({name: torch.from_numpy(p) for name, p in d["params"].items()}, strict=False)
    params = list(model.parameters())
    forward = torch.compile(model) if compiled else model
    optimizer = torch.optim.Adam(params, lr=LEARNING_RATE, fused=fused, capturable=capturable)
    penalty, weight = case.settings.penalty, PENALTIES[case.settings.penalty]

    def plain() -> tuple[torch.Tensor, ...]:
        optimizer.zero_grad()
        loss = F.cross_entropy(forward(x), y)
        loss.backward()
        optimizer.step()
        return (loss,)

    def penalized() -> tuple[torch.Tensor, ...]:
        optimizer.zero_grad()
        followed = x.detach().requires_grad_()
        logits = forward(followed)
        losses = F.cross_entropy(logits, y, reduction="none")
        outputs, seed = (losses.sum(), None) if penalty == "datagrad" else (logits, r)
        (g,) = torch.autograd.grad(outputs, followed, seed, create_graph=True)
        loss, squared = losses.mean(), g.square().sum() / len(x)
        (loss + weight * squared).backward(inputs=params)
        optimizer.step()
        return loss, squared

    return plain if penalty == "plain" else penalized


def step(case: Case, d: Arrays) -> Contenders:
    return {"": training_step(case, d, None), "fused": training_step(case, d, True)}


def infer(case: Case, d: Arrays) -> Contenders:
    model, x = MODELS[case.settings.model]().eval(), torch.from_numpy(d["x"])
    model.load_state_dict({name: torch.from_numpy(p) for name, p in d["params"].items()}, strict=False)

    def forward() -> torch.Tensor:
        with torch.inference_mode():
            return model(x)

    return {"": forward}

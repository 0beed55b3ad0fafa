"""The optimizers in NumPy and float64, each written from its formula: the oracles of optimizers.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Step = Callable[[np.ndarray, np.ndarray, dict[str, Any]], np.ndarray]
QUINTIC = (3.4445, -4.775, 2.0315)


def sgd(o: Mapping[str, Any]) -> Step:
    def step(p: Any, g: Any, own: dict[str, Any]) -> Any:
        d = (-g if o.get("maximize") else g) + o.get("weight_decay", 0) * p
        if o.get("momentum", 0):
            first = "b" not in own
            own["b"] = d if first else o["momentum"] * own["b"] + (1 - o.get("dampening", 0)) * d
            d = d + o["momentum"] * own["b"] if o.get("nesterov") else own["b"]
        return p - o.get("lr", 1e-3) * d

    return step


def adam(o: Mapping[str, Any], decay: float = 0.0, decoupled: bool = False) -> Step:
    def step(p: Any, g: Any, own: dict[str, Any]) -> Any:
        lr, (beta1, beta2), eps = o.get("lr", 1e-3), o.get("betas", (0.9, 0.999)), o.get("eps", 1e-8)
        weight_decay = o.get("weight_decay", decay)
        d = -g if o.get("maximize") else g
        if decoupled:
            p = p - lr * weight_decay * p
        else:
            d = d + weight_decay * p
        own["t"] = own.get("t", 0) + 1
        own["m"] = beta1 * own.get("m", 0) + (1 - beta1) * d
        own["v"] = own["x"] = beta2 * own.get("v", 0) + (1 - beta2) * d**2
        if o.get("amsgrad"):
            own["x"] = own["most"] = np.maximum(own.get("most", 0), own["v"])
        mean, square = own["m"] / (1 - beta1 ** own["t"]), own["x"] / (1 - beta2 ** own["t"])
        return p - lr * mean / (np.sqrt(square) + eps)

    return step


def adamw(o: Mapping[str, Any]) -> Step:
    return adam(o, decay=1e-2, decoupled=True)


def root(square: Any, o: Mapping[str, Any], default: float) -> Any:
    eps = o.get("eps", default)
    return np.sqrt(square + eps) if o.get("eps_inside") else np.sqrt(square) + eps


def rmsprop(o: Mapping[str, Any]) -> Step:
    def step(p: Any, g: Any, own: dict[str, Any]) -> Any:
        alpha = o.get("alpha", 0.99)
        d = (-g if o.get("maximize") else g) + o.get("weight_decay", 0) * p
        own["v"] = w = alpha * own.get("v", 0) + (1 - alpha) * d**2
        if o.get("centered"):
            own["a"] = alpha * own.get("a", 0) + (1 - alpha) * d
            w = np.maximum(w - own["a"] ** 2, 0)
        u = d / root(w, o, 1e-8)
        if o.get("momentum", 0):
            own["b"] = u = o["momentum"] * own.get("b", 0) + u
        return p - o.get("lr", 1e-2) * u

    return step


def momentum(o: Mapping[str, Any]) -> Step:
    def step(p: Any, g: Any, own: dict[str, Any]) -> Any:
        beta = o.get("beta", 0.9)
        d = (-g if o.get("maximize") else g) + o.get("weight_decay", 0) * p
        own["all"] = [(beta * weight, x) for weight, x in own.get("all", [])] + [(1 - beta, d)]
        return p - o.get("lr", 1e-2) * sum(weight * x for weight, x in own["all"])

    return step


def asgd(o: Mapping[str, Any]) -> Step:
    def step(p: Any, g: Any, own: dict[str, Any]) -> Any:
        lr, lambd = o.get("lr", 1e-2), o.get("lambd", 1e-4)
        d = (-g if o.get("maximize") else g) + o.get("weight_decay", 0) * p
        eta, mu, own["t"] = own.get("eta", lr), own.get("mu", 1.0), own.get("t", 0) + 1
        p = p - eta * lambd * p - eta * d
        own["ax"] = p if mu == 1 else (1 - mu) * own["ax"] + mu * p
        own["eta"] = lr / (1 + lambd * lr * own["t"]) ** o.get("alpha", 0.75)
        own["mu"] = 1 / max(1, own["t"] - o.get("t0", 1e6))
        return p

    return step


def adagrad(o: Mapping[str, Any]) -> Step:
    def step(p: Any, g: Any, own: dict[str, Any]) -> Any:
        d = (-g if o.get("maximize") else g) + o.get("weight_decay", 0) * p
        own["t"], own["s"] = (
            own.get("t", 0) + 1,
            own.get("s", o.get("initial_accumulator_value", 0)) + d**2,
        )
        rate = o.get("lr", 1e-2) / (1 + (own["t"] - 1) * o.get("lr_decay", 0))
        return p - rate * d / root(own["s"], o, 1e-10)

    return step


def adadelta(o: Mapping[str, Any]) -> Step:
    def step(p: Any, g: Any, own: dict[str, Any]) -> Any:
        rho, eps = o.get("rho", 0.9), o.get("eps", 1e-6)
        d = (-g if o.get("maximize") else g) + o.get("weight_decay", 0) * p
        own["v"] = rho * own.get("v", 0) + (1 - rho) * d**2
        u = np.sqrt((own.get("a", 0) + eps) / (own["v"] + eps)) * d
        own["a"] = rho * own.get("a", 0) + (1 - rho) * u**2
        return p - o.get("lr", 1.0) * u

    return step


def rprop(o: Mapping[str, Any]) -> Step:
    def step(p: Any, g: Any, own: dict[str, Any]) -> Any:
        d = -g if o.get("maximize") else g
        product = d * own.get("prev", 0 * d)
        size = own.get("size", np.full(np.shape(p), o.get("lr", 1e-2)))
        (shrink, grow), between = o.get("etas", (0.5, 1.2)), o.get("step_sizes", (1e-6, 50.0))
        size = size * np.select([product > 0, product < 0], [grow, shrink], 1.0)
        own["size"], own["prev"] = np.clip(size, *between), np.where(product < 0, 0, d)
        return p - np.sign(own["prev"]) * own["size"]

    return step


def prepared(o: Mapping[str, Any], p: Any, g: Any, lr: float, decoupled: bool) -> tuple[Any, Any]:
    """The parameter and the gradient once the decay has acted, on one of the two."""
    d, decay = -g if o.get("maximize") else g, o.get("weight_decay", 0)
    return ((1 - lr * decay) * p, d) if decoupled else (p, d + decay * p)


def moments(o: Mapping[str, Any], d: Any, own: dict[str, Any]) -> tuple[float, float]:
    """The Adam family's: m, v and t in `own`; returns 1 - beta^t for each beta."""
    beta1, beta2 = o.get("betas", (0.9, 0.999))
    own["t"] = own.get("t", 0) + 1
    own["m"] = beta1 * own.get("m", 0) + (1 - beta1) * d
    own["v"] = beta2 * own.get("v", 0) + (1 - beta2) * d**2
    return 1 - beta1 ** own["t"], 1 - beta2 ** own["t"]


def adamax(o: Mapping[str, Any]) -> Step:
    def step(p: Any, g: Any, own: dict[str, Any]) -> Any:
        lr, (_, beta2) = o.get("lr", 2e-3), o.get("betas", (0.9, 0.999))
        p, d = prepared(o, p, g, lr, False)
        left, _ = moments(o, d, own)
        own["u"] = np.maximum(beta2 * own.get("u", 0), np.abs(d) + o.get("eps", 1e-8))
        return p - lr * own["m"] / left / own["u"]

    return step


def nadam(o: Mapping[str, Any]) -> Step:
    def step(p: Any, g: Any, own: dict[str, Any]) -> Any:
        lr, (beta1, _) = o.get("lr", 2e-3), o.get("betas", (0.9, 0.999))
        p, d = prepared(o, p, g, lr, o.get("decoupled_weight_decay", False))
        _, left = moments(o, d, own)
        now, ahead = (
            beta1 * (1 - 0.96 ** (t * o.get("momentum_decay", 4e-3)) / 2) for t in (own["t"], own["t"] + 1)
        )
        own["product"] = own.get("product", 1) * now
        mean = (1 - now) * d / (1 - own["product"]) + ahead * own["m"] / (1 - own["product"] * ahead)
        return p - lr * mean / (np.sqrt(own["v"] / left) + o.get("eps", 1e-8))

    return step


def radam(o: Mapping[str, Any]) -> Step:
    def step(p: Any, g: Any, own: dict[str, Any]) -> Any:
        lr, (_, beta2) = o.get("lr", 1e-3), o.get("betas", (0.9, 0.999))
        p, d = prepared(o, p, g, lr, o.get("decoupled_weight_decay", False))
        left1, left2 = moments(o, d, own)
        most = 2 / (1 - beta2) - 1
        length = most - 2 * own["t"] * beta2 ** own["t"] / left2
        if length <= 5:
            return p - lr * own["m"] / left1
        ratio = (length - 4) / (most - 4) * (length - 2) / (most - 2) * most / length
        return p - lr * np.sqrt(ratio * left2) * own["m"] / left1 / (np.sqrt(own["v"]) + o.get("eps", 1e-8))

    return step


def adabelief(o: Mapping[str, Any]) -> Step:
    def step(p: Any, g: Any, own: dict[str, Any]) -> Any:
        lr, eps, (_, beta2) = o.get("lr", 1e-3), o.get("eps", 1e-16), o.get("betas", (0.9, 0.999))
        p, d = prepared(o, p, g, lr, o.get("decoupled_weight_decay", True))
        left1, left2 = moments(o, d, own)
        own["s"] = beta2 * own.get("s", 0) + (1 - beta2) * (d - own["m"]) ** 2 + eps
        return p - lr * own["m"] / left1 / (np.sqrt(own["s"] / left2) + eps)

    return step


def lion(o: Mapping[str, Any]) -> Step:
    def step(p: Any, g: Any, own: dict[str, Any]) -> Any:
        lr, (beta1, beta2) = o.get("lr", 1e-4), o.get("betas", (0.9, 0.99))
        p, d = prepared(o, p, g, lr, True)
        u = np.sign(beta1 * own.get("m", 0) + (1 - beta1) * d)
        own["m"] = beta2 * own.get("m", 0) + (1 - beta2) * d
        return p - lr * u

    return step


def length(x: Any) -> float:
    return float(np.sqrt(np.sum(x * x)))


def lars(o: Mapping[str, Any]) -> Step:
    heavy_ball = sgd({"lr": 1.0, **o, "weight_decay": 0.0, "maximize": False})

    def step(p: Any, g: Any, own: dict[str, Any]) -> Any:
        lr, decay, d = o.get("lr", 1.0), o.get("weight_decay", 0), -g if o.get("maximize") else g
        q = 1.0
        if (decay or o.get("always_adapt")) and length(p) > 0 and length(d) > 0:
            q = o.get("trust_coeff", 1e-3) * length(p) / (length(d) + decay * length(p) + o.get("eps", 1e-8))
            q = min(q / lr, 1.0) if o.get("trust_clip") else q
        return heavy_ball(p, q * (d + decay * p), own)

    return step


def lamb(o: Mapping[str, Any]) -> Step:
    def step(p: Any, g: Any, own: dict[str, Any]) -> Any:
        d = -g if o.get("maximize") else g
        left1, left2 = moments(o, d, own)
        u = own["m"] / left1 / (np.sqrt(own["v"] / left2) + o.get("eps", 1e-6))
        u = u + o.get("weight_decay", 0.01) * p
        ratio = length(p) / length(u) if length(p) > 0 and length(u) > 0 else 1.0
        return p - o.get("lr", 1e-3) * ratio * u

    return step


def muon(o: Mapping[str, Any]) -> Step:
    """By singular values, on which the iteration is a polynomial."""

    def step(p: Any, g: Any, own: dict[str, Any]) -> Any:
        lr, beta, (a, b, c) = o.get("lr", 1e-3), o.get("momentum", 0.95), o.get("ns_coefficients", QUINTIC)
        d = -g if o.get("maximize") else g
        own["m"] = beta * own.get("m", 0) + (1 - beta) * d
        u = beta * own["m"] + (1 - beta) * d if o.get("nesterov", True) else own["m"]
        left, values, right = np.linalg.svd(u.reshape(len(p), -1), full_matrices=False)
        values = values / max(length(values), o.get("eps", 1e-7))
        for _ in range(o.get("ns_steps", 5)):
            values = a * values + b * values**3 + c * values**5
        rows, columns = len(left), right.shape[1]
        scale = 0.2 * max(rows, columns) ** 0.5 if o.get("adjust_lr_fn") else max(1, rows / columns) ** 0.5
        x = (left * values @ right).reshape(p.shape)
        return (1 - lr * o.get("weight_decay", 0.1)) * p - lr * scale * x

    return step


def schedule_free(o: Mapping[str, Any]) -> Step:
    """With x kept, which the class computes from y and z."""

    def step(p: Any, g: Any, own: dict[str, Any]) -> Any:
        group, adaptive = own["group"], "betas" in o
        lr, beta = o["lr"], o["betas"][0] if adaptive else o.get("momentum", 0.9)
        if len(group.setdefault("weights", [])) < group["step"]:  # the first parameter in this step
            rate = lr * min(1, group["step"] / max(1, o.get("warmup_steps", 0)))
            group["most"] = max(group.get("most", 0), rate)
            weight = group["step"] ** o.get("r", 0) * group["most"] ** o.get("weight_lr_power", 2)
            group["weights"].append(weight)
            group["rate"], group["c"] = rate, weight / sum(group["weights"])
        d = -g if o.get("maximize") else g
        if adaptive:
            _, left = moments(o, d, own)
            d = d / (np.sqrt(own["v"] / left) + o.get("eps", 1e-8))
        x, z, c = own.get("x", p), own.get("z", p), group["c"]
        own["z"] = z - group["rate"] * (d + o.get("weight_decay", 0) * p)
        own["x"] = (1 - c) * x + c * own["z"]
        return beta * own["x"] + (1 - beta) * own["z"]

    return step


def prodigy(o: Mapping[str, Any]) -> Any:
    """Of all parameters at once, which share d."""

    def step(params: list[Any], grads: list[Any], owns: list[dict[str, Any]]) -> list[Any]:
        (_, beta2), d0, group = o.get("betas", (0.9, 0.999)), o.get("d0", 1e-6), owns[0]["group"]
        beta3 = o.get("beta3") or np.sqrt(beta2)
        d = group.get("d", d0)
        numerator, total, rates = beta3 * group.get("n", 0), 0.0, []
        for p, g, own in zip(params, grads, owns, strict=True):
            rate = d * o.get("lr", 1.0)
            rates.append(rate)
            if g is None:
                continue
            g = -g if o.get("maximize") else g
            left1, left2 = moments(o, d * g, own)
            if o.get("use_bias_correction"):
                rates[-1] = rate = rate * np.sqrt(left2) / left1
            own.setdefault("p0", p)
            numerator += d / d0 * rate * np.sum(g * (own["p0"] - p))
            weight = d / d0 * (d if o.get("safeguard_warmup") else rate)
            own["s"] = beta3 * own.get("s", 0) + weight * g
            total += np.sum(np.abs(own["s"]))
        found = o.get("d_coef", 1.0) * numerator / total
        group["most"] = max(group.get("most", d0), found)
        known = max(d, found) if d == d0 else d
        group["n"], group["d"] = numerator, min(group["most"], known * o.get("growth_rate", np.inf))
        decay, eps = o.get("weight_decay", 0), group["d"] * o.get("eps", 1e-8)
        return [
            p if g is None else (1 - rate * decay) * p - rate * own["m"] / (np.sqrt(own["v"]) + eps)
            for p, g, own, rate in zip(params, grads, owns, rates, strict=True)
        ]

    return step


def adafactor(o: Mapping[str, Any]) -> Step:
    def step(p: Any, g: Any, own: dict[str, Any]) -> Any:
        eps1, eps2 = o.get("eps", (None, 1e-3))
        eps1 = np.finfo(np.float64).eps if eps1 is None else eps1
        t = own["t"] = own.get("t", 0) + 1
        b, g = t ** o.get("beta2_decay", -0.8), -g if o.get("maximize") else g
        rate = min(o["lr"], 1 / np.sqrt(t)) * max(eps2, np.sqrt(np.mean(p**2)))
        if p.ndim > 1:
            for name, axis in (("rows", -1), ("columns", -2)):
                own[name] = (1 - b) * own.get(name, 0) + b * np.mean(g**2, axis, keepdims=True)
            v = own["rows"] * own["columns"] / np.maximum(own["rows"].mean(-2, keepdims=True), eps1)
        else:
            v = own["v"] = (1 - b) * own.get("v", 0) + b * g**2
        u = g / np.sqrt(np.maximum(v, eps1**2))
        u = u / max(1, np.sqrt(np.mean(u**2)) / o.get("d", 1))
        return (1 - o["lr"] * o.get("weight_decay", 0)) * p - rate * u

    return step


def dadapt_adam(o: Mapping[str, Any]) -> Any:
    """Of all parameters at once, which share d."""

    def step(params: list[Any], grads: list[Any], owns: list[dict[str, Any]]) -> list[Any]:
        (_, beta2), group, lr = o.get("betas", (0.9, 0.999)), owns[0]["group"], o.get("lr", 1.0)
        eps, decay, beta3 = o.get("eps", 1e-8), o.get("weight_decay", 0), np.sqrt(beta2)
        d, inner, size, made = group.get("d", o.get("d0", 1e-6)), 0.0, 0.0, []
        for p, g, own in zip(params, grads, owns, strict=True):
            made.append(p)
            if g is None:
                continue
            g = (-g if o.get("maximize") else g) + (0 if o.get("decouple") else decay * p)
            rate, count = d * lr, own.get("step", 0) + 1
            if o.get("use_bias_correction"):
                beta1 = o.get("betas", (0.9, 0.999))[0]
                rate *= np.sqrt(1 - beta2**count) / (1 - beta1**count)
            before = own.get("v", 0 * g)
            inner += np.sum(rate * g * own.get("s", 0) / (np.sqrt(before) + eps))
            beta1 = o.get("betas", (0.9, 0.999))[0]
            own["step"], own["m"] = count, beta1 * own.get("m", 0) + (1 - beta1) * rate * g
            own["v"] = beta2 * before + (1 - beta2) * g**2
            own["s"] = beta3 * own.get("s", 0) + (1 - beta3) * rate * g
            size += np.sum(np.abs(own["s"]))
            p = p - rate * decay * p if o.get("decouple") else p
            made[-1] = p - own["m"] / (np.sqrt(own["v"]) + eps)
        group["n"] = beta3 * group.get("n", 0) + (1 - beta3) * inner
        found = group["n"] / ((1 - beta3) * size)
        group["d"] = max(d, min(found, d * o.get("growth_rate", np.inf)))
        return made

    return step


def dadapt_sgd(o: Mapping[str, Any]) -> Any:
    """The norm of s from the new s."""

    def step(params: list[Any], grads: list[Any], owns: list[dict[str, Any]]) -> list[Any]:
        group, momentum = owns[0]["group"], o.get("momentum", 0.0)
        d, squares, made = group.get("d", o.get("d0", 1e-6)), 0.0, list(params)
        group.setdefault("norm", np.sqrt(sum(np.sum(g**2) for g in grads if g is not None)))
        rate = d * o.get("lr", 1.0) / group["norm"]
        for i, (p, g, own) in enumerate(zip(params, grads, owns, strict=True)):
            if g is None:
                continue
            g = (-g if o.get("maximize") else g) + o.get("weight_decay", 0) * p
            start, s = own.setdefault("p0", p), own.get("s", 0 * g)
            group["n"] = group.get("n", 0) + rate * np.sum(g * s)
            own["s"] = s + rate * g
            squares += np.sum(own["s"] ** 2)
            made[i] = momentum * p + (1 - momentum) * (start - own["s"])
        found = 2 * group["n"] / np.sqrt(squares)
        group["d"] = max(d, min(found, d * o.get("growth_rate", np.inf)))
        return made

    return step


def along(x: Any, axis: int, matrix: Any) -> Any:
    return np.moveaxis(np.tensordot(matrix, x, (1, axis)), 0, axis)


def outer(x: Any, axis: int) -> Any:
    others = [i for i in range(x.ndim) if i != axis]
    return np.tensordot(x, x, (others, others))


def shampoo(o: Mapping[str, Any]) -> Step:
    """With roots by singular values."""

    def step(p: Any, g: Any, own: dict[str, Any]) -> Any:
        d = (-g if o.get("maximize") else g) + o.get("weight_decay", 0) * p
        own["t"] = own.get("t", 0) + 1
        u = d
        for axis in range(d.ndim):
            start = o.get("eps", 1e-6) * np.eye(d.shape[axis])
            own["moment", axis] = own.get(("moment", axis), start) + outer(d, axis)
            if own["t"] % o.get("every", 1) == 0:
                left, values, _ = np.linalg.svd(own["moment", axis], hermitian=True)
                own["root", axis] = left @ np.diag(values ** (-1 / (2 * d.ndim))) @ left.T
            u = along(u, axis, own.get(("root", axis), 0 * start))
        return p - o.get("lr", 1e-3) * u

    return step


def soap(o: Mapping[str, Any]) -> Step:
    def step(p: Any, g: Any, own: dict[str, Any]) -> Any:
        lr, betas = o.get("lr", 3e-3), o.get("betas", (0.95, 0.95))
        beta = o.get("shampoo_beta") or betas[1]
        g = -g if o.get("maximize") else g
        axes = range(g.ndim) if g.ndim > 1 else ()
        own["t"] = own.get("t", -1) + 1
        if own["t"] == 0:
            for axis in axes:
                own["gram", axis] = (1 - beta) * outer(g, axis)
                own["basis", axis] = np.linalg.eigh(own["gram", axis])[1][:, ::-1]
            return p
        own["m"] = betas[0] * own.get("m", 0) + (1 - betas[0]) * g
        m, seen = own["m"], g
        for axis in axes:
            m, seen = (along(x, axis, own["basis", axis].T) for x in (m, seen))
        own["v"] = betas[1] * own.get("v", 0) + (1 - betas[1]) * seen**2
        u = m / (np.sqrt(own["v"]) + o.get("eps", 1e-8))
        for axis in axes:
            u = along(u, axis, own["basis", axis])
        if o.get("correct_bias", True):
            u = u * np.sqrt(1 - betas[1] ** own["t"]) / (1 - betas[0] ** own["t"])
        for axis in axes:
            moment = own["gram", axis] = beta * own["gram", axis] + (1 - beta) * outer(g, axis)
            if own["t"] % o.get("every", 10) == 0:
                basis = own["basis", axis]
                order = np.argsort(-np.diag(basis.T @ moment @ basis), kind="stable")
                own["v"] = np.take(own["v"], order, axis)
                own["basis", axis] = np.linalg.qr(moment @ basis[:, order])[0]
        return (1 - lr * o.get("weight_decay", 0.01)) * (p - lr * u)

    return step

"""Validate every operation against its reference, then time it."""

import numpy as np

from ..machine.validate import report
from . import adam, sgd


def main() -> None:
    random = np.random.default_rng(0)
    lr, steps = np.array(0.1), [np.array(3), np.array(4)]
    for dtype in (np.float32, np.float64):
        shapes = ((500, 800), (500,))
        params, grads, m = (
            [random.standard_normal(shape).astype(dtype) for shape in shapes] for _ in range(3)
        )
        v = [np.square(x) for x in m]
        report(sgd, lr, params, grads, None, None, 0.0, 0.0, False, 1e-4)
        report(sgd, lr, params, grads, m, steps, 0.9, 0.0, True, 1e-4)
        for decoupled in (False, True):
            report(adam, lr, params, grads, m, v, steps, 0.9, 0.999, 1e-8, 1e-2, decoupled)


if __name__ == "__main__":
    main()

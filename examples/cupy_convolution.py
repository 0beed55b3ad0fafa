"""A convolution and its gradients for CuPy arrays, from tinydl_kernels alone.

python examples/cupy_convolution.py       # without a GPU: the same CUDA kernels on NumPy arrays, through the
                                          emulator
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tinydl_kernels import conv, emulator
from tinydl_kernels.cuda import launching
from tinydl_kernels.machine import dispatch
from tinydl_kernels.machine.window import Window


def convolve(xp: Any) -> None:
    """With `xp` cupy or numpy."""
    random = np.random.default_rng(0)
    x = xp.asarray(random.standard_normal((8, 3, 32, 32)), dtype=np.float32)  # (N, C, H, W)
    w = xp.asarray(random.standard_normal((16, 3, 3, 3)), dtype=np.float32)  # (O, C, KH, KW)
    b = xp.zeros(16, np.float32)
    window = Window.conv("conv2d", x.shape, w.shape, stride=2, padding=1)
    y = conv.forward(x, w, b, window)  # (8, 16, 16, 16)
    g = xp.ones_like(y)
    dx, dw = conv.grad_input(g, w, window), conv.grad_weight(x, g, window)
    # All three are gradients of one trilinear form, whose value they share
    print(
        f"{type(y).__module__}: y {y.shape}, sum {float((y * g).sum()):.3f} = {float((x * dx).sum()):.3f} = ",
        end="",
    )
    print(f"{float((w * dw).sum()):.3f}")


def main() -> None:
    """On the GPU, else on the emulator, else say what is missing."""
    if launching.is_available():
        import cupy  # optional package

        convolve(cupy)
    elif reason := emulator.unavailable():
        print(f"There is no GPU that CuPy can use, and {reason}")
    else:
        with dispatch.use("cuda-emulated"):
            convolve(np)


if __name__ == "__main__":
    main()

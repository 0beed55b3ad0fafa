"""The public door to windows: `from tinydl_kernels.window import Window`."""

from .machine.window import Window as Window

"""The collectives, of a group of one rank; those of several are in distributed/test_ranks.py."""

from __future__ import annotations

import numpy as np
from tinydl_kernels.machine.errors import DtypeError

import tinydl as td
from tinydl.distributed import collectives, serial

from .row import Row

ALONE = serial()

ROWS: list[Row] = [
    *[
        Row(
            f"collectives.{name}",
            lambda x, name=name, settings=settings: getattr(collectives, name)(x, group=ALONE, **settings),
            [[(3, 4)], *([[()], [(0, 3)], [(1, 1)]] if "counts" not in settings else [[(3,)]])],
            np.asarray,
            f"collectives.{name}",
            bad=[((td.ones(3, 4) > 0,), DtypeError, f"{name}: ")],
        )
        for name, settings in (
            ("all_reduce", {}),
            ("all_gather", {"counts": (3,)}),
            ("scatter_sum", {"counts": (3,)}),
            ("broadcast", {"root": 0}),
            ("reduce", {"root": 0}),
        )
    ],
]

"""Bits: the same for any number of threads, in another process, and a second time in this one."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from tinydl_kernels.cpu import threads

import tinydl as td
from tinydl import nn
from tinydl.regularizers import DataGrad, Objective, SpectReg

STEPS, BATCH = 3, 24
PENALTIES = {"datagrad": lambda: DataGrad(0.1), "spectreg": lambda: SpectReg(0.03, forward="second")}


def trained(optimizer: str, penalty: str) -> str:
    """A digest of every parameter, buffer and stream after a few penalized steps of a
    LeNet with BatchNorm and dropout.
    """
    td.manual_seed(5)
    model = nn.models.LeNet("batchnorm")
    model.between = nn.Sequential(nn.BatchNorm1d(84), nn.Dropout(0.5))
    make = {
        "adam": lambda p: td.optim.Adam(p, lr=1e-3),
        "sgd": lambda p: td.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True),
    }
    step = make[optimizer](model.parameters())
    objective = Objective(model, td.cross_entropy, [PENALTIES[penalty]()])
    for _ in range(STEPS):
        step.zero_grad()
        terms = objective(td.randn(BATCH, 1, 28, 28), td.randint(0, 10, BATCH))
        terms.total.backward()
        step.step()
    assert np.isfinite(terms.total.item())
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode() + value.numpy().tobytes())
    digest.update(repr((td.default_generator, td.noise_generator)).encode())
    return digest.hexdigest()


def test_the_same_process_twice() -> None:
    assert trained("adam", "datagrad") == trained("adam", "datagrad")
    assert trained("adam", "datagrad") != trained("adam", "spectreg")


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("penalty", list(PENALTIES))
def test_any_number_of_threads_in_this_process(optimizer: str, penalty: str) -> None:
    before = threads.get_num_threads()
    try:
        found = set()
        for count in (1, 2, 3):
            threads.set_num_threads(count)
            found.add(trained(optimizer, penalty))
    finally:
        threads.set_num_threads(before)
    assert len(found) == 1


def test_any_number_of_threads_in_processes_of_their_own() -> None:
    """Threads of the engine and of OpenBLAS, as the environment sets them."""
    settings = [("1", "1"), ("2", "3"), ("3", "2")]
    found = []
    for ours, blas in settings:
        environment = os.environ | {
            "TINYDL_NUM_THREADS": ours,
            "OPENBLAS_NUM_THREADS": blas,
            "PYTHONHASHSEED": ours,
        }
        path = os.pathsep.join(filter(None, sys.path))
        result = subprocess.run(
            [sys.executable, __file__],
            env=environment | {"PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert result.returncode == 0, result.stderr
        found.append(result.stdout.split())
    assert [threads for threads, _ in found] == [ours for ours, _ in settings]
    assert {digest for _, digest in found} == {trained("adam", "datagrad")}


if __name__ == "__main__":
    print(threads.get_num_threads(), trained("adam", "datagrad"))

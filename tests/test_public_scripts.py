"""Training scripts in PyTorch's idiom run under tinydl after their imports alone were changed, and lose what
they lose under PyTorch: float64, weights and noise from NumPy.

`python tests/test_public_scripts.py` writes PyTorch's losses to tests/scripts/losses.json.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SCRIPTS = Path(__file__).with_name("scripts")
LOSSES = SCRIPTS / "losses.json"
NAMES = sorted(path.stem for path in SCRIPTS.glob("*.py"))


def changed(source: str) -> str:
    """The script for tinydl: other imports."""
    source = re.sub(r"^import torch$", "import tinydl as torch", source, flags=re.M)
    return re.sub(r"^(import|from) torch\b", r"\1 tinydl", source, flags=re.M)


def starter(library: Any) -> Callable[[Any], Any]:
    """start(model): the model in float64, its weights drawn from a seed."""
    random = np.random.default_rng(1)

    def start(model: Any) -> Any:
        model = model.double()
        with library.no_grad():
            for p in model.parameters():
                p.copy_(library.from_numpy(0.4 * random.standard_normal(tuple(p.shape))))
        return model

    return start


def losses(name: str, library: str) -> list[float]:
    """What a script gives under a library."""
    path = SCRIPTS / f"{name}.py"
    source = path.read_text(encoding="utf-8")
    program: dict[str, Any] = {"__name__": name}
    exec(compile(source if library == "torch" else changed(source), str(path), "exec"), program)
    return program["main"](np.random.default_rng(0), starter(importlib.import_module(library)))


@pytest.mark.parametrize("name", NAMES)
def test_a_script_runs_after_its_imports_were_changed(name):
    expected = json.loads(LOSSES.read_text(encoding="utf-8"))[name]
    found = losses(name, "tinydl")
    assert all(isinstance(loss, float) for loss in found)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_the_losses_are_those_of_pytorch(name):
    pytest.importorskip("torch")
    expected = json.loads(LOSSES.read_text(encoding="utf-8"))[name]
    np.testing.assert_allclose(losses(name, "torch"), expected, rtol=1e-8, atol=1e-10)


def main() -> None:
    found = {name: losses(name, "torch") for name in NAMES}
    LOSSES.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

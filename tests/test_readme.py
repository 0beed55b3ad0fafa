"""The Python blocks of the pages run as they stand, in their order; an excerpt is what the source says."""

from __future__ import annotations

import ast
import math
import re
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tinydl_kernels

import tinydl as td

PACKAGES = [Path(package.__file__).parent for package in (td, tinydl_kernels)]
ROOT = PACKAGES[0].parent
PAGES = ["README.md", "kernels/README.md"]


def blocks(page: str) -> list[tuple[int, str]]:
    """(number of the first line, text) of each Python block; one inside a list is indented."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.finditer(r"^( *)```python\n(.*?)^\1```$", text, re.DOTALL | re.MULTILINE)
    return [(text[: m.start()].count("\n") + 2, textwrap.dedent(m[2])) for m in found]


def is_excerpt(block: str) -> bool:
    return block.startswith("@")


def run(page: str, line: int, block: str, names: dict[str, Any]) -> None:
    exec(compile("\n" * (line - 1) + block, str(ROOT / page), "exec"), names)


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_found(page: str) -> None:
    assert (ROOT / page).read_text(encoding="utf-8").count("```python") == len(blocks(page)) > 0


def programs(page: str, gpu: bool) -> list[tuple[int, str]]:
    own = [(line, block) for line, block in blocks(page) if not is_excerpt(block)]
    return [(line, block) for line, block in own if gpu or "cuda" not in block]


def make_scans(folder: Path) -> None:
    """A folder of PNGs for each of three classes: bars that lie, stand and slope, in noise."""
    image = pytest.importorskip("PIL.Image")
    random = np.random.default_rng(0)
    bars = {"lying": np.eye(28)[14], "standing": np.eye(28)[14][:, None], "sloping": np.eye(28)}
    for name, bar in bars.items():
        (folder / "scans" / name).mkdir(parents=True)
        for i in range(30):
            noisy = np.roll(bar * np.ones((28, 28)), random.integers(-4, 5), (0, 1)[i % 2])
            pixels = (160 * noisy + random.uniform(0, 90, (28, 28))).astype(np.uint8)
            image.fromarray(pixels).save(folder / "scans" / name / f"{i:02d}.png")


def test_the_twenty_lines_and_the_folder_of_pictures(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_scans(tmp_path)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for line, block in programs("README.md", gpu=False):
        run("README.md", line, block, names)
    printed = re.fullmatch(
        r"loss (.*), squared gradient (.*)\nended: .*; test: .*'accuracy': (.*)}\n", capsys.readouterr().out
    )
    assert printed is not None
    loss, penalty, accuracy = map(float, printed.groups())
    assert accuracy > 0.8
    assert (tmp_path / "history.png").stat().st_size > 1000
    bundle = names["td"].training.load_bundle("scans.safetensors")
    said = bundle.predict(sorted((tmp_path / "scans" / "sloping").iterdir()))
    assert said.classes.count("sloping") > 20
    assert loss < math.log(10)  # what a model gets that knows nothing
    assert 0 < penalty < 1


def test_the_page_of_the_kernels() -> None:
    names: dict[str, Any] = {}
    for line, block in programs("kernels/README.md", gpu=False):
        run("kernels/README.md", line, block, names)
    assert names["y"].shape == (8, 16, 32, 32)


@pytest.mark.gpu
def test_what_needs_a_gpu() -> None:
    names: dict[str, Any] = {}
    for line, block in programs("README.md", gpu=True):
        run("README.md", line, block, names)
    assert names["x"].device == "cuda"


def plain(statement: ast.stmt) -> str:
    """A statement without its annotations and docstrings."""
    statement = ast.parse(ast.unparse(statement)).body[0]
    for node in ast.walk(statement):
        if isinstance(node, ast.FunctionDef):
            node.returns = None
            node.body = node.body[ast.get_docstring(node) is not None :]
        elif isinstance(node, ast.arg):
            node.annotation = None
    return ast.unparse(statement)


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(block, id=f"{page}:{line}")
        for page in PAGES
        for line, block in blocks(page)
        if is_excerpt(block)
    ],
)
def test_excerpts_are_of_the_source(block: str) -> None:
    stated = ast.parse(block).body
    name = next(s.name for s in stated if isinstance(s, ast.FunctionDef))
    texts = [path.read_text(encoding="utf-8") for package in PACKAGES for path in package.rglob("*.py")]
    source = {plain(s) for text in texts if f"def {name}(" in text for s in ast.parse(text).body}
    assert [plain(s) for s in stated if plain(s) not in source] == []

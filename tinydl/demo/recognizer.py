"""A LeNet that knows digits, trained when it is first needed, and what it sees in a drawing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..data import Batches, mnist
from ..data.transforms import Normalize, RandomAffine
from ..engine.core import no_grad
from ..files import DataError, cache_folder
from ..inspection import feature_maps, saliency
from ..models import LeNet
from ..nn.convolution import Conv2d
from ..nn.module import Module
from ..ops.creation import tensor
from ..ops.random import Generator, random_from
from ..ops.softmax import cross_entropy, softmax
from ..optim import Adam
from ..optim.lr_scheduler import CosineAnnealingLR
from ..record.recorder import record
from ..training.bundle import Bundle, load_bundle, save_bundle
from .asked import BadRequest, numbers, word

SIDE, BATCH, STEPS = 28, 50, 1_500
ABOUT: dict[str, Any] = {"input": (1, SIDE, SIDE), "classes": [str(c) for c in range(10)]}
SETTINGS = {"temperature": 1.0, "threshold": None, "abstain_below": 0.0}
FILE = "demo-lenet-1.safetensors"
"""In the cache; the number changes with the recipe."""


def train(data: str | None, steps: int, tell: Callable[[int], object]) -> tuple[Bundle, str]:
    """A LeNet on shifted, turned and scaled digits; where these come from.

    Args:
        data: the folder of `td.data.mnist`, which raises the errors.
        steps: minibatches of 50.
        tell: is told after each how many are done.
    """
    digits = mnist("train", data)
    pixels = (digits.images[:, None] / 255).astype(np.float32)
    scale = Normalize(pixels.mean((0, 2, 3)), pixels.std((0, 2, 3)))
    move = RandomAffine(12, (0.12, 0.12), (0.75, 1.15))
    source = Generator(0)
    with random_from(source):
        model = LeNet("none")
    adam = Adam(model.parameters(), lr=2e-3)
    schedule = CosineAnnealingLR(adam, max(1, steps))
    batches = Batches(pixels, digits.labels, np.arange(len(pixels)), batch_size=BATCH, seed=0)

    @record
    def step(x: Any, y: Any) -> None:
        adam.zero_grad()
        cross_entropy(model(x), y).backward()
        adam.step()

    for done in range(steps):
        x, y, rows = batches.next_batch()
        step(scale(move(x, index=rows, epoch=batches.epoch, seed=0)), y)
        schedule.step()
        tell(done + 1)
    made = {"architecture": "LeNet", "arguments": {"regularizer": "none"}}
    about = ABOUT | SETTINGS | made | {"mean": scale.mean.tolist(), "std": scale.std.tolist()}
    return Bundle(model, about), digits.source


class Recognizer:
    """The network, and how far it is.

    Args:
        data: the folder of `td.data.mnist`.
        bundle: a file of `save_bundle` with a network of digits instead, (1, 28, 28) and ten classes.
        steps: minibatches of the training.
        cache: where the trained network is kept; None: nowhere.
    """

    def __init__(
        self,
        data: str | None = None,
        bundle: str | None = None,
        steps: int = STEPS,
        cache: Path | None = None,
    ) -> None:
        self.data, self.bundle, self.steps, self.cache = data, bundle, steps, cache
        self.done, self.message = 0, "waits for its training"
        self.network: Bundle | None = None
        self.failed = False

    @classmethod
    def cached(cls, data: str | None = None, bundle: str | None = None) -> Recognizer:
        """One that keeps its network in the folder of `td.data`, but learns named digits anew."""
        return cls(data, bundle, cache=cache_folder() if data is None else None)

    def prepare(self, lock: threading.Lock, tell: Callable[[str], object] = lambda line: None) -> None:
        """Load the network, or train it; whatever happens is in `message`. The lock is held while numbers are
        made, and given away between the minibatches.
        """
        try:
            with lock:
                self.network = self._loaded()
            if self.network is None:
                self._train(lock, tell)
        except Exception as error:  # nobody else would see it: the page tells it, its other tabs work
            self.failed, self.message = True, f"no network: {error}"
        tell(self.message)

    def _loaded(self) -> Bundle | None:
        kept = None if self.cache is None else self.cache / FILE
        if self.bundle is None and (kept is None or not kept.is_file()):
            return None
        path = self.bundle or str(kept)
        try:
            found = load_bundle(path)
        except DataError:
            if self.bundle:
                raise
            return None  # a damaged cache is made anew
        fits = tuple(found.about["input"]) == (1, SIDE, SIDE) and len(found.classes) == 10
        if not fits or not _convolutions(found.model):
            raise ValueError(
                f"{path}: expected a network of ten classes for (1, {SIDE}, {SIDE}), with a Conv2d"
            )
        self.done, self.message = self.steps, f"network from {path}"
        return found

    def _train(self, lock: threading.Lock, tell: Callable[[str], object]) -> None:
        self.message = "reads digits; at the first run ever kernels are compiled, which takes a minute or two"
        tell(self.message)
        lock.acquire()
        try:

            def told(done: int) -> None:
                self.done, self.message = done, f"training: {done} of {self.steps} minibatches"
                if done % 250 == 0:
                    tell(self.message)
                lock.release()  # who draws meanwhile need not wait for the end
                time.sleep(2e-4)
                lock.acquire()

            self.network, source = train(self.data, self.steps, told)
            self.done, self.message = self.steps, f"trained on {source}"
            if self.cache is not None:
                self._keep(self.network)
        finally:
            lock.release()

    def _keep(self, network: Bundle) -> None:
        scale = Normalize(network.about["mean"], network.about["std"])
        try:
            self.cache.mkdir(mode=0o700, parents=True, exist_ok=True)  # type: ignore[union-attr]
            path = self.cache / FILE  # type: ignore[operator]
            made = network.about["architecture"], network.about["arguments"]
            save_bundle(path, network.model, *made, **ABOUT, normalize=scale)
        except OSError as error:  # it works, and is trained again next time
            self.message += f"; not kept ({error})"

    def status(self) -> dict[str, Any]:
        ready = self.network is not None
        part = 1.0 if ready else min(self.done / max(1, self.steps), 1.0)
        return {"ready": ready, "failed": self.failed, "progress": part, "message": self.message}

    def look(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """{"pixels": 784 numbers of 0 to 1, "layer": "conv1"} -> probabilities, the class, feature maps of
        the layer and the gradient of the class's score, each scaled to at most 1.
        """
        pixels = numbers(body, "pixels", SIDE * SIDE, 0.0, 1.0)
        if self.network is None:
            raise BadRequest(f"the network is not ready: {self.message}")
        model, about = self.network.model, self.network.about
        layers = _convolutions(model)
        layer = word(body, "layer", layers, layers[0])
        image = np.array(pixels, np.float32).reshape(1, 1, SIDE, SIDE)
        if about.get("mean") is not None:
            image = Normalize(about["mean"], about["std"])(image)
        with no_grad():
            p = softmax(model(tensor(image)), 1).numpy()[0]
        maps = feature_maps(model, image, layer)[0]
        slope = saliency(model, image)[0, 0]
        return {
            "probabilities": [round(float(x), 4) for x in p],
            "class": int(p.argmax()),
            "saliency": _scaled(slope),
            "layers": layers,
            "layer": layer,
            "height": maps.shape[1],
            "width": maps.shape[2],
            "maps": [_scaled(one) for one in maps],
        }


def _convolutions(model: Module) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, Conv2d)]


def _scaled(values: np.ndarray) -> list[float]:
    top = float(np.abs(values).max())
    return np.round(values.ravel().astype(float) / (top or 1.0), 3).tolist()

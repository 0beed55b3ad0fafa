"""Checkpoints: a resumed run gives the bits of one that never stopped; what does not fit is
refused and changes nothing.
"""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
import safetensors.numpy

import tinydl as td
from tinydl.data import Batches, DataError
from tinydl.training import checkpoint
from tinydl.training.checkpoint import CheckpointError


class Run:
    """A recorded training with every kind of state: BatchNorm, dropout, Adam, a schedule,
    DataGrad, drawn noise, batches.
    """

    def __init__(self, seed: int, wrap=td.record) -> None:
        td.manual_seed(seed)
        random = np.random.default_rng(0)
        nn = td.nn
        self.model = nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Dropout(0.4), nn.Linear(48, 4)
        )
        self.optimizer = td.optim.Adam(td.optim.decay_groups(self.model, 1e-3), lr=1e-2)
        self.schedule = td.optim.PiecewiseConstant(self.optimizer, (4, 8), (0.1, 0.01))
        self.noise = td.Generator(seed, stream=7)
        images = random.standard_normal((20, 1, 6, 6)).astype(np.float32)
        self.batches = Batches(images, random.integers(0, 4, 20), batch_size=6, seed=seed)
        self.objective = td.regularizers.Objective(
            self.model, td.cross_entropy, [td.regularizers.DataGrad(0.1)]
        )
        self.step = wrap(self._step)

    def _step(self, x, y):
        self.optimizer.zero_grad()
        x = x + 0.1 * td.randn(*x.shape, generator=self.noise)
        terms = self.objective(x, y)
        terms.total.backward()
        self.optimizer.step()
        self.schedule.step()
        return terms.total

    def go(self, steps: int) -> list[float]:
        return [self.step(*map(td.from_numpy, self.batches.next_batch())).item() for _ in range(steps)]

    def things(self) -> dict:
        return {
            "model": self.model,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
            "batches": self.batches,
            "generators": {"noise": self.noise, **self.objective.generators()},
        }

    def bits(self) -> list[bytes]:
        state = [
            *self.model.state_dict().values(),
            *(t for own in self.optimizer.state.values() for t in own.values()),
        ]
        return [t.numpy().tobytes() for t in state]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.safetensors"


def test_a_resumed_run_has_the_same_bits(path) -> None:
    whole = Run(seed=3)
    losses = whole.go(11)
    first = Run(seed=3)
    assert first.go(6) == losses[:6]
    checkpoint.save(path, **first.things(), step=6)
    del first
    second = Run(seed=5)
    second.go(2)  # recorded before: the recording must see what is loaded
    assert checkpoint.load(path, **second.things()) == {"step": 6}
    assert second.go(5) == losses[6:]
    assert second.bits() == whole.bits()


def test_an_eager_run_goes_on_recorded(path) -> None:
    losses = Run(seed=3).go(6)
    eager = Run(seed=3, wrap=lambda step: step)
    assert eager.go(3) == losses[:3]
    checkpoint.save(path, **eager.things())
    recorded = Run(seed=4)
    checkpoint.load(path, **recorded.things())
    assert recorded.go(3) == losses[3:]


def test_values_and_header(path) -> None:
    values = {
        "step": 7,
        "epoch": 2,
        "extra": {"best": 0.1 + 0.2, "notes": ["ü", None, True], "curve": np.arange(3.0)},
    }
    td.randn(5)
    checkpoint.save(
        path, counter=td.nn.Buffer(41), many=[td.tensor([1.0]), {"deep": td.tensor(2.0)}], empty={}, **values
    )
    content = checkpoint.read(path)
    assert content.libraries["tinydl"] == td.__version__
    assert content.libraries["numpy"] == np.__version__
    assert set(content.libraries) == {"tinydl", "numpy", "numba", "python"}
    assert content.state["default_generator"]["counter"] == td.default_generator.state_dict()["counter"] > 0
    counter, one, deep = td.nn.Buffer(0), td.tensor([0.0]), td.tensor(0.0)
    got = checkpoint.load(path, counter=counter, many=[one, {"deep": deep}], empty={})
    assert (counter.item(), one.item(), deep.item()) == (41, 1.0, 2.0)
    np.testing.assert_array_equal(got["extra"].pop("curve"), np.arange(3.0))
    values["extra"].pop("curve")
    assert got == {**values, "empty": {}}


def test_one_thing_out_of_many(path) -> None:
    run, other = Run(0), Run(1)
    checkpoint.save(path, **run.things())
    other.model.load_state_dict(checkpoint.read(path).state["model"])
    assert other.bits()[: len(other.model.state_dict())] == run.bits()[: len(run.model.state_dict())]


def test_arrays_of_every_kind(path) -> None:
    arrays = {
        "a.b": td.tensor([[1.0, 2.0]], dtype=td.float64).T,
        "a": [td.zeros(0, 3)],
        "flags": td.tensor([True, False]),
        "scalar": td.tensor(3),
        "words": td.from_numpy(np.array([2**64 - 1], np.uint64)),
    }
    checkpoint.save(path, **arrays)
    state = checkpoint.read(path).state
    for name, expected in (("a.0", *arrays.pop("a")), *arrays.items()):
        assert (state[name].shape, state[name].dtype) == (expected.shape, expected.dtype)
        np.testing.assert_array_equal(state[name], expected.numpy())


def test_the_same_state_gives_the_same_file(path, tmp_path) -> None:
    run = Run(0)
    checkpoint.save(path, **run.things())
    checkpoint.save(tmp_path / "again", **run.things())
    assert path.read_bytes() == (tmp_path / "again").read_bytes()
    assert b"pickle" not in path.read_bytes()


class TestRefused:
    """Each with its message, and nothing changed."""

    @pytest.fixture
    def run(self, path) -> Run:
        run = Run(seed=1)
        checkpoint.save(path, **run.things())
        run.go(1)
        return run

    def refused(self, path, run: Run, message: str, **changed) -> None:
        before, generator = run.bits(), td.default_generator.state_dict()
        position, noise = run.batches.state_dict(), run.noise.state_dict()
        things = {name: thing for name, thing in {**run.things(), **changed}.items() if thing is not None}
        with pytest.raises(CheckpointError, match=message) as caught:
            checkpoint.load(path, **things)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
        assert run.bits() == before
        assert td.default_generator.state_dict() == generator
        assert (run.batches.state_dict(), run.noise.state_dict()) == (position, noise)

    def test_names(self, path, run) -> None:
        self.refused(path, run, "missing more", more=td.Generator())
        self.refused(path, run, "unexpected optimizer", optimizer=None)
        self.refused(
            path,
            run,
            "missing generators.other; unexpected generators.noise",
            generators={"other": run.noise},
        )
        self.refused(path, run, "step: expected a tensor or a thing with load_state_dict, got int", step=3)
        nn = td.nn
        self.refused(path, run, "missing model.6.weight", model=nn.Sequential(*run.model, nn.Linear(4, 4)))
        self.refused(path, run, "unexpected model.5.bias", model=nn.Sequential(*run.model[:5]))

    def test_shapes_and_dtypes(self, path, run) -> None:
        nn = td.nn
        other = nn.Sequential(*run.model[:5], nn.Linear(48, 5))
        self.refused(
            path, run, r"model.5.weight: expected \(5, 48\) float32, got \(4, 48\) float32", model=other
        )
        double = Run(1).model.double()
        self.refused(
            path,
            run,
            r"model.0.weight: expected \(3, 1, 3, 3\) float64, got \(3, 1, 3, 3\) float32",
            model=double,
        )

    def test_what_a_thing_refuses_itself(self, path, run) -> None:
        other = Batches(*run.batches.arrays, batch_size=5)
        self.refused(path, run, "Batches.load_state_dict: batch_size: expected 5, got 6", batches=other)

    def test_format(self, path, run) -> None:
        content = path.read_bytes()
        (size,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + size])
        for metadata, got in (
            (
                {"tinydl": json.dumps({**json.loads(header["__metadata__"]["tinydl"]), "format": 3})},
                "got format 3",
            ),
            ({"tinydl": "[]"}, "got a file without one"),
            ({}, "got a file without one"),
        ):
            changed = json.dumps({**header, "__metadata__": metadata}).encode()
            path.write_bytes(struct.pack("<Q", len(changed)) + changed + content[8 + size :])
            self.refused(path, run, f"expected a checkpoint of format 2, {got}")

    def test_damaged_files(self, path, run) -> None:
        content = path.read_bytes()
        for damaged in (b"", content[:4], content[:100], content[:-1], b"\0" * 64):
            path.write_bytes(damaged)
            with pytest.raises(DataError, match=r"run.safetensors: not a whole checkpoint") as caught:
                checkpoint.load(path, **run.things())
            assert "\n" not in str(caught.value)
        path.unlink()
        with pytest.raises(DataError, match=r"run.safetensors: not read: No such file"):
            checkpoint.load(path, **run.things())


def rewritten(path, change) -> None:
    """The file with its JSON header changed in place by `change`."""
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    inner = json.loads(header["__metadata__"]["tinydl"])
    change(header, inner)
    header["__metadata__"]["tinydl"] = json.dumps(inner)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + size :])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda _, inner: inner.pop("state"), DataError, "not a whole checkpoint: state: expected an object"),
        (lambda _, inner: inner.pop("libraries"), DataError, "libraries: expected an object of JSON"),
        (lambda _, inner: inner.update(values=[]), DataError, "values: expected an object of JSON"),
        (lambda _, inner: inner.update(values={"a": {"$array": "z"}}), DataError, "expected the name of"),
        (lambda _, inner: inner.update(values={"a": {"$array": []}}), DataError, "expected the name of"),
        (lambda _, inner: inner.update(format=True), CheckpointError, "format 2, got format True"),
        (lambda head, _: head["x"].update(dtype="F8_E4M3", shape=[8]), CheckpointError, "got float8_e4m3fn"),
        (lambda head, _: head["x"].update(dtype="C64", shape=[1]), CheckpointError, "got complex64 for x"),
    ],
)  # fmt: skip
def test_a_file_of_a_strangers(path, change, error, message) -> None:
    checkpoint.save(path, x=np.ones(2, np.float32))
    rewritten(path, change)
    with pytest.raises(error, match=message) as info:
        checkpoint.read(path)
    assert str(path) in str(info.value)


def test_names_with_line_breaks_and_many_of_them(path) -> None:
    checkpoint.save(path, x=td.zeros(2))
    rewritten(path, lambda _, inner: inner["state"].update({f"a\n{i:03d}": 0 for i in range(100)}))
    with pytest.raises(CheckpointError) as info:
        checkpoint.load(path, x=td.zeros(2))
    assert str(info.value).startswith(f"{path}: unexpected a 000; unexpected a 001; ")
    assert str(info.value).endswith("unexpected a 019; and 80 more")


def test_nested_without_end(path) -> None:
    text = json.dumps({"__metadata__": {"tinydl": "[" * 100_000}}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    with pytest.raises(DataError, match="not a whole checkpoint: maximum recursion depth"):
        checkpoint.read(path)


def circle() -> list:
    """A list within itself."""
    x: list = []
    x.append(x)
    return x


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            {"$array": "x"},
            r"extra: expected keys that come back as they are, got '\$array', which marks arrays",
        ),
        ({"a": [{1: 0, "1": 0}]}, "extra.a.0: expected keys .* got two that are the same string"),
        (np.ones(2, np.complex64), "extra: expected real numbers of 8 to 64 bits, got complex64"),
        (np.ma.masked_equal([1, 2], 2), "extra: expected real numbers of 8 to 64 bits, got a masked array"),
        (np.array(["a"]), "extra: expected real numbers of 8 to 64 bits, got str"),
        ({"\ud800": np.ones(1)}, "not a name of an array: 'utf-8' codec"),
        (10**5000, "expected values that JSON brings back: Exceeds the limit"),
        (circle(), "no more than some hundred levels"),
    ],
    ids=["marker", "keys", "complex", "masked", "text", "surrogate", "digits", "circle"],
)
def test_what_would_not_come_back_leaves_the_old_file(path, value, message) -> None:
    checkpoint.save(path, step=1)
    with pytest.raises(CheckpointError, match=message):
        checkpoint.save(path, step=2, extra=value)
    assert checkpoint.read(path).values == {"step": 1}
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_state_of_a_thing_is_held_to_the_same(path) -> None:
    class Thing:
        def state_dict(self) -> dict:
            return {1: 0, "1": 0}

        def load_state_dict(self, state: dict) -> None:
            raise AssertionError

    with pytest.raises(CheckpointError, match=r"state: expected keys .* got two that are the same string"):
        checkpoint.save(path, thing=Thing())


def test_names_of_the_format_itself(path) -> None:
    """safetensors keeps its own header under one of the names."""
    checkpoint.save(path, __metadata__=np.arange(3.0), extra={"a.b": np.ones(1), "a": {"b": np.zeros(1)}})
    values = checkpoint.read(path).values
    np.testing.assert_array_equal(values["__metadata__"], np.arange(3.0))
    assert (values["extra"]["a.b"].item(), values["extra"]["a"]["b"].item()) == (1.0, 0.0)


def test_what_was_written_is_read_back(path, monkeypatch) -> None:
    """A disk that loses bytes without a word does not cost the older file."""
    checkpoint.save(path, step=1)
    whole = safetensors.numpy.save
    monkeypatch.setattr(safetensors.numpy, "save", lambda *arguments: whole(*arguments)[:-1])
    with pytest.raises(DataError, match="not written: what was written cannot be read"):
        checkpoint.save(path, step=2)
    monkeypatch.setattr(safetensors.numpy, "save", lambda arrays, metadata: whole(arrays, {"tinydl": "{}"}))
    with pytest.raises(CheckpointError, match="not written: the file does not hold what was saved"):
        checkpoint.save(path, step=2)
    assert checkpoint.read(path).values == {"step": 1}


def test_what_cannot_be_saved(path) -> None:
    for value, kind in ((lambda: 0, "function"), ({1, 2}, "set"), (np.float32(1), "float32")):
        with pytest.raises(
            CheckpointError,
            match=f"extra.x: expected a thing with state, an array or a JSON value, got {kind}",
        ):
            checkpoint.save(path, extra={"x": value})
    with pytest.raises(CheckpointError, match=r"a.b: expected one thing of that name, got two"):
        checkpoint.save(path, **{"a": {"b": td.zeros(1)}, "a.b": td.zeros(1)})
    with pytest.raises(DataError, match="not written"):
        checkpoint.save(path / "no folder" / "run", step=1)
    assert not path.exists()

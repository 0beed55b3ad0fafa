"""Recurrent cells and layers against PyTorch: states, lengths, derivatives; and that they learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from agreement import assert_agree
from learning import assert_learns
from tinydl_kernels.machine.errors import DtypeError, ShapeError

import tinydl as td
from tinydl import nn

STEPS, BATCH, INPUTS, HIDDEN = 5, 3, 3, 4
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(STEPS, BATCH, INPUTS))
NAMES = pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
reference = pytest.mark.usefixtures("reference")


def twins(name: str, *sizes: int, **settings: Any) -> tuple[nn.Module, Any]:
    """Layers of one name in both frameworks, with the same weights."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    theirs = getattr(torch.nn, name)(*sizes, dtype=torch.float64, **settings)
    ours = getattr(nn, name)(*sizes, dtype=np.float64, **settings)
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    return ours, theirs


def flat(outputs: Any) -> list[Any]:
    return [y for part in outputs for y in flat(part)] if isinstance(outputs, tuple) else [outputs]


def agree(ours: Any, theirs: Any, arrays: list[np.ndarray], call: Any = lambda layer, *x: layer(*x)) -> None:
    parameters = (list(ours.parameters()), list(theirs.parameters()))
    assert_agree(
        lambda *x: flat(call(ours, *x)), lambda *x: flat(call(theirs, *x)), arrays, parameters, tolerance=1e-9
    )


@reference
@NAMES
@pytest.mark.parametrize(
    "settings",
    [{}, {"num_layers": 2}, {"bidirectional": True, "num_layers": 2}, {"batch_first": True}, {"bias": False}],
    ids=str,
)
def test_layers_against_torch(name: str, settings: dict[str, Any]) -> None:
    ours, theirs = twins(name, INPUTS, HIDDEN, **settings)
    assert [key for key, _ in ours.named_parameters()] == [key for key, _ in theirs.named_parameters()]
    agree(ours, theirs, [X])
    batch = STEPS if settings.get("batch_first") else BATCH
    states = settings.get("num_layers", 1) * (1 + settings.get("bidirectional", False))
    start = list(RANDOM.normal(size=(2 if name == "LSTM" else 1, states, batch, HIDDEN)))
    agree(ours, theirs, [X, *start], lambda layer, x, *h: layer(x, h if len(h) > 1 else h[0]))


@reference
def test_relu_networks() -> None:
    agree(*twins("RNN", INPUTS, HIDDEN, nonlinearity="relu"), [X])
    agree(*twins("RNNCell", INPUTS, HIDDEN, nonlinearity="relu"), [X[0]])


@reference
@NAMES
@pytest.mark.parametrize("bidirectional", [False, True])
def test_lengths_are_packed_sequences(name: str, bidirectional: bool) -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = twins(name, INPUTS, HIDDEN, num_layers=2, bidirectional=bidirectional)
    lengths = [3, 5, 1]

    def packed(x: Any) -> Any:
        sequence = torch.nn.utils.rnn.pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
        output, state = theirs(sequence)
        return flat((torch.nn.utils.rnn.pad_packed_sequence(output, total_length=STEPS)[0], state))

    parameters = (list(ours.parameters()), list(theirs.parameters()))
    assert_agree(lambda x: flat(ours(x, lengths=np.array(lengths))), packed, [X], parameters, tolerance=1e-9)


@reference
@NAMES
@pytest.mark.parametrize("bias", [False, True])
def test_cells_against_torch(name: str, bias: bool) -> None:
    ours, theirs = twins(f"{name}Cell", INPUTS, HIDDEN, bias=bias)
    agree(ours, theirs, [X[0]])
    start = list(RANDOM.normal(size=(2 if name == "LSTM" else 1, BATCH, HIDDEN)))
    agree(ours, theirs, [X[0], *start], lambda cell, x, *h: cell(x, h if len(h) > 1 else h[0]))


@reference
def test_dropout_between_layers() -> None:
    """In training only, and not behind the last layer."""
    layer, x = (
        nn.GRU(INPUTS, HIDDEN, 2, dropout=0.5, generator=td.Generator(1), dtype=np.float64),
        td.tensor(X),
    )
    first, second = layer(x)[0].detach().numpy(), layer(x)[0].detach().numpy()
    assert (first != second).any()
    assert (first != 0).all()
    layer.eval()
    np.testing.assert_array_equal(layer(x)[0].detach().numpy(), layer(x)[0].detach().numpy())


@NAMES
def test_learns_to_remember(name: str) -> None:
    """The class is told at the first step of each sequence, whose lengths differ."""
    random = np.random.default_rng(1)
    x, lengths = random.normal(scale=0.3, size=(6, 16, 2)).astype(np.float32), np.tile([6, 4, 5, 3], 4)
    classes = random.integers(0, 2, 16)
    x[0, :, 0] = 2.0 * classes - 1

    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head = getattr(nn, name)(2, 8), nn.Linear(8, 2)

        def forward(self, x: td.Tensor) -> td.Tensor:
            state = self.layer(x, lengths=lengths)[1]
            return self.head((state[0] if isinstance(state, tuple) else state)[0])

    assert_learns(Reader, lambda model, x, classes: td.cross_entropy(model(x), classes), x, classes, 50, 0.03)


@pytest.mark.full
def test_learns_to_spell() -> None:
    """A GRU under CTC."""
    random = np.random.default_rng(2)
    texts = random.integers(1, 4, (4, 3))
    x = np.eye(4, dtype=np.float32)[np.repeat(texts, 2, axis=1).T]  # (6, 4, 4)

    class Speller(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head = nn.GRU(4, 8), nn.Linear(8, 4)

        def forward(self, x: td.Tensor) -> td.Tensor:
            return td.log_softmax(self.head(self.layer(x)[0]), -1)

    def loss(model: nn.Module, x: td.Tensor, texts: td.Tensor) -> td.Tensor:
        return td.ctc_loss(model(x), texts, [6] * 4, [3] * 4)

    assert_learns(Speller, loss, x, texts, 60, 0.05)


@reference
@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("batch_first", [False, True])
def test_one_sample_is_a_batch_of_one_and_double_is_double(name: str, batch_first: bool) -> None:
    layer = getattr(nn, name)(INPUTS, HIDDEN, 2, bidirectional=True, batch_first=batch_first).double()
    x = td.tensor(X[:, 0])
    output, end = layer(x)
    batch = 0 if batch_first else 1
    many, ends = layer(x.unsqueeze(batch))
    assert output.dtype == np.float64
    np.testing.assert_array_equal(output.numpy(), many.squeeze(batch).numpy())
    again = layer(x, end)[1]
    for one, several, next_one in zip(
        *((e if name == "LSTM" else (e,)) for e in (end, ends, again)), strict=True
    ):
        np.testing.assert_array_equal(one.numpy(), several.squeeze(1).numpy())
        assert next_one.shape == one.shape == (4, HIDDEN)


@reference
@pytest.mark.parametrize("name", ["RNNCell", "LSTMCell", "GRUCell"])
def test_a_cell_takes_one_sample(name: str) -> None:
    cell = getattr(nn, name)(INPUTS, HIDDEN).double()
    one, several = cell(td.tensor(X[0, 0])), cell(td.tensor(X[0, :1]))
    for a, b in zip(*((e if name == "LSTMCell" else (e,)) for e in (one, several)), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy()[0], rtol=1e-14)


@reference
def test_refused() -> None:
    x = td.tensor(X)
    lstm = nn.LSTM(INPUTS, HIDDEN, dtype=np.float64)
    for call, error, message in (
        (
            lambda: nn.GRU(2, HIDDEN)(x),
            ShapeError,
            r"GRU: expected input of 2 or 3 dims, the last 2, got \(5, 3, 3\)",
        ),
        (lambda: lstm(x[0, 0]), ShapeError, r"LSTM: expected input of 2 or 3 dims, the last 3, got \(3,\)"),
        (
            lambda: lstm(x, td.zeros(1, 3, 4)),
            ShapeError,
            r"LSTM: expected 2 state\(s\) \(1, 3, 4\), got \(1, 3, 4\)",
        ),
        (
            lambda: lstm(x, lengths=[5, 5]),
            ShapeError,
            r"LSTM: expected integer lengths \(3,\), got \(2,\) int64",
        ),
        (
            lambda: lstm(x, lengths=[5.0, 5.0, 1.0]),
            ShapeError,
            r"LSTM: expected integer lengths \(3,\), got \(3,\) float64",
        ),
        (lambda: nn.LSTM(INPUTS, HIDDEN)(x), DtypeError, r"expected one dtype, got float32 and float64"),
        (lambda: nn.GRUCell(2, HIDDEN)(x[0]), ShapeError, r"GRUCell: expected input \(N, 2\), got \(3, 3\)"),
        (
            lambda: nn.RNN(2, 3, nonlinearity="sin"),
            ValueError,
            "RNN: expected nonlinearity 'tanh' or 'relu', got 'sin'",
        ),
        (
            lambda: nn.RNNCell(2, 3, nonlinearity="sin"),
            ValueError,
            "RNNCell: expected nonlinearity",
        ),
    ):
        with pytest.raises(error, match=message):
            call()


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_states_of_one_sample_are_refused_by_name(kind: str) -> None:
    bad = td.tensor(1.0)
    with pytest.raises(ShapeError, match=rf"^{kind}: expected states of 2 dims with one sample, got \(\)"):
        getattr(nn, kind)(3, 2)(td.ones(4, 3), (bad, bad) if kind == "LSTM" else bad)

"""What the ranks of `mpiexec` do in test_ranks.py: each check gives numbers, which rank 0 prints as JSON.

    mpiexec -n 2 python ranks.py FOLDER [full]

A case is trained in one process on whole batches (by rank 0, while the others wait) and by all ranks on
theirs; what is compared is the gradient of the first step, all parameters after ten steps, and the losses.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import tinydl as td
from tinydl import nn
from tinydl.data import DataLoader, TensorDataset
from tinydl.data.transforms import RandomAffine
from tinydl.distributed import (
    DataParallel,
    Group,
    load_checkpoint,
    save_checkpoint,
    serial,
    world,
)
from tinydl.distributed.transport import Mpi
from tinydl.nn.utils import clip_grad_norm_
from tinydl.optim import LAMB, LARS, SAM, SGD, Adam
from tinydl.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tinydl.regularizers import (
    L2,
    TRADES,
    VAT,
    CutMix,
    Cutout,
    DataGrad,
    DeCov,
    DisturbLabel,
    DropConnect,
    DropPath,
    FeatureStatistics,
    FisherPenalty,
    FrobeniusJacobian,
    GaussianDropout,
    GradAlign,
    GradientNorm,
    GradNorm,
    HessianTrace,
    InputNoise,
    JacobianRegularizer,
    KLSparsity,
    ManifoldMixup,
    MinibatchDiscrimination,
    Mixup,
    Objective,
    OneHotGradient,
    RandomErasing,
    RDrop,
    SamplePairing,
    SpectReg,
    TemporalEnsemble,
    TrainingSignalAnnealing,
    WeightNoise,
)

STEPS, SAMPLES = 10, 40
rng = np.random.default_rng(0)
ROWS, PICTURES = rng.standard_normal((SAMPLES, 6)), rng.standard_normal((SAMPLES, 2, 5, 5))
LABELS, INDEX = rng.integers(0, 3, SAMPLES), np.arange(SAMPLES)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 7), nn.Tanh(), nn.Linear(7, 3))


def normalized() -> nn.Module:
    """Without biases before a BatchNorm, whose gradients are nothing but rounding."""
    layers = nn.Linear(6, 7, bias=False), nn.BatchNorm1d(7), nn.Tanh(), nn.Linear(7, 3)
    return nn.SyncBatchNorm.convert_sync_batchnorm(nn.Sequential(*layers))


def dropping() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 7), nn.Tanh(), nn.Dropout(0.4), nn.GaussianNoise(0.2), nn.Linear(7, 3))


def convolving() -> nn.Module:
    layers = nn.Conv2d(2, 3, 3, bias=False), nn.BatchNorm2d(3), nn.Tanh(), nn.Flatten(), nn.Linear(27, 3)
    return nn.SyncBatchNorm.convert_sync_batchnorm(nn.Sequential(*layers))


def noisy() -> nn.Module:
    each = DropConnect(6, 7, 0.3), nn.Tanh(), GaussianDropout(0.3), DropPath(0.2)
    return nn.Sequential(*each, DropPath(0.2, "batch"), DropConnect(7, 3, 0.3, per="batch"))


def discriminating() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), MinibatchDiscrimination(5, 3, 2), nn.Linear(8, 3))


class Case:
    """A training to compare. `batch` 7 is of unequal shards for 2 and 3 ranks."""

    def __init__(
        self,
        model: Callable[[], nn.Module] = mlp,
        terms: Callable[[], list[Any]] = list,
        *,
        loss: Callable[[], Any] = lambda: td.cross_entropy,
        optimizer: Callable[[Any], Any] = lambda parameters: Adam(parameters, lr=1e-2),
        batch: int = 7,
        clip: float = 0.0,
        average: bool = False,
        given: Callable[[Any, Any], dict[str, Any]] = lambda y, index: {},
        backend: str = "reference",
        x: np.ndarray = ROWS,
    ) -> None:
        self.model, self.terms, self.loss, self.optimizer, self.batch = model, terms, loss, optimizer, batch
        self.clip, self.average, self.given, self.backend, self.x = clip, average, given, backend, x


CASES = {
    "plain": Case(),
    "plain, even shards": Case(batch=6),
    "plain, fewer samples than ranks": Case(batch=2),
    "DataGrad": Case(terms=lambda: [DataGrad(0.3)], backend="cpu"),
    "DataGrad, fewer samples than ranks": Case(terms=lambda: [DataGrad(0.3)], batch=2),
    "SpectReg": Case(terms=lambda: [SpectReg(0.1)]),
    "SpectReg, one r a batch, a second forward": Case(
        dropping, lambda: [SpectReg(0.1, per="batch", forward="second")]
    ),
    "BatchNorm": Case(normalized),
    "BatchNorm, DataGrad, pictures": Case(convolving, lambda: [DataGrad(0.3)], x=PICTURES),
    "clipped": Case(clip=0.1),
    "mixup": Case(terms=lambda: [Mixup(0.4)]),
    "mixup of each sample, DataGrad": Case(terms=lambda: [Mixup(0.4, per="sample"), DataGrad(0.3)]),
    "manifold mixup": Case(terms=lambda: [ManifoldMixup(0.4, layers="1")]),
    "CutMix": Case(convolving, lambda: [CutMix(per="sample")], x=PICTURES),
    "EMA": Case(average=True),
    "dropout and noise": Case(dropping, lambda: [DataGrad(0.3)]),
    "VAT": Case(dropping, lambda: [VAT(0.5, 0.5)]),
    "class weights": Case(given=lambda y, index: {"class_weights": td.tensor([1.0, 0.3, 2.0])}),
    "weights": Case(given=lambda y, index: {"weights": 1.0 + index.to(td.float64) / 10}),
    "noises": Case(noisy, lambda: [InputNoise(0.1), DisturbLabel(0.3, classes=3)]),
    "noise of weights": Case(lambda: WeightNoise(mlp(), 0.1)),
    "boxes": Case(convolving, lambda: [Cutout(2), RandomErasing(value="noise")], x=PICTURES),
    "sample pairing": Case(terms=lambda: [SamplePairing()]),
    "minibatch discrimination": Case(discriminating),
    "Jacobian": Case(terms=lambda: [JacobianRegularizer(0.1), FrobeniusJacobian(0.1), OneHotGradient(0.1)]),
    "curvature": Case(
        terms=lambda: [
            GradAlign(0.2, eps=0.3),
            HessianTrace(0.1),
            HessianTrace(0.1, of="weights", name="weights"),
        ]
    ),
    "adversaries": Case(dropping, lambda: [TRADES(1.0, 0.1, 0.05, 2, start=0.1), RDrop(0.5), L2(0.1)]),
    "gradient norm": Case(terms=lambda: [GradientNorm(0.1)]),
    "gradient norm, BatchNorm": Case(normalized, lambda: [GradientNorm(0.1)]),
    "Fisher penalty": Case(terms=lambda: [FisherPenalty(0.1)]),
    "activations": Case(
        terms=lambda: [
            KLSparsity(0.1, "1", activation=td.sigmoid),
            DeCov(0.1, "1"),
            FeatureStatistics(0.1, "2"),
        ]
    ),
    "annealing": Case(loss=lambda: TrainingSignalAnnealing(20)),
    "temporal ensemble": Case(
        terms=lambda: [TemporalEnsemble(0.5, SAMPLES, classes=3)], given=lambda y, index: {"index": index}
    ),
    "GradNorm": Case(
        loss=lambda: GradNorm([td.cross_entropy, lambda z, y: td.logsumexp(z, 1).square().mean()], "0.weight")
    ),
    "SAM": Case(optimizer=lambda parameters: SAM(SGD(parameters, lr=0.1, momentum=0.9), rho=0.05)),
    "LARS": Case(optimizer=lambda parameters: LARS(parameters, lr=0.1, weight_decay=1e-2)),
    "LAMB": Case(optimizer=lambda parameters: LAMB(parameters, lr=1e-2)),
}


class Run:
    """A case in training, in one process (group None) or by a group."""

    def __init__(self, case: Case, group: Group | None, recorded: bool, device: str = "cpu") -> None:
        self.case, self.group = case, group or serial()
        td.manual_seed(3)
        model = case.model().double().to(device)
        self.model = DataParallel(model, self.group)
        self.objective = Objective(self.model.module, case.loss(), case.terms())
        self.optimizer = case.optimizer(self.model.parameters())
        self.average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9)) if case.average else None
        data = TensorDataset(case.x, LABELS, INDEX)
        self.loader = DataLoader(data, case.batch, shuffle=True, seed=5, group=self.group, device=device)
        self.step = td.record(self._step) if recorded else self._step
        self.losses: list[float] = []
        self.first: np.ndarray | None = None

    def _step(self, x: Any, y: Any, index: Any) -> Any:
        def closure() -> Any:
            self.optimizer.zero_grad()
            terms = self.objective(x, y, **self.case.given(y, index))
            terms.backward()
            self.model.average_gradients()
            if self.case.clip:
                clip_grad_norm_(self.model.parameters(), self.case.clip)
            return terms.total

        total = self.optimizer.step(closure)
        self.objective.after()
        if self.average is not None:
            self.average.update_parameters(self.model.module)
        return total

    def train(self, steps: int = STEPS) -> Run:
        with td.backend(self.case.backend):
            for _ in range(steps):
                x, y, index = self.loader.next_batch()
                with self.group.shard(x.shape[0]):
                    total = self.step(x, y, index)
                self.losses.append(self.group.all_reduce(total.detach()).item())
                if self.first is None:
                    self.first = line([p.grad for p in self.model.parameters()])
        return self

    def save(self, path: Path) -> None:
        save_checkpoint(path, self.group, **self.things)

    @property
    def things(self) -> dict[str, Any]:
        named = {"model": self.model.module, "optimizer": self.optimizer, "objective": self.objective}
        return {**named, "loader": self.loader}

    def found(self) -> dict[str, np.ndarray]:
        held = [*self.model.parameters(), *self.model.buffers()]
        if self.average is not None:
            held += [*self.average.parameters()]
        return {
            "gradient": np.asarray(self.first),
            "parameters": line(held),
            "losses": np.array(self.losses),
        }


def line(tensors: list[Any]) -> np.ndarray:
    """All their numbers, on the host."""
    return np.concatenate([x.detach().cpu().numpy().astype(float).ravel() for x in tensors])


def deviation(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> float:
    """The largest, relative to the largest number of each."""
    return max(float(np.abs(a[name] - b[name]).max() / np.abs(b[name]).max()) for name in b)


def by_first(group: Group, make: Callable[[], Any]) -> Any:
    """What rank 0 makes alone."""
    return group.exchange(make() if group.rank == 0 else None)[0]


# Checks
# ------------------------------------------------------------------------------------------------------------


def train(name: str, group: Group) -> dict[str, float]:
    case = CASES[name]
    alone = by_first(group, lambda: Run(case, None, recorded=False).train().found())
    eager = Run(case, group, recorded=False).train().found()
    recorded = Run(case, group, recorded=True).train().found()
    everyone = group.exchange(eager["parameters"].tobytes())
    return {
        "from one process": deviation(eager, alone),
        "recorded": float(any(eager[key].tobytes() != recorded[key].tobytes() for key in eager)),
        "between ranks": float(len(set(everyone)) - 1),
    }


def collectives(group: Group) -> dict[str, float]:
    """Derivatives to order 3 of Σ_ranks f(x_1, ..., x_n) against finite differences along a direction that
    every rank has its part of.
    """
    own = np.random.default_rng(group.rank)
    counts = [2 + rank for rank in range(group.size)]
    shard = group.shard(counts[group.rank])
    weight = td.tensor(own.standard_normal((sum(counts), 2)))
    functions: dict[str, Callable[[Any], Any]] = {
        "all_reduce": lambda x: (td.sin(group.all_reduce(td.tanh(x[:2]))) * weight[:2]).sum(),
        "all_gather": lambda x: (td.sin(shard.gather(td.tanh(x))) * weight).sum(),
        "broadcast": lambda x: (td.sin(group.broadcast(td.tanh(x[:2]), group.size - 1)) * weight[:2]).sum(),
        "all_reduce of a loss": lambda x: td.exp(group.all_reduce((x[:2] ** 3).sum() / 9)),
    }
    X, V = own.standard_normal((2, counts[group.rank], 2))
    found = {}

    def derivatives(f: Callable[[Any], Any], at: np.ndarray) -> list[Any]:
        """Σ f, and d/dt f along V of orders 1 to 3: numbers, and the gradients of this rank."""
        x = td.tensor(at).requires_grad_()
        value, results = f(x), []
        for _ in range(3):
            (g,) = td.grad(value, [x], create_graph=True)
            results.append(g.numpy().copy())
            value = (g * td.tensor(V)).sum()
        return results

    def total(f: Callable[[Any], Any], at: np.ndarray) -> float:
        return group.all_reduce(f(td.tensor(at))).item()

    for name, f in functions.items():
        h = 1e-5
        exact = derivatives(f, X)
        up, down = derivatives(f, X + h * V), derivatives(f, X - h * V)
        slope = group.all_reduce(td.tensor((exact[0] * V).sum())).item()
        errors = [abs(slope - (total(f, X + h * V) - total(f, X - h * V)) / (2 * h))]
        errors += [float(np.abs(exact[k + 1] - (up[k] - down[k]) / (2 * h)).max()) for k in range(2)]
        found[name] = max(group.exchange(max(errors)))
    return found


def sums(group: Group) -> dict[str, float]:
    """In the order of the ranks, to the bit, whatever their size; rows, roots, and what cannot be."""
    wrong = 0
    for size in (0, 1, 5, 512, 513, 4099):
        for dtype in (np.float32, np.float64, np.int64):
            x = (np.random.default_rng(group.rank).standard_normal(size) * 1000).astype(dtype)
            expected = by_first(group, lambda: None)
            expected = [*group.exchange(x)]
            whole = expected[0].copy()
            for other in expected[1:]:
                whole = whole + other
            wrong += group.all_reduce(td.tensor(x)).numpy().tobytes() != whole.tobytes()
            gathered = group.all_gather(td.tensor(x[: group.rank])).numpy()
            wrong += gathered.tobytes() != np.concatenate([y[:r] for r, y in enumerate(expected)]).tobytes()
            root = group.size - 1
            wrong += group.broadcast(td.tensor(x), root).numpy().tobytes() != expected[root].tobytes()
    group.barrier()
    return {"wrong": float(wrong)}


def loading(group: Group) -> dict[str, float]:
    """The ranks' batches, one after the other, are those of one process, changed pictures included."""
    data = TensorDataset(PICTURES.astype(np.float32), LABELS, INDEX)
    make = {"shuffle": True, "transform": RandomAffine(20, (0.1, 0.1)), "seed": 4}
    whole, own = DataLoader(data, 7, **make), DataLoader(data, 7, num_workers=1, group=group, **make)
    wrong = 0
    for _ in range(8):  # an epoch has 6
        parts = group.exchange([part.numpy() for part in own.next_batch()])
        for k, expected in enumerate(whole.next_batch()):
            wrong += np.concatenate([part[k] for part in parts]).tobytes() != expected.numpy().tobytes()
        sizes = [len(part[1]) for part in parts]
        wrong += max(sizes) - min(sizes) > 1
    return {"wrong": float(wrong + (own.state_dict() != whole.state_dict()))}


def checkpoints(group: Group) -> dict[str, float]:
    """Five steps, a file, five more: with as many ranks the same bits, with others the same to rounding."""
    case = CASES["BatchNorm, DataGrad, pictures"]
    folder = Path(sys.argv[1])
    straight = Run(case, group, recorded=False).train().found()
    alone = by_first(group, lambda: Run(case, None, recorded=False).train().found())

    def resumed(path: Path, by: Group) -> dict[str, np.ndarray]:
        run = Run(case, by, recorded=True)
        td.manual_seed(99)
        load_checkpoint(path, by, **run.things)
        run.first = None
        run.train(STEPS - 5)
        return run.found()

    def later(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"parameters": found["parameters"], "losses": found["losses"][-5:]}

    by_all, by_one = folder / f"all{group.size}.safetensors", folder / f"one{group.size}.safetensors"
    Run(case, group, recorded=False).train(5).save(by_all)
    by_first(group, lambda: Run(case, None, recorded=False).train(5).save(by_one))
    same = later(resumed(by_all, group))
    numbers = {
        "bits": float(any(same[key].tobytes() != later(straight)[key].tobytes() for key in same)),
        "one to all": deviation(later(resumed(by_one, group)), later(alone)),
        "all to one": deviation(later(by_first(group, lambda: resumed(by_all, serial()))), later(alone)),
    }
    if group.size == 3:  # two of three write, three read; and the other way round
        part = Mpi(group.transport.world.Split(group.rank == 2), 60.0)
        pair = Group(part) if group.rank < 2 else None
        by_two = folder / "two.safetensors"
        if pair:
            Run(case, pair, recorded=False).train(5).save(by_two)
        group.barrier()
        numbers["two to three"] = deviation(later(resumed(by_two, group)), later(alone))
        fewer = later(resumed(by_all, pair)) if pair else None
        numbers["three to two"] = deviation(group.exchange(fewer)[0], later(alone))
    wrong = 0
    try:
        save_checkpoint(folder / "absent" / "x.safetensors", group, step=1)
        wrong += 1
    except (td.TinydlError, OSError) as error:
        wrong += group.rank > 0 and "rank 0: " not in str(error)
    return {**numbers, "wrong": float(wrong)}


def whole_run(group: Group) -> dict[str, float]:
    """Parameters begin as rank 0's; logs are means over all samples; what would be local is refused."""
    td.manual_seed(group.rank)
    model = DataParallel(mlp().double(), group)
    same = group.exchange([p.numpy().tobytes() for p in model.parameters()])
    wrong = sum(other != same[0] for other in same)
    shard = group.shard(group.rank + 1)
    mean = shard.mean(td.tensor(float(group.rank)))
    counts = np.arange(1, group.size + 1)
    wrong += abs(mean.item() - float((counts * np.arange(group.size)).sum() / counts.sum())) > 1e-6
    x, y = td.tensor(ROWS[: group.rank + 1]), td.tensor(LABELS[: group.rank + 1])
    if group.size > 1:
        from tinydl.regularizers import Barlow, PCGrad

        local = nn.Sequential(nn.Linear(6, 7), nn.BatchNorm1d(7)).double()
        barlow = Objective(mlp().double(), td.cross_entropy, [Barlow(1.0, lambda x: x)])
        combined = Objective(mlp().double(), td.cross_entropy, combine=PCGrad())
        refused: list[tuple[Callable[[], Any], str]] = [
            (lambda: local(x), "batch_norm: expected statistics of the whole batch"),
            (
                lambda: barlow(x, y),
                "expected terms that are means over samples, or sums over all ranks, got barlow",
            ),
            (lambda: combined(x, y), "got combine"),
            (lambda: nn.functional.instance_norm(td.ones(2, 2, 3), td.zeros(2), td.ones(2)), "instance_norm"),
            (lambda: td.dropout(td.ones(2 * group.size + 3)[: 2 * group.rank + 3]), "along axis 0"),
        ]
        for call, message in refused:
            try:
                with shard if "axis 0" not in message else group.shard(2):
                    call()
                wrong += 1
            except td.TinydlError as error:
                wrong += message not in str(error)
        try:
            model(x)
            wrong += 1
        except td.GraphError as error:
            wrong += "expected the scope of group.shard" not in str(error)
        for ask in (lambda: group.shard(1), group.barrier, lambda: group.all_gather(x)):
            try:
                td.record(ask)()
                wrong += 1
            except td.GraphError as error:
                wrong += "in a recorded step" not in str(error)
    return {"wrong": float(wrong)}


QUICK = (
    *("plain", "plain, fewer samples than ranks", "DataGrad", "SpectReg", "BatchNorm, DataGrad, pictures"),
    *("clipped", "mixup", "EMA", "dropout and noise", "gradient norm, BatchNorm"),
)
"""The cases of every test run; the others are those of `full`."""
OTHERS = tuple(name for name in CASES if name not in QUICK)
FUNCTIONS = (sums, collectives, loading, whole_run, checkpoints)


def checks(group: Group, full: bool) -> Iterator[tuple[str, dict[str, float]]]:
    for function in () if full else FUNCTIONS:
        yield function.__name__, function(group)
    for name in OTHERS if full else QUICK:
        yield name, train(name, group)


def main() -> None:
    group = world(timeout=120.0)
    results = {}
    for name, numbers in checks(group, full=sys.argv[2:] == ["full"]):
        everyone = group.exchange(numbers)
        results[name] = {key: max(each[key] for each in everyone) for key in numbers}
    if group.rank == 0:
        print(json.dumps({"size": group.size, "results": results}))


if __name__ == "__main__":
    main()

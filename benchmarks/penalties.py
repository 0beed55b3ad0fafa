"""What each penalty costs: the terms whose training step is compared with the plain one, and their page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Net(NamedTuple):
    """What terms ask of a network, and a batch for those that compare."""

    model: Any
    layer: str  # in the middle
    shared: str  # a parameter near the end
    last: str  # the layer that puts out the logits
    critic: Any  # of the network's output
    x: Any
    more: Any  # as x
    index: Any  # of the samples of x


class Priced(NamedTuple):
    """A training step.

    make    from tinydl.regularizers and the network: a term; a pair of a loss and terms; or what combines
    given   what else the objective is called with
    single  of the first logit alone: a critic
    target  the most plain steps that it should take
    """

    make: Callable[[Any, Net], Any]
    given: Callable[[Net], dict[str, Any]] = lambda net: {}
    single: bool = False
    target: float | None = None


def smaller(x: Any) -> Any:
    """A cheap augmentation."""
    return x * 0.9


def square(logits: Any, target: Any) -> Any:
    return logits.square().mean()


def squashed(x: Any) -> Any:
    return x.sigmoid()


def fake(net: Net) -> dict[str, Any]:
    return {"fake": net.more}


PRICED: dict[str, Priced] = {
    "L1": Priced(lambda r, net: r.L1(1e-5)),
    "L2": Priced(lambda r, net: r.L2(5e-4)),
    "ElasticNet": Priced(lambda r, net: r.ElasticNet(1e-5)),
    "L1Prox": Priced(lambda r, net: r.L1Prox(1e-5)),
    "ElasticNetProx": Priced(lambda r, net: r.ElasticNetProx(1e-5)),
    "GroupLasso": Priced(lambda r, net: r.GroupLasso(1e-5)),
    "GroupLassoProx": Priced(lambda r, net: r.GroupLassoProx(1e-5)),
    "MaxNorm": Priced(lambda r, net: r.MaxNorm(3.0)),
    "L2SP": Priced(lambda r, net: r.L2SP(0.01, 0.01, net.model)),
    "LayerwiseL2": Priced(lambda r, net: r.LayerwiseL2(5e-4, {net.shared: 1.0})),
    "Orthogonality": Priced(lambda r, net: r.Orthogonality(1e-4)),
    "SRIP": Priced(lambda r, net: r.SRIP(1e-3)),
    "SpectralNormPenalty": Priced(lambda r, net: r.SpectralNormPenalty()),
    "ActivityL1": Priced(lambda r, net: r.ActivityL1(1e-5, net.layer)),
    "ActivityL2": Priced(lambda r, net: r.ActivityL2(1e-5, net.layer)),
    "TemporalActivity": Priced(lambda r, net: r.TemporalActivity(1e-5, net.layer)),
    "KLSparsity": Priced(lambda r, net: r.KLSparsity(1e-5, net.layer, activation=squashed)),
    "DeCov": Priced(lambda r, net: r.DeCov(1e-3, net.layer)),
    "FeatureStatistics": Priced(lambda r, net: r.FeatureStatistics(1e-3, net.layer)),
    "Barlow": Priced(lambda r, net: r.Barlow(1e-3, smaller)),
    "ConfidencePenalty": Priced(lambda r, net: r.ConfidencePenalty(0.5)),
    "EntropyMin": Priced(lambda r, net: r.EntropyMin(0.1)),
    "ZLoss": Priced(lambda r, net: r.ZLoss(1e-4)),
    "FocalLoss": Priced(lambda r, net: (r.FocalLoss(), [])),
    "LogitNormLoss": Priced(lambda r, net: (r.LogitNormLoss(), [])),
    "InputNoise": Priced(lambda r, net: r.InputNoise(0.1)),
    "DisturbLabel": Priced(lambda r, net: r.DisturbLabel(0.1, classes=10)),
    "DataGrad": Priced(lambda r, net: r.DataGrad(10.0), target=2.3),
    "SpectReg": Priced(lambda r, net: r.SpectReg(0.03), target=2.3),
    "SpectReg, the authors'": Priced(lambda r, net: r.SpectReg(0.03, "batch", "second")),
    "L1DataGrad": Priced(lambda r, net: r.L1DataGrad(0.1)),
    "OneHotGradient": Priced(lambda r, net: r.OneHotGradient(0.3)),
    "JacobianRegularizer": Priced(lambda r, net: r.JacobianRegularizer(0.1)),
    "FrobeniusJacobian": Priced(lambda r, net: r.FrobeniusJacobian(0.03), target=12),
    "SoftmaxJacobian": Priced(lambda r, net: r.SoftmaxJacobian(0.3), target=12),
    "JacobianNorm": Priced(lambda r, net: r.JacobianNorm(0.1)),
    "LipschitzPenalty": Priced(lambda r, net: r.LipschitzPenalty(), single=True),
    "CurvaturePenalty": Priced(lambda r, net: r.CurvaturePenalty(1.0)),
    "GradAlign": Priced(lambda r, net: r.GradAlign(0.2, eps=0.1)),
    "HessianTrace": Priced(lambda r, net: r.HessianTrace(1e-3)),
    "GradientNorm": Priced(lambda r, net: r.GradientNorm(0.1)),
    "FisherPenalty": Priced(lambda r, net: r.FisherPenalty(0.1)),
    "VAT": Priced(lambda r, net: r.VAT(1.0, eps=1.0), target=4.5),
    "PiModel": Priced(lambda r, net: r.PiModel(1.0)),
    "TemporalEnsemble": Priced(
        lambda r, net: r.TemporalEnsemble(1.0, 1000, classes=10), lambda net: {"index": net.index}
    ),
    "MeanTeacher": Priced(lambda r, net: r.MeanTeacher(1.0, net.model)),
    "RDrop": Priced(lambda r, net: r.RDrop(1.0)),
    "UDA": Priced(lambda r, net: r.UDA(1.0, smaller, on="unlabeled"), lambda net: {"unlabeled": net.more}),
    "TrainingSignalAnnealing": Priced(lambda r, net: (r.TrainingSignalAnnealing(10_000), [])),
    "AdversarialTraining, FGSM": Priced(
        lambda r, net: (
            r.AdversarialTraining(r.FocalLoss(0.0), lambda *at: r.attack.fgsm(*at, eps=0.1)),
            [],
        )
    ),
    "TRADES, 3 steps": Priced(lambda r, net: r.TRADES(6.0, 0.1, 0.05, 3)),
    "MART, 3 steps": Priced(
        lambda r, net: (r.MART(attack=lambda *at: r.attack.pgd(*at, eps=0.1, steps=3)), [])
    ),
    "AdversarialFeatures": Priced(lambda r, net: r.AdversarialFeatures(1.0, net.layer, eps=0.1)),
    "Mixup": Priced(lambda r, net: r.Mixup(1.0), target=1.1),
    "ManifoldMixup": Priced(lambda r, net: r.ManifoldMixup(2.0, net.layer)),
    "CutMix": Priced(lambda r, net: r.CutMix(1.0), target=1.1),
    "Cutout": Priced(lambda r, net: r.Cutout(14)),
    "RandomErasing": Priced(lambda r, net: r.RandomErasing()),
    "SamplePairing": Priced(lambda r, net: r.SamplePairing()),
    "JensenShannon": Priced(lambda r, net: r.JensenShannon(12.0, smaller)),
    "Distill": Priced(lambda r, net: r.Distill(0.5, net.model)),
    "SelfDistill": Priced(lambda r, net: r.SelfDistill(1.0, net.last)),
    "R1": Priced(lambda r, net: r.R1(1.0), single=True),
    "R2": Priced(lambda r, net: r.R2(1.0), fake, single=True),
    "GradientPenalty": Priced(lambda r, net: r.GradientPenalty(), fake, single=True),
    "Dragan": Priced(lambda r, net: r.Dragan(), single=True),
    "Wasserstein": Priced(lambda r, net: (r.Wasserstein(), []), fake, single=True),
    "Hinge": Priced(lambda r, net: (r.Hinge(), []), fake, single=True),
    "LeastSquares": Priced(lambda r, net: (r.LeastSquares(), []), fake, single=True),
    "Logistic": Priced(lambda r, net: (r.Logistic(), []), fake, single=True),
    "Relativistic": Priced(lambda r, net: (r.Relativistic(), []), fake, single=True),
    "SemiSupervised": Priced(
        lambda r, net: (r.SemiSupervised(), []), lambda net: {"unlabeled": net.more, "fake": net.more}
    ),
    "GeneratorLoss": Priced(lambda r, net: (r.GeneratorLoss(net.critic, r.Hinge()), [])),
    "CriticConsistency": Priced(lambda r, net: r.CriticConsistency(augment=smaller), single=True),
    "FeatureMatching": Priced(lambda r, net: r.FeatureMatching(1.0, net.layer), fake),
    "UncertaintyWeighting": Priced(
        lambda r, net: (
            r.UncertaintyWeighting([r.FocalLoss(0.0), square], ["classification", "regression"]),
            [],
        )
    ),
    "GradNorm": Priced(lambda r, net: (r.GradNorm([r.FocalLoss(0.0), square], net.shared), [])),
    "PCGrad": Priced(lambda r, net: (r.PCGrad(), [r.ConfidencePenalty(0.5), r.ZLoss(1e-4)])),
}


def page(prices: dict[str, dict[str, tuple[float, float]]], about: dict[str, Any]) -> str:
    """Markdown: a row for each penalty, a column for each network, with a "!" beyond the row's target."""
    networks = list(dict.fromkeys(network for found in prices.values() for network in found))
    lines = [
        "# The price of penalties",
        "",
        "Training steps with a penalty, in plain steps of the same network: recorded, float32, Adam. The two "
        "take turns; medians over the rounds of the ratio, in parentheses that of the least times.",
        f"{about['cpu']}, threads: {about['threads']}, {about['clock']} time, load at the start: "
        f"{about['load']:.1f}{', held to AVX2' if about['avx2'] else ''}.",
        "",
        f"| penalty | {' | '.join(networks)} | at most |",
        f"|---|{'---|' * (len(networks) + 1)}",
    ]
    for name, found in prices.items():
        target = PRICED[name].target
        cells = []
        for network in networks:
            price, least = found.get(network, (0.0, 0.0))
            dear = target is not None and min(price, least) > target
            cells.append(f"{price:.2f} ({least:.2f}){' !' if dear else ''}" if price else "")
        lines.append(f"| {name} | {' | '.join(cells)} | {target or ''} |")
    return "\n".join(lines) + "\n"

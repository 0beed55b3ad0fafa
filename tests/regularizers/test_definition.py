"""The signatures of the definition: what each regularizer is called with, as it was laid down before any of
it was written. Names of ours stand for its letters (weight for λ, std for σ); what the definition does not
name may be added, with a default.
"""

from __future__ import annotations

import inspect
import math
from typing import Any

import pytest

from tinydl import nn, regularizers
from tinydl.optim import SAM
from tinydl.training import Ensemble

DEFINITION = {
    # Weights
    "L1": "weight, prox=False",
    "L2": "weight, prox=False",
    "ElasticNet": "weight, l1_ratio=0.5, prox=False",
    "GroupLasso": "weight, groups='out'",
    "MaxNorm": "c=3.0",
    "Orthogonality": "weight",
    "SRIP": "weight=0.1, iterations=2",
    "SpectralNormPenalty": "weight=0.01",
    "L2SP": "alpha, beta, start",
    "measured_ratios": "model, loss, batches",
    "predicted_ratios": "model, input_shape",
    "LayerwiseL2": "weight, ratios",
    "layerwise_groups": "model, last, ratios",
    "RunningDecay": "c, beta=0.99",
    # Activations and outputs
    "ActivityL1": "weight, layers",
    "ActivityL2": "weight, layers",
    "TemporalActivity": "weight, layers",
    "KLSparsity": "weight=3.0, *, layers, rho=0.05",
    "DeCov": "weight=0.1, *, layers",
    "Barlow": "weight, augment, off=0.0051",
    "ConfidencePenalty": "weight",
    "EntropyMin": "weight",
    "FocalLoss": "gamma=2.0, alpha=None",
    "LogitNormLoss": "tau=0.04",
    "ZLoss": "weight=1e-4",
    "FeatureStatistics": "weight, layers, mean=0.0, var=1.0",
    # Noise
    "DropConnect": "in_features, out_features, p=0.5, per='sample'",
    "DropPath": "p, mode='row'",
    "DropBlock": "p=0.1, block_size=7, per_channel=True",
    "WeightNoise": "model, std",
    "InputNoise": "std",
    "DisturbLabel": "gamma=0.1",
    "mc_dropout": "model, x, samples=20",
    # Gradients
    "DataGrad": "weight",
    "SpectReg": "weight, per='sample', forward='shared'",
    "FrobeniusJacobian": "weight",
    "SoftmaxJacobian": "weight",
    "OneHotGradient": "weight, which='target'",
    "JacobianRegularizer": "weight, n_proj=1",
    "R1": "weight",
    "R2": "weight",
    "JacobianNorm": "weight=0.1",
    "LipschitzPenalty": "weight=10.0, one_sided=False",
    "L1DataGrad": "weight",
    "CurvaturePenalty": "weight=4.0, h=1.5",
    "HessianTrace": "weight, n=1, of='input'",
    "GradAlign": "weight=0.2, *, eps",
    "GradientNorm": "weight, squared=False",
    "FisherPenalty": "weight",
    # Consistency
    "VAT": "weight, eps, xi=0.1, iterations=1, on='x'",
    "PiModel": "weight",
    "TemporalEnsemble": "weight, n, alpha=0.6",
    "MeanTeacher": "weight, model, decay=0.999",
    "RDrop": "weight=1.0",
    "UDA": "weight, augment, T=0.4, threshold=0.8",
    "TrainingSignalAnnealing": "steps, form='linear'",
    # Adversaries
    "attack.fgsm": "model, x, target, eps",
    "attack.pgd": "model, x, target, eps, step_size=None, steps=10, norm=math.inf, start=True",
    "attack.deepfool": "model, x",
    "attack.cw": "model, x, target",
    "attack.lbfgs": "model, x, target",
    "attack.universal": "model, x, eps",
    "AdversarialTraining": "loss, attack, alpha=0.5",
    "TRADES": "weight, eps, step_size, steps=10, norm=math.inf, start=1e-3, mode='eval'",
    "MART": "beta=5.0, *, attack",
    "AdversarialFeatures": "weight, layers, eps, xi=0.1",
    # Samples and labels
    "Mixup": "alpha=1.0, per='batch'",
    "ManifoldMixup": "alpha=2.0, *, layers",
    "CutMix": "alpha=1.0",
    "Cutout": "size=16, value=0.0",
    "RandomErasing": "p=0.5, scale=(0.02, 0.33), ratio=(0.3, 3.3)",
    "JensenShannon": "weight, augment",
    "SamplePairing": "",
    "Distill": "weight, *, T=4.0, teacher",
    "SelfDistill": "weight, layers",
    # Several tasks
    "UncertaintyWeighting": "tasks, kinds",
    "GradNorm": "tasks, shared, alpha=1.5",
    "PCGrad": "",
    # Critics
    "GradientPenalty": "weight=10.0, one_sided=False",
    "Dragan": "weight=10.0, c=0.5",
    "FeatureMatching": "weight, layer",
    "MinibatchDiscrimination": "in_features, kernels=100, dims=5",
    "CriticConsistency": "weight=10.0, *, augment",
    **dict.fromkeys(("Wasserstein", "Hinge", "LeastSquares", "Logistic", "Relativistic"), ""),
    "GeneratorLoss": "critic, loss",
    "SemiSupervised": "",
    # The contract
    "Term": "",
    "Penalty": "weight, *, every=1, generator=None, name=None",
    "Objective": "model, loss, terms=()",
    "Objective.__call__": "self, x, target=None, *, due=None",
    "Objective.due": "self, step",
    "Objective.after": "self, optimizer=None",
    "Pass.again": "self, x=None, *, model=None, draws='same', generator=None, mode=None, replace=None",
    "Pass.slopes": "self, scalars, wrt=None",
}
BEYOND = {
    "DisturbLabel": ["classes"],  # known before the model's output is
    "TemporalEnsemble": ["classes"],
}
"""What must be given besides."""
OTHERS = {
    "ElasticNetProx",  # what prox=True does
    "GroupLassoProx",
    "L1Prox",
    "Mixed",  # what there is to read
    "Pass",
    "Terms",
    "Uncertainty",
    "attack",
    "data_grad",
    "spect_reg",
    "drop_path_rates",
    "lazy_rates",
    "remove_spectral_norm",
    "spectral_norm",
    "GaussianDropout",
    "mixed_with_fakes",
}
"""Public names that the definition gives no signature."""
EMPTY = inspect.Parameter.empty
POSITIONAL = inspect.Parameter.POSITIONAL_OR_KEYWORD


def parameters(thing: Any) -> dict[str, inspect.Parameter]:
    """Those of a callable; where a class hands options on, those of its bases too."""
    found = dict(inspect.signature(thing).parameters)
    if isinstance(thing, type) and "options" in found:
        del found["options"]
        for base in thing.__mro__[1:]:
            if "__init__" in vars(base):
                more = parameters(base)
                return found | {name: p for name, p in more.items() if name not in found}
    return found


@pytest.mark.parametrize("name", DEFINITION)
def test_signatures_are_those_of_the_definition(name: str) -> None:
    thing: Any = regularizers
    for part in name.split("."):
        thing = getattr(thing, part)
    ours = parameters(thing)
    scope: dict[str, Any] = {"math": math}
    exec(f"def defined({DEFINITION[name]}): ...", scope)
    wanted = inspect.signature(scope["defined"]).parameters
    for each, parameter in wanted.items():
        assert each in ours, f"{name}: expected {each} among {[*ours]}"
        default = ours[each].default
        # None or () where a default stands before it: the constructor refuses it by name.
        assert default == parameter.default or (parameter.default is EMPTY and default in (None, ())), each
    order = [each for each, parameter in wanted.items() if parameter.kind is POSITIONAL]
    first = [each for each, parameter in ours.items() if parameter.kind is POSITIONAL]
    assert first[: len(order)] == order
    asked = [p.name for p in ours.values() if p.default is EMPTY and p.kind is not p.VAR_KEYWORD]
    assert set(asked) - set(wanted) == set(BEYOND.get(name, ()))


def test_every_public_name_is_in_the_table() -> None:
    told = {name.partition(".")[0] for name in DEFINITION} | OTHERS
    assert told >= set(regularizers.__all__)
    assert set(regularizers.__all__) >= OTHERS


def test_what_stands_in_other_rooms() -> None:
    assert parameters(Ensemble)["how"].default == "probability"
    assert parameters(nn.GaussianNoise)["std"].default == 0.1
    assert parameters(SAM)["alpha"].default == 1.0

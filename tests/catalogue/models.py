"""The table of networks: a row for each public one. tests/models/test_model_rows.py walks it.

A row says how to make the network for `classes` classes, what it takes, how many parameters and multiply-adds
it has in the words of its publication, what makes a small one of the same kind, which names its weights
have, and what it refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tinydl_kernels.machine.errors import ShapeError

import tinydl as td
from tinydl import models
from tinydl.nn import Module


@dataclass(frozen=True)
class Row:
    name: str  # of the public class or function, then what tells variants apart
    make: Callable[..., Module]  # (classes=10)
    input: tuple[int, ...]  # the shape of one sample
    parameters: int  # with as many classes, running statistics left out
    published: str  # where the numbers stand, and as what: parameters end in M, multiply-adds in G
    bad: Sequence[tuple[Callable[[], Any], type[Exception], str]] = ()  # call, error, message
    classes: int = 10  # that the publication counts with
    keys: Sequence[str] = ()  # some names of its state
    narrow: tuple[dict[str, Any], tuple[int, ...]] | None = None  # settings and input of a small one
    maps: bool = False  # logits for each pixel

    def small(self, classes: int = 10) -> Module:
        """A net of this kind that is quick to run."""
        return self.make(classes=classes, **(self.narrow[0] if self.narrow else {}))

    @property
    def small_input(self) -> tuple[int, ...]:
        return self.narrow[1] if self.narrow else self.input


def of_images(make: Callable[..., Module], *shape: int) -> Callable[[], Any]:
    """A forward pass with images of the wrong shape."""
    return lambda: make()(td.zeros(2, *shape))


PAPER = "arXiv 1712.09936: conv 6, 16, 120, FC 84, 10"
ONE = "conv2d: x has C=1, weight expects C=3"
CHANNELS = "conv1: conv2d: x has C=1, weight expects C=3"
HE = "arXiv 1512.03385"
VISION = "torchvision 0.28"
HAND = "counted by hand"


def of_torchvision(
    name: str,
    parameters: int,
    giga: str,
    keys: Sequence[str],
    narrow: tuple[dict[str, Any], tuple[int, ...]] | None,
) -> Row:
    make = getattr(models, name)
    return Row(
        name,
        make,
        (3, 224, 224),
        parameters,
        f"{VISION}: {parameters / 1e6:.6f}M, {giga}G",
        [(of_images(lambda: make(**narrow[0]), 1, *narrow[1][1:]), ShapeError, ONE)] if narrow else (),
        classes=1000,
        keys=keys,
        narrow=narrow,
    )


LENETS = [
    Row(
        "LeNet",
        models.LeNet,
        (1, 28, 28),
        61_706,
        PAPER,
        [
            (
                lambda: models.LeNet("droput"),
                ValueError,
                "LeNet: expected regularizer in ['batchnorm', 'dropout', 'none'], got 'droput'",
            ),
            (of_images(models.LeNet, 3, 28, 28), ShapeError, "conv1: conv2d: x has C=3, weight expects C=1"),
        ],
        keys=["conv1.weight", "conv3.bias", "fc2.weight"],
    ),
    Row("LeNet batchnorm", lambda **s: models.LeNet("batchnorm", **s), (1, 28, 28), 61_706 + 2 * 84, PAPER),
    Row("LeNet none", lambda **s: models.LeNet("none", **s), (1, 28, 28), 61_706, PAPER),
    Row(
        "LeNet of three channels",
        lambda **s: models.LeNet("none", in_channels=3, **s),
        (3, 28, 28),
        61_706 + 2 * 150,
        PAPER,
    ),
    Row(
        "CaffeLeNet",
        models.CaffeLeNet,
        (1, 28, 28),
        431_080,
        "BVLC/caffe, examples/mnist: conv 20, 50, FC 500, 10: 0.431M",
        keys=["conv1.weight", "conv2.bias", "fc2.weight"],
    ),
]

THIN = ({"widths": (2, 4, 8)}, (3, 16, 16))
SMALL_RESNETS = [
    *(
        Row(
            f"resnet{6 * n + 2}",
            getattr(models, f"resnet{6 * n + 2}"),
            (3, 32, 32),
            parameters,
            f"{HE}, table 6: {millions}M",
            [(of_images(getattr(models, f"resnet{6 * n + 2}"), 1, 32, 32), ShapeError, CHANNELS)],
            keys=["bn1.running_mean", f"layer3.{n - 1}.conv2.weight", "linear.bias"],
            narrow=THIN if n == 3 else None,
        )
        for n, parameters, millions in (
            (3, 269_722, "0.27"),
            (5, 464_154, "0.46"),
            (7, 658_586, "0.66"),
            (9, 853_018, "0.85"),
            (18, 1_727_962, "1.7"),
        )
    ),
    *(
        Row(
            f"plain{depth}",
            getattr(models, f"plain{depth}"),
            (3, 32, 32),
            parameters,
            f"{HE}, section 4.2: as many as the residual net",
            keys=["layer1.0.bn2.weight", "linear.bias"],
            narrow=THIN if depth == 20 else None,
        )
        for depth, parameters in (
            *((20, 269_722), (32, 464_154), (44, 658_586), (56, 853_018), (110, 1_727_962)),
        )
    ),
    Row(
        "resnet20 B",
        lambda **s: models.resnet20(shortcut="B", **s),
        (3, 32, 32),
        269_722 + 16 * 32 + 64 + 32 * 64 + 128,
        f"{HAND}: two projections",
        [
            (
                lambda: models.resnet20(shortcut="D"),
                ValueError,
                "ResNet: expected shortcut one of A, B, C, none, got 'D'",
            )
        ],
        keys=["layer2.0.shortcut.0.weight", "layer3.0.shortcut.1.running_var"],
        narrow=THIN,
    ),
    Row(
        "resnet20 C",
        lambda **s: models.resnet20(shortcut="C", **s),
        (3, 32, 32),
        269_722 + (16 * 32 + 64 + 32 * 64 + 128) + 3 * (256 + 32) + 2 * (1024 + 64) + 2 * (4096 + 128),
        f"{HAND}: nine projections",
        keys=["layer1.0.shortcut.0.weight", "layer3.2.shortcut.1.bias"],
        narrow=THIN,
    ),
    Row(
        "ResNet",
        lambda **s: models.ResNet(1, widths=(4, 8, 16), **s),
        (3, 32, 32),
        5_006,
        f"{HAND}, 108 + 8 + 304 + 896 + 3,520 + 170",
        [(of_images(lambda: models.ResNet(1), 1, 32, 32), ShapeError, CHANNELS)],
    ),
    Row(
        "ResNet of grey images",
        lambda **s: models.ResNet(1, widths=(4, 8, 16), in_channels=1, **s),
        (1, 28, 28),
        4_934,
        "72 weights of the first convolution less than with three channels",
        [
            (
                of_images(lambda: models.ResNet(1, in_channels=1), 3, 28, 28),
                ShapeError,
                "conv1: conv2d: x has C=3, weight expects C=1",
            )
        ],
    ),
]

BOTTLENECKS = ["layer1.0.downsample.0.weight", "layer4.2.conv3.weight", "fc.bias"]
BLOCKS = ["conv1.weight", "layer2.0.downsample.1.running_mean", "fc.bias"]
SMALL = ({"width": 2}, (3, 33, 33))
LARGE_RESNETS = [
    of_torchvision("resnet18", 11_689_512, "1.814", [*BLOCKS, "layer4.1.bn2.weight"], SMALL),
    of_torchvision("resnet34", 21_797_672, "3.664", [*BLOCKS, "layer3.5.conv2.weight"], SMALL),
    of_torchvision("resnet50", 25_557_032, "4.089", BOTTLENECKS, SMALL),
    Row(
        "resnet34 A",
        lambda **s: models.resnet34(shortcut="A", **s),
        (3, 224, 224),
        21_623_848,
        f"{HE}, table 1 and figure 3: 3.6G",
        classes=1000,
        narrow=SMALL,
    ),
    Row(
        "resnet50 A",
        lambda **s: models.resnet50(shortcut="A", **s),
        (3, 224, 224),
        25_557_032 - (64 * 256 + 256 * 512 + 512 * 1024 + 1024 * 2048 + 2 * (256 + 512 + 1024 + 2048)),
        f"{HAND}: without the four projections",
        classes=1000,
        narrow=SMALL,
    ),
    Row(
        "plain34",
        models.plain34,
        (3, 224, 224),
        21_623_848,
        f"{HE}, figure 3: 3.6G",
        classes=1000,
        narrow=SMALL,
    ),
    Row(
        "plain18",
        models.plain18,
        (3, 224, 224),
        11_689_512 - (64 * 128 + 128 * 256 + 256 * 512 + 2 * (128 + 256 + 512)),
        f"{HE}, table 1: 1.8G",
        classes=1000,
        narrow=SMALL,
    ),
    Row(
        "ImageNetResNet",
        lambda **s: models.ImageNetResNet((1, 1, 1, 1), width=4, in_channels=2, **s),
        (2, 40, 40),
        20_186,
        f"{HAND}: 400 + 304 + 944 + 3,680 + 14,528 + 330",
        [
            (
                lambda: models.ImageNetResNet((1, 1, 1, 1), shortcut="b"),
                ValueError,
                "ImageNetResNet: expected shortcut one of A, B, C, none, got 'b'",
            )
        ],
    ),
]

VGGS = [
    *(
        of_torchvision(
            name,
            parameters,
            giga,
            ["features.0.weight", last, "classifier.6.bias"],
            ({"width": 4, "hidden": 8, "dropout": 0.0}, (3, 32, 32)),
        )
        for name, parameters, giga, last in (
            ("vgg11", 132_863_336, "7.609", "features.18.weight"),
            ("vgg11_bn", 132_868_840, "7.609", "features.26.running_var"),
            ("vgg13", 133_047_848, "11.308", "features.22.weight"),
            ("vgg13_bn", 133_053_736, "11.308", "features.32.running_var"),
            ("vgg16", 138_357_544, "15.470", "features.28.weight"),
            ("vgg16_bn", 138_365_992, "15.470", "features.41.running_var"),
            ("vgg19", 143_667_240, "19.632", "features.34.weight"),
            ("vgg19_bn", 143_678_248, "19.632", "features.50.running_var"),
        )
    ),
    Row(
        "VGG",
        lambda **s: models.VGG(19, **s),
        (3, 224, 224),
        143_667_240,
        f"{HE}, figure 3: 19.6G",
        [
            (
                lambda: models.VGG(12),
                ValueError,
                "VGG: expected layers one of [11, 13, 16, 19], got 12",
            )
        ],
        classes=1000,
        narrow=({"width": 4, "hidden": 8, "in_channels": 1}, (1, 32, 32)),
    ),
]

TOWERS = [
    of_torchvision(
        "alexnet",
        61_100_840,
        "0.714",
        ["features.0.weight", "features.10.bias", "classifier.1.weight", "classifier.6.bias"],
        ({"width": 2, "hidden": 8, "dropout": 0.0}, (3, 63, 63)),
    ),
    Row(
        "AlexNet",
        models.AlexNet,
        (3, 224, 224),
        61_100_840,
        f"{VISION}: 61.1M",
        classes=1000,
        narrow=({"width": 2, "hidden": 8, "in_channels": 1, "dropout": 0.0}, (1, 63, 63)),
    ),
    of_torchvision(
        "googlenet",
        6_624_904,
        "1.498",
        ["conv1.conv.weight", "inception3a.branch2.1.bn.weight", "inception5b.branch4.1.conv.weight"],
        ({"width": 2}, (3, 32, 32)),
    ),
    Row(
        "GoogLeNet",
        lambda **s: models.GoogLeNet(in_channels=1, **s),
        (1, 224, 224),
        6_624_904 - 2 * 49 * 64,
        f"{HAND}: the first convolution of one channel",
        classes=1000,
        narrow=({"width": 2}, (1, 32, 32)),
    ),
]

DENSE_BC = {"growth_rate": 12, "block_config": (16,) * 3, "num_init_features": 24, "small_images": True}
DENSE = [
    *(
        of_torchvision(
            f"densenet{depth}",
            parameters,
            giga,
            ["features.norm0.bias", "features.denseblock1.denselayer6.conv1.weight", "features.norm5.weight"],
            None,
        )
        for depth, parameters, giga in (
            (121, 7_978_856, "2.834"),
            (161, 28_681_000, "7.728"),
            (169, 14_149_480, "3.360"),
            (201, 20_013_928, "4.291"),
        )
    ),
    Row(
        "DenseNet",
        lambda **s: models.DenseNet(**DENSE_BC | s),
        (3, 32, 32),
        769_162,
        "arXiv 1608.06993, table 2, DenseNet-BC of 100 layers: 0.8M",
        [(of_images(lambda: models.DenseNet(4, (1,), 4), 1, 16, 16), ShapeError, ONE)],
        keys=["features.conv0.weight", "features.transition1.conv.weight", "classifier.bias"],
        narrow=({"growth_rate": 4, "block_config": (2, 2), "num_init_features": 8, "in_channels": 1},
                (1, 16, 16)),
    ),
    Row(
        "DenseNet of large images",
        lambda **s: models.DenseNet(4, (2, 2), 8, drop_rate=0.1, **s),
        (3, 40, 40),
        4_706,
        f"{HAND}: 1,192 + 1,576 + 160 + 1,576 + 32 + 170",
    ),
]  # fmt: skip

WIDE = [
    *(
        Row(
            f"WideResNet {depth}-{widen}",
            lambda depth=depth, widen=widen, **s: models.WideResNet(**{"depth": depth, "widen": widen} | s),
            (3, 32, 32),
            parameters,
            f"arXiv 1605.07146, table 4: {millions}M",
            keys=["conv1.weight", "block1.layer.0.convShortcut.weight", "bn1.running_var", "fc.bias"],
            narrow=({"depth": 10, "widen": 2, "dropout": 0.1, "in_channels": 1}, (1, 16, 16)),
        )
        for depth, widen, parameters, millions in (
            (16, 8, 10_961_370, "11.0"),
            (28, 10, 36_479_194, "36.5"),
            (40, 4, 8_949_210, "8.9"),
        )
    ),
    Row(
        "WideResNet harmonic",
        lambda **s: models.WideResNet(10, 1, harmonic=True, **s),
        (3, 32, 32),
        77_850,
        f"{HAND}: as many as without",
        [
            (
                lambda: models.WideResNet(20),
                ValueError,
                "WideResNet: expected a depth of 6 n + 4, n at least 1, got 20",
            )
        ],
        keys=["conv1.bn.running_mean", "conv1.mix.weight"],
    ),
]

OTHERS = [
    Row(
        "AllCNN",
        models.AllCNN,
        (3, 32, 32),
        1_369_738,
        "arXiv 1412.6806, ALL-CNN-C: 1.4M",
        [
            (lambda: models.AllCNN("D"), ValueError, "AllCNN: expected base one of A, B, C, got 'D'"),
            (
                lambda: models.AllCNN(kind="mean"),
                ValueError,
                "AllCNN: expected kind one of pool, strided, convpool, all, got 'mean'",
            ),
        ],
        narrow=({"width": 4, "in_channels": 1}, (1, 16, 16)),
    ),
    *(
        Row(
            f"AllCNN {base} {kind}",
            lambda base=base, kind=kind, **s: models.AllCNN(base, kind, **s),
            (3, 32, 32),
            parameters + (96 * 96 * 9 + 96 + 192 * 192 * 9 + 192) * (kind in ("convpool", "all")),
            f"{HAND}: two 3×3 convolutions more than with pools",
            narrow=({"width": 4}, (3, 16, 16)) if base == "C" else None,
        )
        for base, parameters in (("A", 839_242), ("B", 885_610), ("C", 954_730))
        for kind in ("pool", "strided", "convpool", "all")
    ),
    Row(
        "UNet",
        lambda **s: models.UNet(**{"features": 32} | s),
        (3, 64, 64),
        7_763_041,
        "mateuszbuda/brain-segmentation-pytorch: 7.763041M",
        [
            (
                of_images(lambda: models.UNet(features=1), 3, 40, 64),
                ShapeError,
                "UNet: expected images (N, C, H, W), H and W multiples of 16, got (2, 3, 40, 64)",
            )
        ],
        classes=1,
        keys=["encoder1.enc1conv1.weight", "bottleneck.bottlenecknorm2.bias", "upconv4.bias",
              "decoder1.dec1norm1.running_mean", "conv.bias"],
        narrow=({"features": 2, "in_channels": 1}, (1, 32, 16)),
        maps=True,
    ),
    Row(
        "MLP",
        models.MLP,
        (1, 28, 28),
        784 * 200 + 200 + 200 * 200 + 200 + 200 * 10 + 10,
        HAND,
        [
            (
                lambda: models.MLP(activation="rely"),
                ValueError,
                "MLP: expected activation one of relu, tanh, sigmoid, scaled_tanh, got 'rely'",
            )
        ],
        keys=["0.weight", "3.weight", "6.bias"],
    ),
    Row(
        "ciresan",
        models.ciresan,
        (1, 29, 29),
        12_115_010,
        "arXiv 1003.0358, table 1, five hidden layers: 12.1M",
        keys=["0.weight", "3.weight"],
        narrow=({"in_features": 64, "hidden": (20, 15)}, (1, 8, 8)),
    ),
    Row(
        "MaxoutNet",
        models.MaxoutNet,
        (1, 28, 28),
        1_233_610,
        f"{HAND}, 942,000 + 289,200 + 2,410",
        keys=["1.weight", "4.weight", "7.bias"],
        narrow=({"in_features": 64, "units": 6}, (1, 8, 8)),
    ),
]  # fmt: skip

ROWS = [*LENETS, *SMALL_RESNETS, *LARGE_RESNETS, *VGGS, *TOWERS, *DENSE, *WIDE, *OTHERS]

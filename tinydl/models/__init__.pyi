"""Made by tests/stubs.py of what is there at run time."""

# mypy: ignore-errors

from tinydl.models.alexnet import AlexNet as AlexNet
from tinydl.models.alexnet import alexnet as alexnet
from tinydl.models.all_cnn import AllCNN as AllCNN
from tinydl.models.densenet import DenseNet as DenseNet
from tinydl.models.densenet import densenet121 as densenet121
from tinydl.models.densenet import densenet161 as densenet161
from tinydl.models.densenet import densenet169 as densenet169
from tinydl.models.densenet import densenet201 as densenet201
from tinydl.models.googlenet import GoogLeNet as GoogLeNet
from tinydl.models.googlenet import GoogLeNetOutputs as GoogLeNetOutputs
from tinydl.models.googlenet import Inception as Inception
from tinydl.models.googlenet import googlenet as googlenet
from tinydl.models.harmonic import HarmonicConv2d as HarmonicConv2d
from tinydl.models.imagenet_resnet import ImageNetResNet as ImageNetResNet
from tinydl.models.imagenet_resnet import plain18 as plain18
from tinydl.models.imagenet_resnet import plain34 as plain34
from tinydl.models.imagenet_resnet import resnet18 as resnet18
from tinydl.models.imagenet_resnet import resnet34 as resnet34
from tinydl.models.imagenet_resnet import resnet50 as resnet50
from tinydl.models.lenet import CaffeLeNet as CaffeLeNet
from tinydl.models.lenet import LeNet as LeNet
from tinydl.models.mlp import MLP as MLP
from tinydl.models.mlp import MaxoutNet as MaxoutNet
from tinydl.models.mlp import ciresan as ciresan
from tinydl.models.resnet import ResNet as ResNet
from tinydl.models.resnet import plain110 as plain110
from tinydl.models.resnet import plain20 as plain20
from tinydl.models.resnet import plain32 as plain32
from tinydl.models.resnet import plain44 as plain44
from tinydl.models.resnet import plain56 as plain56
from tinydl.models.resnet import resnet110 as resnet110
from tinydl.models.resnet import resnet20 as resnet20
from tinydl.models.resnet import resnet32 as resnet32
from tinydl.models.resnet import resnet44 as resnet44
from tinydl.models.resnet import resnet56 as resnet56
from tinydl.models.unet import UNet as UNet
from tinydl.models.vgg import VGG as VGG
from tinydl.models.vgg import vgg11 as vgg11
from tinydl.models.vgg import vgg11_bn as vgg11_bn
from tinydl.models.vgg import vgg13 as vgg13
from tinydl.models.vgg import vgg13_bn as vgg13_bn
from tinydl.models.vgg import vgg16 as vgg16
from tinydl.models.vgg import vgg16_bn as vgg16_bn
from tinydl.models.vgg import vgg19 as vgg19
from tinydl.models.vgg import vgg19_bn as vgg19_bn
from tinydl.models.wide_resnet import WideResNet as WideResNet

__all__: list[str]

"""Networks of the literature, under the names of their published weights."""

from .lenet import LeNet
from .resnet import ResNet, resnet20, resnet32, resnet44, resnet56

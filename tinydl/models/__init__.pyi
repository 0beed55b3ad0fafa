"""Made by tests/stubs.py of what is there at run time."""

# mypy: ignore-errors

from tinydl.models.lenet import LeNet as LeNet
from tinydl.models.resnet import ResNet as ResNet
from tinydl.models.resnet import resnet20 as resnet20
from tinydl.models.resnet import resnet32 as resnet32
from tinydl.models.resnet import resnet44 as resnet44
from tinydl.models.resnet import resnet56 as resnet56

__all__: list[str]

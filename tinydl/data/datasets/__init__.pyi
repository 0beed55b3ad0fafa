"""Made by tests/stubs.py of what is there at run time."""

# mypy: ignore-errors

from tinydl.data.datasets.audit import Audit as Audit
from tinydl.data.datasets.audit import audit as audit
from tinydl.data.datasets.cifar import CIFAR10 as CIFAR10
from tinydl.data.datasets.cifar import cifar10 as cifar10
from tinydl.data.datasets.dataset import ConcatDataset as ConcatDataset
from tinydl.data.datasets.dataset import Dataset as Dataset
from tinydl.data.datasets.dataset import Subset as Subset
from tinydl.data.datasets.dataset import TensorDataset as TensorDataset
from tinydl.data.datasets.dataset import random_split as random_split
from tinydl.data.datasets.image_csv import ImageCSV as ImageCSV
from tinydl.data.datasets.image_folder import ImageFolder as ImageFolder
from tinydl.data.datasets.image_set import ImageSet as ImageSet
from tinydl.data.datasets.medmnist import MedMNIST as MedMNIST
from tinydl.data.datasets.mnist import FashionMNIST as FashionMNIST
from tinydl.data.datasets.mnist import MNIST as MNIST
from tinydl.data.datasets.mnist import mnist as mnist
from tinydl.data.datasets.mnist import read_idx as read_idx
from tinydl.data.datasets.pictures import Findings as Findings
from tinydl.data.datasets.synthetic import signals as signals
from tinydl.data.datasets.synthetic import spirals as spirals
from tinydl.data.datasets.synthetic import step_function as step_function
from tinydl.data.datasets.synthetic import two_moons as two_moons
from tinydl.data.datasets.synthetic import xor as xor
from tinydl.data.datasets.usps import USPS as USPS

__all__: list[str]

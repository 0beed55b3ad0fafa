"""Made by tests/stubs.py of what is there at run time."""

# mypy: ignore-errors

from tinydl.data.transforms.color import ColorJitter as ColorJitter
from tinydl.data.transforms.color import GaussianBlur as GaussianBlur
from tinydl.data.transforms.color import GaussianNoise as GaussianNoise
from tinydl.data.transforms.color import RandomAdjustSharpness as RandomAdjustSharpness
from tinydl.data.transforms.color import RandomAutocontrast as RandomAutocontrast
from tinydl.data.transforms.color import RandomEqualize as RandomEqualize
from tinydl.data.transforms.color import RandomGamma as RandomGamma
from tinydl.data.transforms.color import RandomGrayscale as RandomGrayscale
from tinydl.data.transforms.color import RandomIllumination as RandomIllumination
from tinydl.data.transforms.color import RandomInvert as RandomInvert
from tinydl.data.transforms.color import RandomPosterize as RandomPosterize
from tinydl.data.transforms.color import RandomSolarize as RandomSolarize
from tinydl.data.transforms.compose import Compose as Compose
from tinydl.data.transforms.compose import RandAugment as RandAugment
from tinydl.data.transforms.compose import RandomApply as RandomApply
from tinydl.data.transforms.compose import RandomChoice as RandomChoice
from tinydl.data.transforms.compose import TrivialAugmentWide as TrivialAugmentWide
from tinydl.data.transforms.contract import Draws as Draws
from tinydl.data.transforms.contract import Transform as Transform
from tinydl.data.transforms.crops import CenterCrop as CenterCrop
from tinydl.data.transforms.crops import RandomCrop as RandomCrop
from tinydl.data.transforms.crops import RandomResizedCrop as RandomResizedCrop
from tinydl.data.transforms.erasing import Cutout as Cutout
from tinydl.data.transforms.erasing import RandomErasing as RandomErasing
from tinydl.data.transforms.geometric import AlternatingHorizontalFlip as AlternatingHorizontalFlip
from tinydl.data.transforms.geometric import ElasticTransform as ElasticTransform
from tinydl.data.transforms.geometric import RandomAffine as RandomAffine
from tinydl.data.transforms.geometric import RandomHorizontalFlip as RandomHorizontalFlip
from tinydl.data.transforms.geometric import RandomPerspective as RandomPerspective
from tinydl.data.transforms.geometric import RandomRotation as RandomRotation
from tinydl.data.transforms.geometric import RandomVerticalFlip as RandomVerticalFlip
from tinydl.data.transforms.geometric import Resize as Resize
from tinydl.data.transforms.normalize import Normalize as Normalize
from tinydl.data.transforms.normalize import PCAWhitening as PCAWhitening
from tinydl.data.transforms.normalize import Standardize as Standardize
from tinydl.data.transforms.normalize import ZCAWhitening as ZCAWhitening
from tinydl.data.transforms.normalize import patch_whitening_filters as patch_whitening_filters

__all__: list[str]

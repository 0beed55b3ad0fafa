"""Made by tests/stubs.py of what is there at run time."""

# mypy: ignore-errors

from tinydl.inspection.attribution import deconvolution as deconvolution
from tinydl.inspection.attribution import grad_cam as grad_cam
from tinydl.inspection.attribution import guided_backpropagation as guided_backpropagation
from tinydl.inspection.attribution import integrated_gradients as integrated_gradients
from tinydl.inspection.attribution import occlusion as occlusion
from tinydl.inspection.attribution import saliency as saliency
from tinydl.inspection.attribution import smooth_grad as smooth_grad
from tinydl.inspection.contents import feature_maps as feature_maps
from tinydl.inspection.contents import features as features
from tinydl.inspection.contents import filters as filters
from tinydl.inspection.contents import tsne as tsne
from tinydl.inspection.graph import TapeGraph as TapeGraph
from tinydl.inspection.graph import TapeNode as TapeNode
from tinydl.inspection.graph import tape_graph as tape_graph
from tinydl.inspection.landscape import LossSurface as LossSurface
from tinydl.inspection.landscape import filter_normalized_direction as filter_normalized_direction
from tinydl.inspection.landscape import loss_surface as loss_surface
from tinydl.inspection.maximization import activation_maximization as activation_maximization
from tinydl.inspection.maximization import total_variation as total_variation

__all__: list[str]

"""The functions of layers under the names of torch.nn.functional: `import tinydl.nn.functional as F`."""

from ..ops.activations import *
from ..ops.attention import *
from ..ops.channel_dropout import *
from ..ops.conv import *
from ..ops.ctc import *
from ..ops.distances import *
from ..ops.elementwise import relu, sigmoid, tanh
from ..ops.embedding import *
from ..ops.functions import logsigmoid
from ..ops.grids import *
from ..ops.indexing import one_hot
from ..ops.inplace import relu_ as relu_
from ..ops.loss import *
from ..ops.lp_pool import *
from ..ops.margins import *
from ..ops.matmul import bilinear, linear
from ..ops.norm import *
from ..ops.padding import *
from ..ops.pool import *
from ..ops.random import alpha_dropout, dropout
from ..ops.resample import *
from ..ops.resample import interpolate as upsample
from ..ops.sampling import gumbel_softmax
from ..ops.shrinkage import *
from ..ops.softmax import *
from ..ops.unfold import *

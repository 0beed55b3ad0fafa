"""What the operators are made of: tinydl's operations by their flat names."""

from ....engine.core import cast
from ....linalg import det
from ....ops.activations import *
from ....ops.arithmetic import *
from ....ops.bits import *
from ....ops.conv import *
from ....ops.creation import *
from ....ops.elementwise import *
from ....ops.functions import *
from ....ops.grids import *
from ....ops.indexing import *
from ....ops.matmul import *
from ....ops.norm import *
from ....ops.padding import *
from ....ops.pool import *
from ....ops.products import *
from ....ops.random import dropout
from ....ops.reduce import *
from ....ops.reductions_by_index import *
from ....ops.scan import *
from ....ops.selection import *
from ....ops.shape import *
from ....ops.softmax import *
from ....ops.statistics import *

"""Center loss for PyTorch: a module that updates its centers during training.

On the CPU it runs the C kernels of `centerloss` on the tensors' own memory, elsewhere
PyTorch's operations. Install it with ``pip install "centerloss[torch]"``.
`ShardedCenterLoss` has its centers in shards over the ranks of a process group.
`centerloss.torch.metric_learning` is the same loss for pytorch-metric-learning.
"""

from ._convert import convert_state_dict
from .module import CenterLoss
from .sharded import ShardedCenterLoss

__all__ = ["CenterLoss", "ShardedCenterLoss", "convert_state_dict"]

"""A batch and the module's settings, as one argument each."""

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """B rows, their labels, and the centers of all classes."""

    embeddings: Tensor
    labels: Tensor
    centers: Tensor
    sample_weight: Tensor | None


class Settings(NamedTuple):
    """The settings of a call; an operation ignores those that it does not use."""

    reduction: str = "mean"
    loss_weight: float = 1.0
    ignore_index: int | None = None
    alpha: float = 0.5
    normalize: bool = True

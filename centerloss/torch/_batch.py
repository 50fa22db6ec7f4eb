"""A batch and the module's settings, as one argument each."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """Rows, their labels, and the centers of all classes.

    Labels and weights have any shape S, embeddings S + (...), where the last axes have
    D values in all. In a flat batch they are (B,) and (B, D).
    """

    embeddings: Tensor
    labels: Tensor
    centers: Tensor
    sample_weight: Tensor | None


class Settings(NamedTuple):
    """The settings of a call; an operation ignores those that it does not use.

    While torch.compile traces a call, `loss_weight` and `alpha` are tensors of one
    float64 on the CPU: inputs of the graph. Numbers would be constants of it.
    """

    reduction: str = "mean"
    loss_weight: float | Tensor = 1.0
    ignore_index: int | None = None
    alpha: float | Tensor = 0.5
    normalize: bool = True
    skip_nonfinite: bool = True


def given_batches(
    batches: Tensor | Iterable[tuple[Tensor, Tensor]], labels: Tensor | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Return the batches that were given as such, or as embeddings and labels."""
    if isinstance(batches, Tensor):
        if labels is None:
            raise TypeError("labels is None, expected one label per row")
        return iter([(batches, labels)])
    if labels is not None:
        raise TypeError("labels is given, but batches is no tensor")
    return iter(batches)

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
    """Yield the batches that were given as such, or as embeddings and labels."""
    if isinstance(batches, Tensor):
        if labels is None:
            raise TypeError("labels is None, expected one label per row")
        yield batches, labels
        return
    kind = type(batches).__name__
    if labels is not None:
        raise TypeError(f"batches is a {kind}, expected a tensor, as labels are given")
    try:
        pairs = iter(batches)
    except TypeError as error:
        raise TypeError(
            f"batches is a {kind}, expected an iterable of (embeddings, labels)"
        ) from error
    expected = "expected a pair (embeddings, labels)"
    for i, batch in enumerate(pairs):
        if not isinstance(batch, tuple | list):
            raise TypeError(f"batches[{i}] is a {type(batch).__name__}, {expected}")
        if len(batch) != 2:
            raise ValueError(f"batches[{i}] has {len(batch)} items, {expected}")
        yield batch[0], batch[1]

"""Gathers the rows of all ranks of a process group."""

import torch
import torch.distributed as dist
from torch import Tensor

_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def gather_rows(
    embeddings: Tensor,
    labels: Tensor,
    sample_weight: Tensor | None,
    error: Exception | None,
    group: dist.ProcessGroup,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the batches of all ranks, concatenated in the order of the ranks.

    Every rank must call it, a rank with a wrong batch too: its `error` is raised there,
    and the other ranks raise a ValueError that names it. The batches may have different
    numbers of rows.
    """
    weighted = sample_weight is not None
    own = [0, 0, 0, 0]
    if error is None:
        own = [1, _DTYPES.index(embeddings.dtype), len(embeddings), weighted]
    of_ranks = _gather(torch.tensor(own, device=embeddings.device), group)
    good, dtypes, counts, weights = zip(*(x.tolist() for x in of_ranks), strict=True)
    if error is not None:
        raise error
    if not all(good):
        raise ValueError(
            f"the batch is refused on ranks {_where(good, 0)} of {len(good)}, "
            "where the error says why"
        )
    if len(set(dtypes)) > 1:
        names = [str(_DTYPES[i]) for i in dtypes]
        raise ValueError(f"embeddings have dtypes {names} on the ranks, expected one")
    if any(other != weighted for other in weights):
        raise ValueError(
            f"sample_weight is given on ranks {_where(weights, 1)} of {len(weights)}, "
            "expected on all or none"
        )
    # all_gather needs one shape and dtype on all ranks. The conversions are exact.
    width = embeddings.shape[1:].numel()
    rows = _gather_uneven(embeddings.reshape(len(embeddings), width), counts, group)
    classes = _gather_uneven(labels.to(torch.int64), counts, group)
    if sample_weight is None:
        return rows, classes, None
    return rows, classes, _gather_uneven(sample_weight.double(), counts, group)


def _where(values: tuple[int, ...], wanted: int) -> list[int]:
    return [rank for rank, value in enumerate(values) if value == wanted]


def _gather_uneven(
    rows: Tensor, counts: tuple[int, ...], group: dist.ProcessGroup
) -> Tensor:
    """Gather tensors of different lengths, padded: all_gather needs one shape."""
    padded = rows.new_zeros(max(counts), *rows.shape[1:])
    padded[: len(rows)] = rows
    gathered = _gather(padded, group)
    return torch.cat([x[:n] for x, n in zip(gathered, counts, strict=True)])


def _gather(tensor: Tensor, group: dist.ProcessGroup) -> list[Tensor]:
    tensors = [torch.empty_like(tensor) for _ in range(dist.get_world_size(group))]
    dist.all_gather(tensors, tensor, group=group)
    return tensors

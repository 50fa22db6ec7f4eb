"""The rows of all ranks of a process group, so that each makes the same update."""

import torch
import torch.distributed as dist
from torch import Tensor


def gather_rows(
    embeddings: Tensor,
    labels: Tensor,
    sample_weight: Tensor | None,
    group: dist.ProcessGroup,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the batches of all ranks, one after the other in the order of the ranks.

    Every rank has to call it. The batches may have different numbers of rows.
    """
    weighted = sample_weight is not None
    own = torch.tensor([len(embeddings), weighted], device=embeddings.device)
    all_ranks = torch.stack(_gather(own, group)).tolist()
    if any(other != weighted for _, other in all_ranks):
        given = [rank for rank, (_, other) in enumerate(all_ranks) if other]
        raise ValueError(
            f"sample_weight is given on ranks {given} of {len(all_ranks)}, "
            "expected on all or none"
        )
    counts = [rows for rows, _ in all_ranks]
    return (
        _gather_uneven(embeddings, counts, group),
        _gather_uneven(labels, counts, group),
        None if sample_weight is None else _gather_uneven(sample_weight, counts, group),
    )


def _gather_uneven(rows: Tensor, counts: list[int], group: dist.ProcessGroup) -> Tensor:
    """Gather tensors of so many rows: a collective takes those of one shape alone."""
    padded = rows.new_zeros(max(counts), *rows.shape[1:])
    padded[: len(rows)] = rows
    gathered = _gather(padded, group)
    return torch.cat([x[:n] for x, n in zip(gathered, counts, strict=True)])


def _gather(tensor: Tensor, group: dist.ProcessGroup) -> list[Tensor]:
    tensors = [torch.empty_like(tensor) for _ in range(dist.get_world_size(group))]
    dist.all_gather(tensors, tensor, group=group)
    return tensors

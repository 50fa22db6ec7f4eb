"""Process groups, and the rows of all their ranks."""

from typing import Any, Literal, TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor

from .._sharding import ranks_where
from ._batch import Batch
from ._plain import flat

GivenGroup: TypeAlias = dist.ProcessGroup | Literal["world"] | None


class Group:
    """A process group, or "world". Copies share it, and pickles leave it out."""

    def __init__(self, given: GivenGroup) -> None:
        world = isinstance(given, str) and given == "world"
        if not (given is None or world or isinstance(given, dist.ProcessGroup)):
            raise TypeError(
                f"process_group is {given!r}, expected None, 'world' or a group as "
                "from torch.distributed.new_group()"
            )
        self.given = given

    def find(self) -> dist.ProcessGroup | None:
        """Return the group; "world" only exists while PyTorch has process groups."""
        if self.given != "world":
            return self.given
        initialized = dist.is_available() and dist.is_initialized()
        return dist.group.WORLD if initialized else None

    def __deepcopy__(self, memo: dict[int, Any]) -> "Group":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Group, ("world" if self.given == "world" else None,)


_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def gather_rows(
    batch: Batch, error: Exception | None, group: dist.ProcessGroup
) -> Batch:
    """Return the flat batches of all ranks, concatenated in the order of the ranks.

    Every rank must call it, a rank with a wrong batch too: its `error` is raised there,
    and the other ranks raise a ValueError that names it. The batches may have different
    numbers of rows.
    """
    embeddings, labels, centers, sample_weight = batch
    weighted = sample_weight is not None
    own = [0, 0, 0, 0]
    if error is None:
        own = [1, _DTYPES.index(embeddings.dtype), labels.numel(), weighted]
    of_ranks = _gather(torch.tensor(own, device=embeddings.device), group)
    good, dtypes, counts, weights = zip(*(x.tolist() for x in of_ranks), strict=True)
    if error is not None:
        raise error
    if not all(good):
        raise ValueError(
            f"the batch is refused on {ranks_where([not x for x in good])}, where the "
            "error says why"
        )
    if len(set(dtypes)) > 1:
        names = [str(_DTYPES[i]) for i in dtypes]
        raise ValueError(f"embeddings have dtypes {names} on the ranks, expected one")
    if any(other != weighted for other in weights):
        raise ValueError(
            f"sample_weight is given on {ranks_where(weights)}, expected on all or none"
        )
    # all_gather needs one shape and dtype on all ranks. The conversions are exact.
    own_rows = flat(batch)
    rows = _gather_uneven(own_rows.embeddings, counts, group)
    classes = _gather_uneven(own_rows.labels.to(torch.int64), counts, group)
    gathered = Batch(rows, classes, centers, None)
    if own_rows.sample_weight is None:
        return gathered
    of_rows = _gather_uneven(own_rows.sample_weight.double(), counts, group)
    return gathered._replace(sample_weight=of_rows)


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

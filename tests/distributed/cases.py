"""Batches over several ranks: what each rank finds, and what one process computes."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from centerloss import CenterLoss
from centerloss.distributed import ShardedCenterLoss
from tests.helpers.batches import bits
from tests.helpers.oracle import BFLOAT16
from tests.helpers.thread_ranks import run_ranks

# Of features and of centers.
DTYPES = [
    ("float32", "float32"),
    ("float64", "float64"),
    ("float16", "float32"),
    ("bfloat16", "float32"),
]


class Case(NamedTuple):
    """Settings, and the batches of some ranks."""

    sizes: tuple[int, ...]  # rows of each rank
    classes: int = 30
    columns: int = 5
    dtypes: tuple[str, str] = DTYPES[0]
    weighted: bool = False
    ignored: bool = False  # are there rows to ignore?
    bad: bool = False  # are there NaN and inf?
    settings: Mapping[str, Any] = {}
    seed: int = 0

    @property
    def ranks(self):
        return len(self.sizes)

    def class_range(self, rank):
        """What a rank owns: ceil(K / P) classes, as long as there are any."""
        each = max(1, -(-self.classes // self.ranks))
        ends = [min(end * each, self.classes) for end in (rank, rank + 1)]
        return range(*ends)

    def all_settings(self):
        return {**({"ignore_index": -1} if self.ignored else {}), **self.settings}


def whole_batch(case):
    """Features, labels and weights of all ranks, and centers.

    Some classes have many rows, on several ranks; some have none.
    """
    return _whole_batch(case._replace(settings=None))


@functools.lru_cache(maxsize=4)
def _whole_batch(case):
    rng = np.random.default_rng([case.seed, *case.sizes])
    rows, (x_dtype, dtype) = sum(case.sizes), case.dtypes
    x = rng.standard_normal((rows, case.columns)) * np.exp(rng.normal(size=(rows, 1)))
    x = x.astype(BFLOAT16 if x_dtype == "bfloat16" else x_dtype)
    y = np.minimum(*rng.integers(0, case.classes, (2, rows)))
    w = np.where(rng.random(rows) < 0.2, 0.0, rng.random(rows))
    if case.bad and case.columns:
        x[3::11, 0], x[7::23, -1] = np.nan, np.inf
    if case.ignored:
        y[::5] = -1
    centers = rng.standard_normal((case.classes, case.columns)).astype(dtype)
    return x, y, w if case.weighted else None, centers


def split(case):
    """The batch of each rank."""
    x, y, w, _ = whole_batch(case)
    ends = np.cumsum(case.sizes)
    own = [slice(end - n, end) for n, end in zip(case.sizes, ends, strict=True)]
    return [(x[at], y[at], None if w is None else w[at]) for at in own]


def new_shard(case, comm, **settings):
    """A ShardedCenterLoss with the centers of the case."""
    centers = whole_batch(case)[-1]
    return ShardedCenterLoss(
        *centers.shape,
        comm,
        init=lambda first, last: centers[first:last].copy(),
        **case.all_settings(),
        **settings,
    )


def on_rank(case, over, comm):
    """Results on a rank, by name."""
    loss_fn = new_shard(case, comm, over=over)
    x, y, w = split(case)[comm.Get_rank()]
    found = {
        "call": loss_fn(x, y, w),
        "value_and_grad": loss_fn.value_and_grad(x, y, w),
    }
    for name in ("step", "update"):
        found[name] = getattr(loss_fn, name)(x, y, w)
        found[f"centers after {name}"] = loss_fn.shard.copy()
        found[f"updated by {name}"] = loss_fn.num_updated
    assert found["update"] == loss_fn.num_updated
    if not case.bad:
        found["set"] = loss_fn.init_centers(x, y)
        found["means"] = loss_fn.shard
    return found


UPDATED = ("updated by step", "update", "updated by update")


def in_one_process(case, over):
    """What each rank should find, and numbers of centers of all ranks."""
    x, y, w, centers = whole_batch(case)
    loss_fn = CenterLoss(*centers.shape, init=centers.copy(), **case.all_settings())
    batches = split(case)
    ranks = [{"value_and_grad": loss_fn.value_and_grad(*own)} for own in batches]
    moved = {}
    loss, gradient = loss_fn.step(x, y, w)
    moved["centers after step"] = loss_fn.centers.copy()
    counts = dict.fromkeys(UPDATED, loss_fn.update(x, y, w))
    moved["centers after update"] = loss_fn.centers.copy()
    if not case.bad:
        counts["set"] = loss_fn.init_centers(x, y)
        moved["means"] = loss_fn.centers
    start = 0
    for rank, found in enumerate(ranks):
        end = start + case.sizes[rank]
        if over == "all":
            own = loss[start:end] if np.ndim(loss) else loss
            found["value_and_grad"] = own, gradient[start:end]
        found["step"] = found["value_and_grad"]
        found["call"] = found["step"][0]
        at = case.class_range(rank)
        found |= {name: c[at.start : at.stop] for name, c in moved.items()}
        start = end
    return ranks, counts


def differences(case, over, found):
    """The names of the results with other bits than those of one process."""
    expected, counts = in_one_process(case, over)
    different = {name for name in counts if sum(f[name] for f in found) != counts[name]}
    for rank, of_one in zip(found, expected, strict=True):
        assert set(rank) == set(of_one) | set(counts)
        different |= {n for n in of_one if bits(rank[n]) != bits(of_one[n])}
    return sorted(different)


def differences_over_threads(case, over):
    return differences(
        case, over, run_ranks(case.ranks, functools.partial(on_rank, case, over))
    )

"""What each of four ranks makes of its rows, in groups of two and of four of them.

`isolated_ranks DIR` writes DIR/rank0.pt and so on with the results, by size of the
group and scenario. `test_distributed.py` compares them with one process that has all
rows.
"""

import itertools
import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from centerloss.torch import CenterLoss

SIZES = (2, 4)
CLASSES, ROW = 5, 7

# Number of steps, settings of the module, and settings of the batches.
CASES = {
    "float32": (20, {}, {}),
    "bfloat16, weights": (20, {}, {"dtype": torch.bfloat16, "weighted": True}),
    "ignored": (20, {"ignore_index": -1, "alpha": 0.25}, {"ignored": True}),
    "plain sums": (5, {"normalize": False, "alpha": 0.05, "reduction": "sum"}, {}),
    "float16": (5, {"reduction": "none"}, {"dtype": torch.float16}),
    "float64": (5, {"dtype": torch.float64}, {"dtype": torch.float64}),
    "gradient of weights": (5, {}, {"weighted": True, "learned": True}),
}


def rows_of(
    rank, step, dtype=torch.float32, ignored=False, weighted=False, learned=False
):
    """A rank's embeddings, labels and weights.

    In every fifth step there are few rows, and none on rank 1. Labels are skewed, so
    that a class has rows on several ranks.
    """
    size = 8 if step % 5 != 4 else (3, 0, 2, 1)[rank]
    source = torch.Generator().manual_seed(100 * step + rank)
    x = torch.randn(size, ROW, generator=source).to(dtype).requires_grad_()
    y = torch.randint(0, CLASSES - 1, (size,), generator=source)
    y = torch.minimum(y, torch.randint(0, CLASSES - 1, (size,), generator=source))
    if ignored:
        y[rank % 2 :: 3] = -1
    w = torch.rand(size, generator=source).requires_grad_(learned)
    return x, y, w if weighted else None


def whole_batch(ranks, step, **settings):
    """The rows of all ranks, in the order of the ranks."""
    return joined([rows_of(rank, step, **settings) for rank in range(ranks)])


def joined(batches):
    x, y, w = zip(*batches, strict=True)
    x = torch.cat(x).detach().requires_grad_()
    return x, torch.cat(y), None if w[0] is None else torch.cat(w).detach()


def new_loss(**settings):
    """A module with the same centers on every rank."""
    centers = torch.linspace(-1, 1, CLASSES * ROW).reshape(CLASSES, ROW)
    return CenterLoss(CLASSES, ROW, init=centers, **settings)


def train(case, rank, group):
    """Losses and gradients of some steps, and the centers at the end."""
    steps, settings, rows = CASES[case]
    loss_fn = new_loss(**settings, process_group=group)
    seen = []
    for step in range(steps):
        x, y, w = rows_of(rank, step, **rows)
        loss = loss_fn(x, y, w)
        loss.sum().backward()
        seen.append((loss.detach(), x.grad, loss_fn.num_updated))
    return {"seen": seen, "centers": loss_fn.centers}


def update(rank, group):
    """Explicit updates, in eval mode."""
    loss_fn = new_loss(process_group=group, auto_update=False).eval()
    updated = [loss_fn.update(*rows_of(rank, step)) for step in range(5)]
    return {"centers": loss_fn.centers, "updated": updated}


def centers_after(steps, rank, group=None, loss_fn=None):
    loss_fn = loss_fn or new_loss(process_group=group)
    for step in range(steps):
        loss_fn(*rows_of(rank, step))
    return loss_fn.centers


class Scaled(torch.nn.Module):
    """A network of one factor per column, and its loss."""

    def __init__(self, group):
        super().__init__()
        self.factors = torch.nn.Parameter(torch.ones(ROW))
        self.loss_fn = new_loss(process_group=group)

    def forward(self, x, y):
        return self.loss_fn(x * self.factors, y)


def train_network(model, call, rate, batches):
    """Call the model; return the centers after each step."""
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    centers = []
    for x, y, _ in batches:
        optimizer.zero_grad()
        call(x.detach(), y).backward()
        optimizer.step()
        centers.append(model.loss_fn.centers.clone())
    return centers


def in_ddp(rank, among, group, rate):
    """A network and its loss in DDP, which broadcasts the buffers of rank 0."""
    model = Scaled(group)
    ddp = DistributedDataParallel(model, process_group=among)
    batches = [rows_of(rank, step) for step in range(4)]
    centers = train_network(model, ddp, rate, batches)
    return {"centers": centers, "factors": model.factors.detach()}


# A batch with something wrong.
WRONG = {
    "label": lambda x, y, w: (x, y.index_fill(0, torch.tensor([2]), CLASSES), w),
    "weight": lambda x, y, w: (x, y, w.index_fill(0, torch.tensor([3]), -1.0)),
    "weights missing": lambda x, y, _: (x, y, None),
    "fewer labels": lambda x, y, w: (x, y[:-1], w),
    "more labels": lambda x, y, w: (x, torch.cat([y, y]), w),
    "fewer weights": lambda x, y, w: (x, y, w[:-1]),
    "wider rows": lambda _, y, w: (torch.ones(8, ROW + 1, requires_grad=True), y, w),
    "wrong dtype": lambda x, y, w: (x.detach().double().requires_grad_(), y, w),
    "other dtype": lambda x, y, w: (x.detach().bfloat16().requires_grad_(), y, w),
}


def wrong(kind, how, rank, group):
    """Rank 1 makes a mistake: what is raised here, what has changed, what follows."""
    loss_fn = new_loss(process_group=group)
    before = loss_fn.centers.clone()
    x, y, w = rows_of(rank, 0, weighted=True)
    bad = WRONG[kind](x, y, w) if rank == 1 else (x, y, w)
    raised = None
    try:
        getattr(loss_fn, how)(*bad)
    except Exception as error:
        raised = f"{type(error).__name__}: {error}"
    unchanged = torch.equal(loss_fn.centers, before)
    unchanged &= x.grad is None and loss_fn.num_updated == 0
    loss_fn(x, y, w)
    return {"raised": raised, "unchanged": unchanged, "centers": loss_fn.centers}


def other_forms(rank, group):
    """Rank 1 has the same numbers in another shape, and in other dtypes."""
    loss_fn = new_loss(process_group=group)
    x, y, w = rows_of(rank, 0, weighted=True)
    if rank == 1:
        x = x.detach().reshape(2, 4, ROW).requires_grad_()
        y, w = y.byte().reshape(2, 4), w.double().reshape(2, 4)
    loss_fn(x, y, w)
    return loss_fn.centers


def bad_rows(rank, group, skip_nonfinite):
    """Rank 1 has a row with NaN."""
    loss_fn = new_loss(process_group=group, skip_nonfinite=skip_nonfinite)
    x, y, _ = rows_of(rank, 0)
    x = x.detach()
    if rank == 1:
        x[2, 3] = torch.nan
    finite = bool(loss_fn(x.requires_grad_(), y).isfinite())
    updated = loss_fn.num_updated
    return {"finite": finite, "centers": loss_fn.centers, "updated": updated}


def scenarios(rank, group):
    """All that a group of the first ranks does."""
    results = {name: train(name, rank, group) for name in CASES}
    results["update"] = update(rank, group)
    for rate in (0.0, 0.1):
        results["ddp", rate] = in_ddp(rank, group, group, rate)
    results["trap"] = in_ddp(rank, group, None, 0.0)
    results["alone"] = centers_after(1, rank)
    for skip in (True, False):
        results["bad rows", skip] = bad_rows(rank, group, skip)
    results["other forms"] = other_forms(rank, group)
    for kind, how in itertools.product(WRONG, ("forward", "update")):
        results[kind, how] = wrong(kind, how, rank, group)
    return results


def run(rank, folder):
    torch.set_num_threads(1)
    early = new_loss(process_group="world")
    dist.init_process_group(
        "gloo",
        init_method=(folder / "store").as_uri(),
        rank=rank,
        world_size=4,
        timeout=timedelta(seconds=120),
    )
    groups = {size: dist.new_group(range(size)) for size in SIZES}
    group_of_ends = dist.new_group([3, 0])
    results = {
        size: scenarios(rank, group) for size, group in groups.items() if rank < size
    }
    if rank in (0, 3):
        results["ends"] = centers_after(5, rank, group_of_ends)
    results["world"] = centers_after(5, rank, loss_fn=early)
    torch.save(results, folder / f"rank{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    # Forks have PyTorch imported, which takes a second each; elsewhere they are unsafe.
    method = "fork" if sys.platform == "linux" else "spawn"
    mp.start_processes(run, (Path(sys.argv[1]),), nprocs=4, start_method=method)

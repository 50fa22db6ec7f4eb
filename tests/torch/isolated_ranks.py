"""What each of four ranks makes of its rows, in groups of two and of four of them.

`isolated_ranks.py DIR` leaves DIR/rank0.pt and so on with the results, by size of the
group and scenario. `test_torch_distributed.py` compares them with one process that has
all rows.
"""

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

# Number of steps, then settings of the module and of the batches.
CASES = {
    "float32": (20, {}),
    "bfloat16, weights": (20, {"embeddings": torch.bfloat16, "weighted": True}),
    "ignored": (20, {"ignore_index": -1, "alpha": 0.25}),
    "plain sums": (5, {"normalize": False, "alpha": 0.05, "reduction": "sum"}),
    "float16": (5, {"embeddings": torch.float16, "reduction": "none"}),
    "float64": (5, {"embeddings": torch.float64, "dtype": torch.float64}),
    "gradient of weights": (5, {"weighted": True, "learned": True}),
}


def rows_of(rank, step, ignored=False, weighted=False, embeddings=torch.float32):
    """A rank's embeddings, labels and weights: few in every fifth step, rank 1's none.

    Labels are skewed, so that a class has rows on several ranks.
    """
    size = 8 if step % 5 != 4 else (3, 0, 2, 1)[rank]
    source = torch.Generator().manual_seed(100 * step + rank)
    x = torch.randn(size, ROW, generator=source).to(embeddings).requires_grad_()
    y = torch.randint(0, CLASSES - 1, (size,), generator=source)
    y = torch.minimum(y, torch.randint(0, CLASSES - 1, (size,), generator=source))
    if ignored:
        y[rank % 2 :: 3] = -1
    w = torch.rand(size, generator=source)
    return x, y, w if weighted else None


def whole_batch(ranks, step, **kind):
    """The rows of all ranks, in the order of the ranks."""
    x, y, w = zip(*(rows_of(rank, step, **kind) for rank in range(ranks)), strict=True)
    x = torch.cat(x).detach().requires_grad_()
    return x, torch.cat(y), None if w[0] is None else torch.cat(w)


def loss_and_rows(settings, **more):
    """A module for a case, the same on every rank, and what its batches are like."""
    settings = dict(settings)
    learned = settings.pop("learned", False)
    kind = {
        "weighted": settings.pop("weighted", False),
        "embeddings": settings.pop("embeddings", torch.float32),
        "ignored": "ignore_index" in settings,
    }
    centers = torch.linspace(-1, 1, CLASSES * ROW).reshape(CLASSES, ROW)
    loss_fn = CenterLoss(CLASSES, ROW, init=centers.clone(), **settings, **more)
    return loss_fn, kind, learned


def train(case, rank, group):
    """Losses and gradients of some steps, and the centers at the end."""
    steps, settings = CASES[case]
    loss_fn, kind, learned = loss_and_rows(settings, process_group=group)
    seen = []
    for step in range(steps):
        x, y, w = rows_of(rank, step, **kind)
        loss = loss_fn(x, y, w.requires_grad_() if learned else w)
        loss.sum().backward()
        seen.append((loss.detach(), x.grad, loss_fn.num_updated))
    return {"seen": seen, "centers": loss_fn.centers}


def update(rank, group):
    """Moves that are asked for, in eval mode."""
    loss_fn, *_ = loss_and_rows({}, process_group=group, auto_update=False)
    loss_fn.eval()
    updated = []
    for step in range(5):
        x, y, _ = rows_of(rank, step)
        loss_fn(x, y)
        updated.append(loss_fn.update(x, y))
    return {"centers": loss_fn.centers, "updated": updated}


def ends(rank, group):
    """A group of the first rank and the last."""
    loss_fn, *_ = loss_and_rows({}, process_group=group)
    for step in range(5):
        x, y, _ = rows_of(rank, step)
        loss_fn(x, y)
    return loss_fn.centers


class Scaled(torch.nn.Module):
    """A network of one factor a column, and its loss: the same bits row by row."""

    def __init__(self, group):
        super().__init__()
        self.factors = torch.nn.Parameter(torch.ones(ROW))
        self.loss_fn, *_ = loss_and_rows({}, process_group=group)

    def forward(self, x, y):
        """Return the loss."""
        return self.loss_fn(x * self.factors, y)


def in_ddp(rank, among, group, rate):
    """A network and its loss in DDP, which hands round rank 0's buffers."""
    model = Scaled(group)
    ddp = DistributedDataParallel(model, process_group=among)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    own = []
    for step in range(4):
        x, y, _ = rows_of(rank, step)
        optimizer.zero_grad()
        ddp(x.detach(), y).backward()
        optimizer.step()
        own.append(model.loss_fn.centers.clone())
    return {"centers": own, "factors": model.factors.detach()}


def alone(rank):
    """No group and no DDP: every rank goes its own way."""
    loss_fn, *_ = loss_and_rows({})
    x, y, _ = rows_of(rank, 0)
    loss_fn(x, y)
    return loss_fn.centers


def spoiled(kind, x, y, w):
    """A batch with something wrong, on one rank alone."""
    if kind == "label":
        y = y.clone().index_fill_(0, torch.tensor([2]), CLASSES)
    if kind == "weight":
        w = w.clone().index_fill_(0, torch.tensor([3]), -1.0)
    if kind == "weights missing":
        w = None
    if kind == "fewer labels":
        y = y[:-1]
    if kind == "more labels":
        y = torch.cat([y, y])
    if kind == "fewer weights":
        w = w[:-1]
    if kind == "wider rows":
        x = torch.ones(len(x), ROW + 1, requires_grad=True)
    if kind == "wrong dtype":
        x = x.detach().double().requires_grad_()
    if kind == "other dtype":
        x = x.detach().bfloat16().requires_grad_()
    return x, y, w


def wrong(kind, how, rank, group):
    """Rank 1 makes a mistake: what is raised here, what has changed, what follows."""
    loss_fn, *_ = loss_and_rows({}, process_group=group)
    before = loss_fn.centers.clone()
    x, y, w = rows_of(rank, 0, weighted=True)
    bad = spoiled(kind, x, y, w) if rank == 1 else (x, y, w)
    raised = None
    try:
        getattr(loss_fn, how)(*bad)
    except Exception as error:
        raised = f"{type(error).__name__}: {error}"
    unchanged = torch.equal(loss_fn.centers, before)
    unchanged &= x.grad is None and loss_fn.num_updated == 0
    loss_fn(x, y, w)
    return {"raised": raised, "unchanged": unchanged, "centers": loss_fn.centers}


WRONG = [
    (kind, how)
    for kind in (
        *("label", "weight", "weights missing", "fewer labels", "more labels"),
        *("fewer weights", "wider rows", "wrong dtype", "other dtype"),
    )
    for how in ("forward", "update")
]


def other_forms(rank, group):
    """Rank 1 has the same numbers in another shape, and in other dtypes."""
    loss_fn, *_ = loss_and_rows({}, process_group=group)
    x, y, w = rows_of(rank, 0, weighted=True)
    if rank == 1:
        x, y, w = x.detach().reshape(-1, 1, ROW).requires_grad_(), y.byte(), w.double()
    loss_fn(x, y, w)
    return loss_fn.centers


def scenarios(rank, group):
    """All that a group of the first ranks does."""
    results = {name: train(name, rank, group) for name in CASES}
    results["update"] = update(rank, group)
    for rate in (0.0, 0.1):
        results["ddp", rate] = in_ddp(rank, group, group, rate)
    results["trap"] = in_ddp(rank, group, None, 0.0)
    results["alone"] = alone(rank)
    results["other forms"] = other_forms(rank, group)
    for kind, how in WRONG:
        results[kind, how] = wrong(kind, how, rank, group)
    return results


def run(rank, folder):
    torch.set_num_threads(1)
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
        results["ends"] = ends(rank, group_of_ends)
    torch.save(results, folder / f"rank{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    # Forks have PyTorch imported, which takes a second each; elsewhere they are unsafe.
    method = "fork" if sys.platform == "linux" else "spawn"
    mp.start_processes(run, (Path(sys.argv[1]),), nprocs=4, start_method=method)

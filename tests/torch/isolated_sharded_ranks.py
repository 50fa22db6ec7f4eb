"""What ranks make of their rows with `ShardedCenterLoss`, in groups of several sizes.

`isolated_sharded_ranks DIR gate` starts four ranks, which work in groups of two and of
four. They write DIR/rank0.pt and so on with the results, by size of the group and
scenario. `isolated_sharded_ranks DIR all` has more cases, and groups of one to five.
`test_sharded_ranks.py` compares them with one process that has all rows.
"""

import copy
import itertools
import pickle
import sys
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    set_model_state_dict,
)
from torch.nn.parallel import DistributedDataParallel

from centerloss.torch import CenterLoss, ShardedCenterLoss
from tests.torch import isolated_ranks as small

SIZES = {"gate": (2, 4), "all": (1, 2, 3, 4, 5)}
CLASSES = 5  # so that of four ranks the third owns one class, and the last none
ROW = 7
WHEN_FEW = (2, ROW)  # fewer classes than ranks


class Case(NamedTuple):
    over: str
    reduction: str = "mean"
    dtype: torch.dtype = torch.float32
    weighted: bool = False
    learned: bool = False  # weights that need a gradient
    bad: bool = False  # NaN and infinity in some rows
    many: bool = False  # more than the 32768 rows that are added up at once
    settings: tuple = ()

    def __str__(self):
        flags = ("weighted", "learned", "bad", "many")
        given = [name for name in flags if getattr(self, name)]
        return ", ".join([self.over, self.reduction, str(self.dtype)[6:], *given])

    def new(self, make, **given):
        """A loss of this case."""
        wide = self.dtype is torch.float64
        given |= {"reduction": self.reduction, **dict(self.settings)}
        return make(dtype=self.dtype if wide else torch.float32, **given)


SUMS = (("normalize", False), ("alpha", 0.05), ("ignore_index", -1))
COUNTED = (("skip_nonfinite", False),)
IGNORED = (("ignore_index", -1), ("loss_weight", 0.3))
GATE = [
    Case("all", dtype=torch.float64, weighted=True, many=True, settings=IGNORED),
    Case("rank", dtype=torch.float64, many=True),
    Case("all", dtype=torch.bfloat16, settings=IGNORED),
    Case("rank", dtype=torch.float16, weighted=True, settings=IGNORED),
    Case("all", "sum", settings=SUMS),
    Case("all", "none", torch.float64, weighted=True),
    Case("all", bad=True),
    Case("rank", bad=True, settings=COUNTED),
    Case("all", dtype=torch.float64, weighted=True, learned=True, settings=IGNORED),
    Case("rank", dtype=torch.float64, weighted=True, learned=True),
]
ALL = [
    Case(over, reduction, dtype, weighted, bad=bad, many=many, settings=settings)
    for over, reduction, dtype, weighted, (bad, many, settings) in itertools.product(
        ("rank", "all"),
        ("mean", "sum", "none"),
        (torch.float32, torch.float64, torch.float16, torch.bfloat16),
        (False, True),
        (
            (False, False, IGNORED),
            (False, True, ()),
            (True, False, SUMS),
            (True, True, COUNTED),
        ),
    )
]
CASES = {"gate": GATE, "all": GATE + ALL}
STEPS = 3


def rows_of(case, rank, step):
    """A rank's embeddings, labels and weights; some ranks have few rows, or none."""
    sizes = ((20, 3, 0, 9, 1), (0, 11, 30, 0, 2), (1, 0, 5, 40, 7))[step]
    if case.many and step == 1:
        sizes = (33_000, 1024, 0, 2000, 500)
    size = sizes[rank]
    source = torch.Generator().manual_seed(100 * step + rank)
    x = torch.randn(size, ROW, generator=source, dtype=torch.float64)
    if case.bad and size > 2:
        x[1, 2], x[2, 0] = torch.nan, torch.inf
    y = torch.randint(0, CLASSES, (size,), generator=source)
    if dict(case.settings).get("ignore_index") is not None:
        y[rank % 2 :: 3] = -1
    w = torch.rand(size, generator=source).requires_grad_(case.learned)
    return x.to(case.dtype).requires_grad_(), y, w if case.weighted else None


def first_centers(dtype=torch.float32, shape=(CLASSES, ROW)):
    n = shape[0] * shape[1]
    return torch.linspace(-1, 1, n, dtype=torch.float64).reshape(shape).to(dtype)


def plain(dtype=torch.float32, shape=(CLASSES, ROW), **settings):
    return CenterLoss(*shape, init=first_centers(dtype, shape), **settings)


def sharded(group=None, dtype=torch.float32, shape=(CLASSES, ROW), **settings):
    centers = first_centers(dtype, shape)
    return ShardedCenterLoss(
        *shape,
        process_group=group,
        init=lambda first, last: centers[first:last],
        **settings,
    )


def shard_of(loss_fn):
    """The first class of a shard, and the shard."""
    return loss_fn.class_range.start, loss_fn.shard.clone()


def train(case, rank, group):
    """Losses and gradients of some steps; the shard at the end, and in eval mode."""

    def new(dtype, **settings):
        return sharded(group, dtype, **settings)

    loss_fn = case.new(new, over=case.over)
    seen = []
    for step in range(STEPS):
        x, y, w = rows_of(case, rank, step)
        loss = loss_fn(x, y, w)
        loss.sum().backward()
        of_weights = w.grad if case.learned else None
        seen.append((loss.detach(), x.grad, of_weights, loss_fn.num_updated))
    first, shard = shard_of(loss_fn)
    last = loss_fn.eval()(*rows_of(case, rank, 0)).detach()
    same = torch.equal(shard.nan_to_num(), loss_fn.shard.nan_to_num())
    return {"seen": seen, "shard": (first, shard), "last": last, "stayed": same}


def update(rank, group):
    """Explicit updates, in eval mode; how many centers each moves."""
    case = GATE[0]
    loss_fn = sharded(group, torch.float64, ignore_index=-1, auto_update=False).eval()
    updated = [loss_fn.update(*rows_of(case, rank, step)) for step in range(STEPS)]
    return {"shard": shard_of(loss_fn), "updated": updated}


def batches_of(rank):
    """Different numbers of batches for `init_centers`, and none for rank 1."""
    return [rows_of(GATE[0], rank, step)[:2] for step in range((3, 0, 1, 2, 1)[rank])]


def class_means(rank, group):
    loss_fn = sharded(group, torch.float64, ignore_index=-1)
    count = loss_fn.init_centers(iter(batches_of(rank)))
    return {"shard": shard_of(loss_fn), "count": count}


def normal_centers(group):
    return shard_of(ShardedCenterLoss(9000, 2, process_group=group, seed=3))


# --- inside of other programs --------------------------------------------------------


class Scaled(torch.nn.Module):
    """A network of one factor per column, and its loss if it is inside."""

    def __init__(self, loss_fn=None):
        super().__init__()
        self.factors = torch.nn.Parameter(torch.ones(ROW))
        self.loss_fn = loss_fn

    def forward(self, x, y):
        embeddings = x * self.factors
        return embeddings if self.loss_fn is None else self.loss_fn(embeddings, y)


def train_network(loss_of, parameters, rate, batches, factor=1):
    optimizer = torch.optim.SGD(parameters, lr=rate)
    for x, y, _ in batches:
        optimizer.zero_grad()
        (factor * loss_of(x.detach(), y)).backward()
        optimizer.step()


def in_ddp(rank, group, where, rate, wrap):
    """A network in DDP, with the loss inside or outside of it."""
    loss_fn = sharded(group, over="all")
    model = Scaled(loss_fn if where == "inside" else None)
    wrapped = wrap(model, group)

    def loss_of(x, y):
        out = wrapped(x, y)
        return out if where == "inside" else loss_fn(out, y)

    ranks = dist.get_world_size(group)
    batches = [small.rows_of(rank, step) for step in range(4)]
    train_network(loss_of, wrapped.parameters(), rate, batches, factor=ranks)
    factors = model.factors.detach()
    if hasattr(factors, "full_tensor"):
        factors = factors.full_tensor()
    return {"shard": shard_of(loss_fn), "factors": factors}


def with_ddp(model, group):
    return DistributedDataParallel(model, process_group=group)


def with_fsdp(model, group):
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.fsdp import fully_shard

    return fully_shard(model, mesh=DeviceMesh.from_group(group, "cpu"))


def state_of_a_model_in_ddp(group):
    """All centers on rank 0, as a tensor; and the state loaded again."""
    model = with_ddp(Scaled(sharded(group)), group)
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    full = get_model_state_dict(model, options=options)
    state = get_model_state_dict(model)
    other = with_ddp(Scaled(sharded(group, alpha=0.25)), group)
    other.module.loss_fn.shard.zero_()
    # PyTorch adds the prefix of DDP to names of parameters and buffers only.
    set_model_state_dict(other.module, state)
    return {
        "keys": sorted(state),
        "full": full.get("loss_fn.centers"),
        "shard": shard_of(other.module.loss_fn),
    }


# --- faults --------------------------------------------------------------------------


def raised_by(call, *given):
    try:
        call(*given)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def call_of(loss_fn, how):
    return loss_fn if how == "forward" else getattr(loss_fn, how)


def in_mode(name, value):
    def make(loss_fn, batch, _):
        setattr(loss_fn, name, value)
        return loss_fn, batch

    return make


def other_sizes(_, batch, group):
    return sharded(group, shape=(CLASSES + 1, ROW)), batch


# What another rank calls, and with what.
DIFFERENT = {
    "alpha": in_mode("alpha", 0.25),
    "over": in_mode("over", "all"),
    "two settings": lambda loss_fn, batch, _: in_mode("normalize", False)(
        in_mode("ignore_index", 3)(loss_fn, batch, _)[0], batch, _
    ),
    "wrong setting": in_mode("alpha", -1.0),
    "eval": lambda loss_fn, batch, _: (loss_fn.eval(), batch),
    "no_grad": lambda loss_fn, batch, _: (torch.no_grad()(loss_fn), batch),
    "update": lambda loss_fn, batch, _: (loss_fn.update, batch),
    "classes": other_sizes,
}


def wrong(kind, how, rank, group):
    """Rank 1 makes a mistake: what is raised here, what has changed, what follows."""
    loss_fn = sharded(group)
    before = loss_fn.shard.clone()
    batch = small.rows_of(rank, 0, weighted=True)
    call, given = call_of(loss_fn, how), batch
    if rank == 1 and kind in DIFFERENT:
        copied = copy.copy(loss_fn)
        call, given = DIFFERENT[kind](copied, batch, group)
        call = call_of(call, how) if isinstance(call, ShardedCenterLoss) else call
    elif rank == 1:
        given = small.WRONG[kind](*batch)
    raised = raised_by(call, *given)
    unchanged = torch.equal(loss_fn.shard, before)
    unchanged &= batch[0].grad is None and loss_fn.num_updated == 0
    loss_fn(*batch)
    return {"raised": raised, "unchanged": unchanged, "shard": shard_of(loss_fn)}


def wrong_means(rank, group):
    """Rank 1 forgets the labels, or has a wrong second batch."""
    loss_fn = sharded(group)
    x, y, _ = small.rows_of(rank, 0)
    bad = [(x,), ([(x, y), (x, y + CLASSES)],)]
    good = [(x, y), ([(x, y)] * 3,)]
    results = [
        raised_by(loss_fn.init_centers, *given)
        for given in (bad if rank == 1 else good)
    ]
    return {"raised": results, "shard": shard_of(loss_fn)}


def fail(*_, **__):
    raise MemoryError("no memory left")


def failed_move(rank, group, folder):
    """Rank 1 cannot move its centers; all have to load a checkpoint."""
    loss_fn = sharded(group)
    batch = small.rows_of(rank, 0)
    name = f"failed-{dist.get_world_size(group)}"
    loss_fn.save(folder / name)
    broken = "centerloss.torch._cpu.update_centers_at"
    with mock.patch(broken, fail) if rank == 1 else mock.patch.dict({}):
        raised = [raised_by(loss_fn, *batch)]
    raised += [raised_by(loss_fn, *batch), raised_by(loss_fn.update, *batch)]
    loss_fn.load(folder / name)
    loss_fn(*batch)
    return {"raised": raised, "shard": shard_of(loss_fn)}


def failed_save(rank, group, folder):
    """Rank 1 cannot write; the earlier checkpoint stays."""
    loss_fn = sharded(group)
    name = folder / f"unsaved-{dist.get_world_size(group)}"
    loss_fn.save(name)
    before = shard_of(loss_fn)
    loss_fn(*small.rows_of(rank, 0))
    broken = "centerloss._folders.write_part"
    with mock.patch(broken, fail) if rank == 1 else mock.patch.dict({}):
        raised = raised_by(loss_fn.save, name)
    loss_fn.load(name)
    return {"raised": raised, "same": torch.equal(loss_fn.shard, before[1])}


# --- checkpoints ---------------------------------------------------------------------


def trained(rank, group, shape=(CLASSES, ROW)):
    """A module after some steps; the labels are those of the first two classes."""
    loss_fn = sharded(group, shape=shape, alpha=0.25)
    for step in range(STEPS):
        x, y, _ = rows_of(GATE[2], rank, step)
        loss_fn(x.detach().float(), y.clamp(0, 1))
    return loss_fn


def save_checkpoints(rank, group, folder):
    size = dist.get_world_size(group)
    saved = {}
    for shape in ((CLASSES, ROW), WHEN_FEW):
        loss_fn = trained(rank, group, shape)
        name = f"{shape[0]}-of-{size}"
        loss_fn.save(folder / f"folder-{name}")
        state = {"loss_fn": loss_fn.state_dict()}
        dcp.save(state, checkpoint_id=folder / f"dcp-{name}", process_group=group)
        saved[shape] = shard_of(loss_fn)
    return saved


def load_checkpoints(group, folder, sizes):
    """What other numbers of ranks have saved, and a plain CenterLoss."""
    loaded = {}
    for shape, size in itertools.product(((CLASSES, ROW), WHEN_FEW), sizes):
        name = f"{shape[0]}-of-{size}"
        loss_fn = sharded(group, shape=shape)
        loss_fn.load(folder / f"folder-{name}")
        loaded["folder", shape, size] = (*shard_of(loss_fn), loss_fn.alpha)
        loss_fn = sharded(group, shape=shape)
        state = {"loss_fn": loss_fn.state_dict()}
        dcp.load(state, checkpoint_id=folder / f"dcp-{name}", process_group=group)
        loss_fn.load_state_dict(state["loss_fn"])
        loaded["dcp", shape, size] = shard_of(loss_fn)
    loss_fn = sharded(group)
    state = loss_fn.state_dict()
    dcp.load(state, checkpoint_id=folder / "dcp-plain", process_group=group)
    loaded["plain"] = shard_of(loss_fn)
    whole = first_centers() + 5
    loss_fn.load_state_dict({"centers": whole})
    loaded["whole"] = shard_of(loss_fn)
    return loaded


# --- what is exchanged ---------------------------------------------------------------

WIDE = 16  # features
ROWS, PER_OWNER = 60, 10


@contextmanager
def counting(group):
    """Count collectives, and the bytes that come from other ranks."""
    rank, size = dist.get_rank(group), dist.get_world_size(group)
    real, counts = dist.all_to_all_single, [0, 0]

    def exchange(received, sent, received_counts=None, *rest, **options):
        own = received_counts[rank] if received_counts else len(sent)
        own = own if received_counts else received.numel() // size
        counts[0] += 1
        counts[1] += 8 * (received.numel() - own)
        return real(received, sent, received_counts, *rest, **options)

    with mock.patch.object(dist, "all_to_all_single", exchange):
        yield counts


def traffic(rank, group):
    """Collectives and bytes of calls, if every owner gets as many rows from each."""
    size, result = dist.get_world_size(group), {}
    for over, weighted, dtype in (
        ("rank", False, torch.float32),
        ("rank", True, torch.bfloat16),
        ("all", True, torch.float32),
    ):
        loss_fn = ShardedCenterLoss(
            PER_OWNER * size, WIDE, process_group=group, over=over
        )
        source = torch.Generator().manual_seed(rank)
        x = torch.randn(ROWS, WIDE, generator=source).to(dtype).requires_grad_()
        place = torch.arange(ROWS)
        y = place % size * PER_OWNER + place // size % PER_OWNER
        given = (x, y, torch.ones(ROWS) if weighted else None)
        for call in ("step", "eval", "update"):
            loss_fn.train(call == "step")
            with counting(group) as counts:
                (loss_fn.update if call == "update" else loss_fn)(*given)
            distinct = len(y.unique())
            result[over, dtype, call] = (*counts, distinct)
    return result


# --- all of it -----------------------------------------------------------------------


def scenarios(rank, group, folder, level):
    """All that a group of the first ranks does, but for loading checkpoints."""
    results = {}
    for number, case in enumerate(CASES[level]):
        results["case", number] = train(case, rank, group)
    results["update"] = update(rank, group)
    results["means"] = class_means(rank, group)
    results["normal"] = normal_centers(group)
    for where, rate in itertools.product(("inside", "outside"), (0.0, 0.1)):
        results["ddp", where, rate] = in_ddp(rank, group, where, rate, with_ddp)
    results["state"] = state_of_a_model_in_ddp(group)
    results["traffic"] = traffic(rank, group)
    if dist.get_world_size(group) > 1:
        for kind in (*small.WRONG, *DIFFERENT):
            results["wrong", kind] = wrong(kind, "forward", rank, group)
        for kind in ("label", "alpha", "weights missing"):
            results["wrong update", kind] = wrong(kind, "update", rank, group)
        results["wrong means"] = wrong_means(rank, group)
        results["failed move"] = failed_move(rank, group, folder)
        results["failed save"] = failed_save(rank, group, folder)
    results["saved"] = save_checkpoints(rank, group, folder)
    return results


def other_groups(rank, groups, early):
    """The default group, a group of the first and last rank, and wrong groups."""
    results = {}
    ends = dist.new_group([3, 0])
    for name, group in (("ends", ends), ("world", None), ("named", "world")):
        if name == "ends" and rank not in (0, 3):
            continue
        loss_fn = sharded(group, over="all")
        for step in range(2):
            loss = loss_fn(*small.rows_of(rank, step))
        results[name] = {"loss": loss.detach(), "shard": shard_of(loss_fn)}
    batch = small.rows_of(rank, 0)
    results["early"] = [raised_by(early, *batch), raised_by(early.state_dict)]
    if rank >= 2:
        results["no member"] = raised_by(sharded, groups[2])
    if rank < 2:
        of_two, of_four = sharded(groups[2]), sharded()
        results["other mesh"] = raised_by(of_four.load_state_dict, of_two.state_dict())
        pickled = pickle.loads(pickle.dumps(of_two))
        results["pickled"] = raised_by(pickled, *batch)
        copied = copy.deepcopy(of_two)
        copied(*batch)
        results["copied"] = {"shard": shard_of(copied)}
        again = pickle.loads(pickle.dumps(of_four))
        results["again"] = again.class_range == of_four.class_range
    return results


def run(rank, folder, level):
    torch.set_num_threads(1)
    early = sharded()
    sizes = SIZES[level]
    dist.init_process_group(
        "gloo",
        init_method=(folder / "store").as_uri(),
        rank=rank,
        world_size=max(sizes),
        timeout=timedelta(seconds=120),
    )
    groups = {size: dist.new_group(range(size)) for size in sizes}
    mine = {size: group for size, group in groups.items() if rank < size}
    results = {
        size: scenarios(rank, group, folder, level) for size, group in mine.items()
    }
    if level == "gate":
        results["groups"] = other_groups(rank, groups, early)
    else:
        for size, group in mine.items():
            fsdp = in_ddp(rank, group, "inside", 0.1, with_fsdp)
            results[size]["fsdp"] = fsdp
    dist.barrier()
    for size, group in mine.items():
        results[size]["loaded"] = load_checkpoints(group, folder, sizes)
    torch.save(results, folder / f"rank{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    where, chosen = Path(sys.argv[1]), sys.argv[2]
    other = plain()
    other.centers += 3
    dcp.save(other.state_dict(), checkpoint_id=where / "dcp-plain", no_dist=True)
    # Forks have PyTorch imported, which takes a second each; elsewhere they are unsafe.
    method = "fork" if sys.platform == "linux" else "spawn"
    mp.start_processes(
        run, (where, chosen), nprocs=max(SIZES[chosen]), start_method=method
    )

"""What two ranks make of a block of docs/frameworks.md, or of a program of this file.

`isolated_frameworks NAME DIR` writes their results to DIR/rank0.pt and DIR/rank1.pt.
`test_frameworks.py` compares them.
"""

import contextlib
import functools
import io
import os
import re
import socket
import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from centerloss.torch import CenterLoss

PAGE = (Path(__file__).parents[2] / "docs" / "frameworks.md").read_text("utf-8")
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S))
BLOCKS = {
    name: block
    for name, text in SECTIONS.items()
    for block in re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
}


def run_block(section):
    """Run the block of a section, compare what it prints, and return its variables."""
    torch.manual_seed(0)
    variables, printed = {"__name__": __name__}, io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(BLOCKS[section], section, "exec"), variables)
    expected = re.findall(r"^print\(.*\)  # (.*)$", BLOCKS[section], re.M)
    assert expected
    lines = printed.getvalue().splitlines()  # of the framework, too
    assert lines[-len(expected) :] == expected, lines
    return variables


# What holds a process group: freed after it, it may deadlock (pytorch issue 56297).
ALIVE = []


def rows_and_centers(section):
    """Embeddings and labels of this rank in a block, and the centers at the end."""
    variables = run_block(section)
    ALIVE.append(variables)
    centers = variables["center_loss"].centers
    return variables["embeddings"].detach(), variables["labels"], centers


class Model(nn.Module):
    """A network with both losses inside, and with a layer that takes no part."""

    def __init__(self):
        super().__init__()
        self.network, self.classifier = nn.Linear(20, 8), nn.Linear(8, 10)
        self.unused = nn.Linear(2, 2)
        self.center_loss = CenterLoss(10, 8, loss_weight=0.1, process_group="world")

    def forward(self, inputs, labels):
        embeddings = self.network(inputs)
        loss = F.cross_entropy(self.classifier(embeddings), labels)
        return loss + self.center_loss(embeddings, labels)


def new_model():
    """The same model in every process."""
    torch.manual_seed(0)
    return Model()


def rows_of(step, rank):
    """A rank's inputs and labels; each class has rows on both ranks."""
    source = torch.Generator().manual_seed(2 * step + rank)
    return torch.randn(20, 20, generator=source), torch.arange(20) % 10


def train(model, call, rows, passes=1):
    """Four steps of SGD, with so many forward passes each."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(4):
        optimizer.zero_grad()
        sum(call(*rows(passes * step + i)) for i in range(passes)).backward()
        optimizer.step()
    return model.center_loss.centers, model.network.weight.detach()


def in_ddp(passes=1, **settings):
    """Centers and weights after a training with the loss inside of the wrapper."""
    dist.init_process_group("gloo")
    model = new_model()
    model.unused.requires_grad_("find_unused_parameters" in settings)
    rows = functools.partial(rows_of, rank=dist.get_rank())
    wrapped = DistributedDataParallel(model, **settings)
    ALIVE.append(wrapped)
    return train(model, wrapped, rows, passes)


def with_a_bad_row(bad, steps, guarded_step, dtype):
    """At step 3, a row of rank 1 is multiplied by `bad`: which steps are lost?"""
    dist.init_process_group("gloo")
    model = new_model()
    model.unused.requires_grad_(False)
    wrapped = DistributedDataParallel(model)
    ALIVE.append(wrapped)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    lost = []
    for step in range(steps):
        inputs, labels = rows_of(step, dist.get_rank())
        if step == 3 and dist.get_rank() == 1:
            inputs[0] *= bad
        before = model.network.weight.detach().clone()
        with torch.autocast("cpu", dtype, enabled=dtype is torch.float16):
            loss = wrapped(inputs, labels)
        optimizer.zero_grad()
        guarded_step(loss, optimizer)
        if torch.equal(model.network.weight, before):
            lost.append(step)
    return lost, model.center_loss.centers, model.network.weight.detach()


def step_of_a_scaler():
    """A function that leaves out steps whose gradients are not finite on a rank."""
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)

    def step(loss, optimizer):
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    return step


def step_if_all_losses_are_finite(loss, optimizer):
    total = loss.detach().clone()
    dist.all_reduce(total)
    if total.isfinite():
        loss.backward()
        optimizer.step()


def scaler():
    return with_a_bad_row(1e6, 30, step_of_a_scaler(), torch.float16)


def guard():
    step = step_if_all_losses_are_finite
    return with_a_bad_row(torch.nan, 100, step, torch.float32)


def in_lightning(precision):
    """Centers and weights of the page's model after one batch of ten rows a rank."""
    definitions, _, rest = BLOCKS["Lightning"].partition("data = ")
    assert rest
    variables = {"__name__": "page"}
    exec(definitions, variables)
    torch.manual_seed(0)
    model = variables["Model"]()
    trainer = variables["lightning"].Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        max_epochs=1,
        precision=precision,
        logger=False,
        enable_checkpointing=False,
    )
    data = torch.utils.data.TensorDataset(*rows_of(0, 0))
    ALIVE.append(trainer)
    trainer.fit(model, torch.utils.data.DataLoader(data, batch_size=10))
    return model.center_loss.centers, model.network.weight.detach()


PROGRAMS = {
    "DistributedDataParallel": functools.partial(
        rows_and_centers, "DistributedDataParallel"
    ),
    "FSDP2": functools.partial(rows_and_centers, "FSDP2"),
    "DDP": in_ddp,
    "static_graph": functools.partial(in_ddp, static_graph=True),
    "find_unused_parameters": functools.partial(in_ddp, find_unused_parameters=True),
    "two passes": functools.partial(in_ddp, 2),
    "scaler": scaler,
    "guard": guard,
    "Lightning, 32-true": functools.partial(in_lightning, "32-true"),
    "Lightning, bf16-true": functools.partial(in_lightning, "bf16-true"),
}


def run(rank, name, folder, port):
    """Run a program in the environment that torchrun makes."""
    torch.set_num_threads(1)
    variables = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2}
    variables |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({key: str(value) for key, value in variables.items()})
    torch.save(PROGRAMS[name](), folder / f"rank{rank}.pt")
    os._exit(0)  # frees nothing


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


if __name__ == "__main__":
    # Forks have PyTorch imported, which takes a second each; elsewhere they are unsafe.
    method = "fork" if sys.platform == "linux" else "spawn"
    arguments = (sys.argv[1], Path(sys.argv[2]), free_port())
    mp.start_processes(run, arguments, nprocs=2, start_method=method)

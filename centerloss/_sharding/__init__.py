"""Centers in shards over several processes: what the processes exchange.

Each of P ranks owns a block of the classes, and has rows of its own in every call. The
batches of the ranks, one after another, are the whole batch; the place of a row is its
index there. A call makes at most four exchanges, each one a message from every rank to
every other:

1. headers: settings and sizes. If a rank refuses its batch, or the ranks do not agree,
   the call ends here on all of them, and nothing has changed.
2. the classes of the rows, to their owners.
3. the centers of these classes, back. Loss and gradient are then computed from them.
4. the rows, to the owners, which update the centers. They add up the rows of a class in
   the order of their places, as a single process would.

The loss of the whole batch is a sum over the rows of all ranks. What it takes is
appended to the messages of exchanges 2 and 4: the sums of complete runs of values, and
the values of incomplete runs.

A message consists of words of 64 bits, which an `Engine` exchanges. Everything here is
NumPy: `centerloss.distributed` adds MPI, and `centerloss.torch` adds PyTorch.
"""

from .blocks import Blocks, Rows, counted_labels, normal_rows
from .call import Received
from .engine import Engine, OneProcess, Words
from .headers import ranks_where
from .shards import ArrayShard, Shard, Shards, check_init, check_over, total_loss

__all__ = [
    "ArrayShard",
    "Blocks",
    "Engine",
    "OneProcess",
    "Received",
    "Rows",
    "Shard",
    "Shards",
    "Words",
    "check_init",
    "check_over",
    "counted_labels",
    "normal_rows",
    "ranks_where",
    "total_loss",
]

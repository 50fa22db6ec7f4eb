"""What two ranks of three raise, and when, if rank 1 is killed or stands still.

`isolated_lost_rank DIR killed` and `isolated_lost_rank DIR still` print it.
"""

import os
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from tests.torch import isolated_ranks as small
from tests.torch.isolated_sharded_ranks import sharded

TIMEOUT = 5  # seconds


def run(rank, folder, how):
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=(folder / "store").as_uri(),
        rank=rank,
        world_size=3,
        timeout=timedelta(seconds=TIMEOUT),
    )
    loss_fn = sharded()
    try:
        for step in range(2):
            start = time.monotonic()
            loss_fn(*small.rows_of(rank, step))
            if rank == 1:
                time.sleep(3 * TIMEOUT if how == "still" else 0)
                os.kill(os.getpid(), signal.SIGKILL)
    except Exception as error:
        seconds = time.monotonic() - start
        text = str(error).splitlines()[0]
        name = type(error).__name__
        print(f"rank {rank} after {seconds:.2f} s: {name}: {text}", flush=True)
    os._exit(0)


if __name__ == "__main__":
    processes = [
        mp.get_context("fork").Process(target=run, args=(rank, Path(sys.argv[1]), how))
        for rank in range(3)
        for how in sys.argv[2:]
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()

"""Ranks as threads of this process, with the calls of mpi4py's communicators.

A communicator counts the collectives that its rank takes part in, and the bytes that
the rank receives from the others.
"""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np

WAIT = 30  # seconds until a rank that is left alone raises an error

_thread = threading.local()


def this_rank():
    """The rank of the thread; None outside of `run_ranks`."""
    return getattr(_thread, "rank", None)


class ThreadComm:
    """What `centerloss.distributed` uses of a communicator."""

    def __init__(self, rank, barrier, sent):
        self._rank, self._barrier, self._sent = rank, barrier, sent
        self.collectives = self.bytes_received = 0

    def Get_rank(self):
        return self._rank

    def Get_size(self):
        return len(self._sent)

    def Alltoall(self, send, receive):
        counts = [send.size // self.Get_size()] * self.Get_size()
        self.Ialltoallv([send, counts], [receive, counts]).Wait()

    def Ialltoallv(self, send, receive):
        words, counts = send
        assert sum(counts) == words.size
        self._sent[self._rank] = np.split(words.reshape(-1), np.cumsum(counts)[:-1])
        self._barrier.wait()
        result, expected = receive
        parts = [of_rank[self._rank] for of_rank in self._sent]
        assert [part.size for part in parts] == list(expected)
        np.concatenate(parts, out=result.reshape(-1))
        self._barrier.wait()
        self.collectives += 1
        self.bytes_received += result.nbytes - parts[self._rank].nbytes
        return self

    def Wait(self):
        pass


def run_ranks(size, function):
    """Call function(comm) on ranks 0 to size - 1; return what they return, or raise."""
    barrier, sent = threading.Barrier(size, timeout=WAIT), [None] * size

    def on_rank(rank):
        _thread.rank = rank
        try:
            return function(ThreadComm(rank, barrier, sent))
        except BaseException:
            barrier.abort()  # the others raise BrokenBarrierError
            raise

    with ThreadPoolExecutor(size) as pool:
        futures = [pool.submit(on_rank, rank) for rank in range(size)]
    for future in futures:
        error = future.exception()
        if error and not isinstance(error, threading.BrokenBarrierError):
            raise error
    return [future.result() for future in futures]

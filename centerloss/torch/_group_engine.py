"""The exchange of words among the ranks of a process group."""

from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from .._sharding import Engine, OneProcess, Words


class GroupEngine:
    """The engine of a process group. Words are moved to its device, such as a GPU."""

    def __init__(self, group: dist.ProcessGroup) -> None:
        self._group = group
        self._device = _device_of(group)
        self.rank = dist.get_rank(group)
        self.size = dist.get_world_size(group)

    def exchange(self, words: Words) -> Words:
        sent = torch.from_numpy(words).to(self._device)
        received = torch.empty_like(sent)
        dist.all_to_all_single(received, sent, group=self._group)
        return _array(received)

    def start(
        self, words: Words, sent: Sequence[int], received: Sequence[int]
    ) -> Callable[[], Words]:
        to_send = torch.from_numpy(words).to(self._device)
        result = to_send.new_empty(sum(received))
        work = dist.all_to_all_single(
            result, to_send, list(received), list(sent), self._group, async_op=True
        )

        def wait() -> Words:
            work.wait()
            return _array(result)

        return wait


def engine_of(group: dist.ProcessGroup | None) -> Engine:
    return OneProcess() if group is None else GroupEngine(group)


def _device_of(group: dist.ProcessGroup) -> torch.device:
    """Return the CPU, or the device of a group that cannot exchange its tensors."""
    backends = str(dist.get_backend_config(group))  # such as "cpu:gloo,cuda:nccl"
    devices = [part.split(":")[0] for part in backends.split(",")]
    return torch.device("cpu" if "cpu" in devices else devices[0])


def _array(tensor: Tensor) -> Words:
    array: Words = tensor.cpu().numpy()
    return array

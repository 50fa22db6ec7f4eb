"""The implementations whose libraries, or compiler, are installed."""

from importlib.util import find_spec

from .peers.base import Centerloss, Peer
from .peers.by_hand import ByHand, find_compiler
from .peers.numpy import AddAt, ReduceAt


def step_peers() -> dict[str, type[Peer]]:
    """Return the implementations of a step by name, centerloss first."""
    peers: list[type[Peer]] = [Centerloss]
    if find_compiler():
        peers.append(ByHand)
    peers += [AddAt, ReduceAt]
    if find_spec("numba"):
        from .peers.numba import Loop

        peers.append(Loop)
    if find_spec("torch"):
        from .peers.torch import Dense, Sparse

        peers += [Dense, Sparse]
    return {peer.name: peer for peer in peers}


def training_peers(networks: bool = False) -> dict:
    """Return the implementations of a training step by name, centerloss first.

    Those with a network around the loss are included if `networks`.
    """
    if not find_spec("torch"):
        return {}
    from .peers import training

    peers = [training.Centerloss, training.Compiled]
    if find_spec("pytorch_metric_learning"):
        peers.append(training.MetricLearning)
    peers += [training.Dense, training.Sparse]
    if networks:
        peers += [training.Network, training.CompiledNetwork]
    return {peer.name: peer for peer in peers}

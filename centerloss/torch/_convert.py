"""Centers from the checkpoints of other implementations."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor

Keys: TypeAlias = tuple[Any, ...]  # that lead to a tensor

TENSOR_NAMES = ("centers", "center", "centroids")
SHOWN = 8  # tensors that a message lists at most


def convert_state_dict(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Find the centers in another center loss's checkpoint, for `load_state_dict`.

    Most implementations keep them as a parameter named ``centers``, by itself or inside
    a larger model; some as the weight of an `torch.nn.Embedding`. Their rates and loss
    weights have other meanings; the page "Which center loss?" of the documentation
    converts them.

    Parameters
    ----------
    state : mapping of str to Tensor
        A checkpoint, as from ``state_dict()`` or `torch.load`. It may hold other
        mappings, as in ``{"model": model.state_dict(), "epoch": 3}``. The state of an
        optimizer, which has the key "param_groups", is left out.

    Returns
    -------
    dict
        The key "centers" with a tensor of shape (K, D): in float64 if the checkpoint
        has float64, else in float32.

    Raises
    ------
    TypeError
        If ``state`` is not a mapping.
    ValueError
        If there is not exactly one two-dimensional tensor that is named ``centers``,
        ``center`` or ``centroids``, or is the ``weight`` of a module of that name;
        if there is none, that is in a module whose name contains ``center_loss``.
        Prefixes such as ``module.`` are allowed.

    Examples
    --------
    >>> import torch
    >>> from centerloss.torch import CenterLoss, convert_state_dict
    >>> model = {"fc.bias": torch.ones(3), "loss.centers": torch.ones(10, 2)}
    >>> checkpoint = {"state_dict": model, "epoch": 3}
    >>> loss_fn = CenterLoss(10, 2)
    >>> loss_fn.load_state_dict(convert_state_dict(checkpoint))
    <All keys matched successfully>
    """
    if not isinstance(state, Mapping):
        kind = type(state).__name__
        raise TypeError(f"state is a {kind}, expected a dict as from state_dict()")
    tensors = dict(_tensors(state))
    named = {keys: value for keys, value in tensors.items() if _is_name(keys)}
    inside = {keys: value for keys, value in tensors.items() if _is_in_a_loss(keys)}
    found = _tables(named) or _tables(inside)
    if not found:
        has = _listed(named or inside or tensors)
        raise ValueError(
            f"state has no centers; it has {has}. Expected one tensor of shape "
            "(classes, features) named 'centers', 'center', 'centroids' or "
            "'centers.weight', or in a module 'center_loss'. If the centers have "
            "another name, pass {'centers': tensor}"
        )
    if len(found) > 1:
        raise ValueError(
            f"state has {len(found)} tensors that may be the centers: "
            f"{_listed(found)}. Pass {{'centers': tensor}} with one of them"
        )
    (centers,) = found.values()
    centers = centers.detach()
    wide = centers.dtype is torch.float64
    return {"centers": centers if wide else centers.float()}


def _tensors(
    state: Mapping[str, Any], keys: Keys = ()
) -> Iterator[tuple[Keys, Tensor]]:
    """Yield the tensors in a checkpoint and the keys that lead to them."""
    if "param_groups" in state:  # an optimizer's
        return
    for key, value in state.items():
        if isinstance(value, Tensor):
            yield (*keys, key), value
        elif isinstance(value, Mapping):
            yield from _tensors(value, (*keys, key))


def _is_name(keys: Keys) -> bool:
    """Return whether a tensor, or the module whose weight it is, has a known name."""
    parts = ".".join(map(str, keys)).removesuffix(".weight").split(".")
    return parts[-1] in TENSOR_NAMES


def _is_in_a_loss(keys: Keys) -> bool:
    """Return whether one of the keys says center loss."""
    path = "".join(map(str, keys)).replace("_", "").lower()
    return "centerloss" in path or "centreloss" in path


def _tables(tensors: Mapping[Keys, Tensor]) -> dict[Keys, Tensor]:
    """Return the tensors of two dimensions."""
    return {keys: value for keys, value in tensors.items() if value.dim() == 2}


def _listed(tensors: Mapping[Keys, Tensor]) -> str:
    """Describe tensors by the expressions that lead to them and their shapes."""
    described = [
        "state"
        + "".join(f"[{key!r}]" for key in keys)
        + f" of shape {tuple(value.shape)}"
        for keys, value in tensors.items()
    ]
    more = len(described) - SHOWN
    rest = [f"{more} more"] if more > 0 else []
    return ", ".join(described[:SHOWN] + rest) or "no tensors"

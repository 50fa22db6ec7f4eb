"""Centers from the checkpoints of other implementations."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def convert_state_dict(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Find the centers in another center loss's checkpoint, for `load_state_dict`.

    Common implementations keep them as a parameter named ``centers``, by itself or
    inside a larger model. Their rates and loss weights have other meanings; the page
    "Which center loss?" of the documentation converts them.

    Parameters
    ----------
    state : mapping of str to Tensor
        A checkpoint, as from ``state_dict()`` or `torch.load`.

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
        If there is not exactly one two-dimensional tensor whose name is ``centers``
        or ends in ``.centers``.

    Examples
    --------
    >>> import torch
    >>> from centerloss.torch import CenterLoss, convert_state_dict
    >>> checkpoint = {"fc.bias": torch.ones(3), "loss.centers": torch.ones(10, 2)}
    >>> loss_fn = CenterLoss(10, 2)
    >>> loss_fn.load_state_dict(convert_state_dict(checkpoint))
    <All keys matched successfully>
    """
    if not isinstance(state, Mapping):
        kind = type(state).__name__
        raise TypeError(f"state is a {kind}, expected a dict as from state_dict()")
    found = {
        name: value
        for name, value in state.items()
        if name.rpartition(".")[2] == "centers"
        and isinstance(value, Tensor)
        and value.dim() == 2
    }
    if len(found) != 1:
        has = ", ".join(found or state) or "nothing"
        raise ValueError(
            f"state has {has}, expected one tensor of shape (classes, features) "
            "whose name is 'centers' or ends in '.centers'"
        )
    (centers,) = found.values()
    centers = centers.detach()
    wide = centers.dtype is torch.float64
    return {"centers": centers if wide else centers.float()}

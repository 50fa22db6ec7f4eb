"""The loss of the rows of all ranks, as a function of this rank's tensors."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .._sharding import total_loss
from . import _cpu, _dispatch, _plain
from ._batch import Batch, Settings


def loss_of_all(
    batch: Batch, settings: Settings, weight: float
) -> tuple[Callable[[float, float], Tensor], NDArray[np.float64]]:
    """Return the terms of this rank's rows in the loss of all ranks.

    The function returns that loss, as a function of this rank's embeddings and weights,
    given the sum of all terms and W.
    """
    if _dispatch.can_use_c(batch.embeddings, batch.sample_weight):
        return _loss_in_c(batch, settings, weight)
    _, squares, weights = _plain.terms(_plain.flat(batch), settings)
    terms = squares * weights

    def loss(total: float, weight: float) -> Tensor:
        # Numbers of all ranks, with the derivatives of this rank's part.
        own, own_weight = terms.sum(), weights.sum()
        zero = torch.where(own.isfinite(), own - own.detach(), own)
        sum_of_all = zero + total
        if settings.reduction == "sum":
            return settings.loss_weight * sum_of_all
        if not weight > 0:
            return 0.0 * own.nan_to_num()
        return (
            settings.loss_weight
            * sum_of_all
            / (own_weight - own_weight.detach() + weight)
        )

    return loss, terms.detach().double().cpu().numpy()


def _loss_in_c(
    batch: Batch, settings: Settings, weight: float
) -> tuple[Callable[[float, float], Tensor], NDArray[np.float64]]:
    batch, rows, _ = _dispatch.for_c(batch, "loss", settings)
    terms, gradient = _cpu.terms_and_grad(rows, settings, weight)
    reduction, loss_weight = settings.reduction, float(settings.loss_weight)

    def loss(total: float, weight: float) -> Tensor:
        value = total_loss(total, weight, reduction, loss_weight)
        tensor = _cpu.loss_tensor(value, batch.centers)
        if not (torch.is_grad_enabled() and batch.embeddings.requires_grad):
            return tensor
        factor = total_loss(1.0, weight, reduction, loss_weight)
        linear = settings._replace(reduction="sum", loss_weight=factor)
        return _cpu.attach(batch, tensor, gradient, linear)

    return loss, terms.reshape(-1)

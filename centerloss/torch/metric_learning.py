"""Center loss for the reducers, trainers and wrappers of pytorch-metric-learning."""

from typing import Any

import torch
from pytorch_metric_learning.losses import BaseMetricLossFunction
from pytorch_metric_learning.utils import common_functions, loss_and_miner_utils
from torch import Tensor

from . import module


class CenterLoss(BaseMetricLossFunction):
    """Center loss as a loss function of pytorch-metric-learning.

    The names are those of ``losses.CenterLoss`` in that library's documentation. Only
    `update_centers` updates the centers; call it once per batch.

    Parameters
    ----------
    num_classes : int
        Number of classes K.
    embedding_size : int
        Number of values D of an embedding.
    alpha : float, default 0.5
        Rate of the centers: finite and >= 0.
    **kwargs
        ``reducer``, ``embedding_regularizer``, ``embedding_reg_weight`` and other
        arguments of the base class. The loss of an element is 1/2 ||x_i - c_{y_i}||^2;
        by default the base class averages.

    Attributes
    ----------
    centers : Tensor of shape (K, D)
        A buffer of the module.
    center_loss : centerloss.torch.CenterLoss
        The module that computes loss and update, with ``reduction="none"``.

    See Also
    --------
    centerloss.torch.CenterLoss : The module by itself, with automatic updates.

    Examples
    --------
    >>> import torch
    >>> from centerloss.torch.metric_learning import CenterLoss
    >>> loss_fn = CenterLoss(num_classes=2, embedding_size=1)
    >>> _ = loss_fn.centers.zero_()
    >>> embeddings, labels = torch.tensor([[2.0], [4.0]]), torch.tensor([0, 1])
    >>> loss_fn(embeddings, labels)
    tensor(5.)
    >>> loss_fn.update_centers(embeddings, labels)
    2
    >>> loss_fn.centers
    tensor([[0.5000],
            [1.0000]])
    """

    def __init__(
        self, num_classes: int, embedding_size: int, alpha: float = 0.5, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.center_loss = module.CenterLoss(
            num_classes,
            embedding_size,
            alpha=alpha,
            reduction="none",
            auto_update=False,
        )
        self.add_to_recordable_attributes(
            list_of_names=["num_classes", "embedding_size", "alpha"], is_stat=False
        )

    @property
    def num_classes(self) -> int:
        """Number of classes K."""
        return self.center_loss.num_classes

    @property
    def embedding_size(self) -> int:
        """Number of values D of an embedding."""
        return self.center_loss.feat_dim

    @property
    def alpha(self) -> float:
        """Rate of the centers."""
        return self.center_loss.alpha

    @property
    def centers(self) -> Tensor:
        """The centers, (K, D)."""
        return self.center_loss.centers

    def update_centers(self, embeddings: Tensor, labels: Tensor) -> int:
        """Update the centers of the classes present by Eq. 4; return their number.

        Parameters
        ----------
        embeddings : Tensor of shape (B, D)
            The batch. The update may come before or after the backward pass; the
            gradients are the same.
        labels : Tensor of shape (B,)
            The class of each row.

        Returns
        -------
        int
            The number of centers updated.
        """
        return self.center_loss.update(
            embeddings, common_functions.to_device(labels, embeddings)
        )

    def compute_loss(
        self,
        embeddings: Tensor,
        labels: Tensor,
        indices_tuple: tuple[Tensor, ...] | None,
        ref_emb: Tensor,
        ref_labels: Tensor,
    ) -> dict[str, Any]:
        """Return one loss per element, for the base class to reduce."""
        common_functions.labels_required(labels)
        common_functions.ref_not_supported(embeddings, labels, ref_emb, ref_labels)
        losses = self.center_loss(embeddings, labels)
        if indices_tuple is not None:  # a miner weights the elements
            losses = losses * loss_and_miner_utils.convert_to_weights(
                indices_tuple, labels, dtype=losses.dtype
            )
        indices = torch.arange(len(embeddings), device=embeddings.device)
        element = {"losses": losses, "indices": indices, "reduction_type": "element"}
        return {"loss": element}

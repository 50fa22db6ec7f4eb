"""Center loss for the reducers, trainers and wrappers of pytorch-metric-learning."""

import weakref
from typing import Any, Literal

import torch
from pytorch_metric_learning.distances import BaseDistance, LpDistance
from pytorch_metric_learning.losses import BaseMetricLossFunction
from pytorch_metric_learning.utils import common_functions, loss_and_miner_utils
from torch import Tensor

from . import _checks, _plain, module
from ._batch import Batch
from ._ranks import GivenGroup


class CenterLoss(BaseMetricLossFunction):
    """Center loss as a loss function of pytorch-metric-learning.

    The names are those of ``losses.CenterLoss`` in that library's documentation. In
    training mode, each call also updates the centers of the batch's classes, since the
    library's trainers do not call `update_centers`. A loop that calls it after the
    loss, with the same embeddings and labels, gets one update per batch all the same.

    Parameters
    ----------
    num_classes : int
        Number of classes K.
    embedding_size : int
        Number of values D of an embedding.
    alpha : float, default 0.5
        Rate of the centers: finite and >= 0.
    ignore_index : int, optional
        Rows with this label are ignored: the reducer does not get their losses. An
        embedding regularizer gets all embeddings.
    init : {"normal", "zeros"} or Tensor, default "normal"
        Draw the centers from the standard normal distribution, start at zero, or use
        this (K, D) tensor, without copying it.
    auto_update : bool, default True
        Whether calls in training mode update the centers. If not, only `update_centers`
        does. Turn it off if the embeddings given to `update_centers` are others than
        those of the loss, as those computed again after a step of the optimizer.
    process_group : torch.distributed.ProcessGroup or "world", optional
        Update the centers with the rows of all ranks of the group. Leave it out in the
        library's ``DistributedLossWrapper``, which gathers the rows itself.
    skip_nonfinite : bool, default True
        A row whose squared distance to its center is not finite updates no center.
    distance : LpDistance, optional
        Only the distance that center loss has is accepted, which is the default:
        ``LpDistance(normalize_embeddings=False, p=2, power=2)``.
    **kwargs
        ``reducer``, ``embedding_regularizer``, ``embedding_reg_weight`` and
        ``collect_stats`` of the base class. The loss of an element is
        1/2 ||x_i - c_{y_i}||^2; by default the base class averages. The statistic is
        ``centers_updated``, the number of centers that the batch updated.

    Attributes
    ----------
    centers : Tensor of shape (K, D)
        A buffer of the module.
    center_loss : centerloss.torch.CenterLoss
        The module that computes loss and update, with ``reduction="none"``. Its other
        settings may be changed between calls.

    See Also
    --------
    centerloss.torch.CenterLoss : The module by itself.

    Examples
    --------
    >>> import torch
    >>> from centerloss.torch.metric_learning import CenterLoss
    >>> loss_fn = CenterLoss(num_classes=2, embedding_size=1, init="zeros")
    >>> embeddings = torch.tensor([[2.0], [4.0]], requires_grad=True)
    >>> labels = torch.tensor([0, 1])
    >>> loss = loss_fn(embeddings, labels)
    >>> loss
    tensor(5., grad_fn=...)
    >>> loss_fn.centers
    tensor([[0.5000],
            [1.0000]])

    The loss has updated the centers, so this call does not:

    >>> loss_fn.update_centers(embeddings, labels)
    2
    >>> loss_fn.centers.ravel()
    tensor([0.5000, 1.0000])
    """

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        alpha: float = 0.5,
        *,
        ignore_index: int | None = None,
        init: Literal["normal", "zeros"] | Tensor = "normal",
        auto_update: bool = True,
        process_group: GivenGroup = None,
        skip_nonfinite: bool = True,
        distance: LpDistance | None = None,
        **kwargs: Any,
    ) -> None:
        _check_distance(distance)
        super().__init__(distance=distance, **kwargs)
        self.center_loss = module.CenterLoss(
            num_classes,
            embedding_size,
            alpha=alpha,
            reduction="none",
            ignore_index=ignore_index,
            init=init,
            auto_update=auto_update,
            process_group=process_group,
            skip_nonfinite=skip_nonfinite,
        )
        self._updated_with = _Batch()
        self.add_to_recordable_attributes(
            list_of_names=["num_classes", "embedding_size", "alpha"], is_stat=False
        )
        self.add_to_recordable_attributes(name="centers_updated", is_stat=True)

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

    def get_default_distance(self) -> LpDistance:
        """Return the distance that center loss has: squared, and not normalized."""
        return LpDistance(normalize_embeddings=False, p=2, power=2)

    def update_centers(self, embeddings: Tensor, labels: Tensor) -> int:
        """Update the centers of the classes present by Eq. 4; return their number.

        The centers stay as they are if the last call of the loss has updated them with
        this batch; a second call of this method updates them again.

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

        Raises
        ------
        TypeError, ValueError, IndexError
            As from `centerloss.torch.CenterLoss`.
        """
        labels = self._checked(embeddings, labels)
        if self._updated_with.is_this(embeddings, labels):
            updated = self.center_loss.num_updated
        else:
            updated = self.center_loss.update(embeddings, labels)
        self._updated_with = _Batch()
        if self.collect_stats:
            self.centers_updated = updated
        return updated

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor | None = None,
        indices_tuple: tuple[Tensor, ...] | None = None,
        ref_emb: Tensor | None = None,
        ref_labels: Tensor | None = None,
    ) -> Tensor:
        """Return the loss; in training mode, also update the centers.

        Parameters
        ----------
        embeddings : Tensor of shape (B, D)
            The batch, one row of D values per sample.
        labels : Tensor of shape (B,), any integer dtype
            The class of each row.
        indices_tuple : tuple of Tensor, optional
            Pairs or triplets of a miner. A row counts as often as it is in them, in
            relation to the most frequent row.
        ref_emb, ref_labels : None
            Center loss has no reference embeddings.

        Returns
        -------
        Tensor
            What the reducer returns.

        Raises
        ------
        TypeError, ValueError, IndexError
            As from `centerloss.torch.CenterLoss`.
        ValueError
            If there are reference embeddings, or no labels.
        """
        if labels is not None:  # before the base class looks at their shapes
            labels = self._checked(embeddings, labels)
        return super().forward(embeddings, labels, indices_tuple, ref_emb, ref_labels)

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
        losses = self._losses(embeddings, labels)
        if indices_tuple is not None:  # a miner weights the elements
            losses = losses * loss_and_miner_utils.convert_to_weights(
                indices_tuple, labels, dtype=losses.dtype
            )
        indices = torch.arange(len(embeddings), device=embeddings.device)
        if self.center_loss.ignore_index is not None:
            counts = ~_plain.ignored(labels, self.center_loss.ignore_index)
            losses, indices = losses[counts], indices[counts]
        loss = {"losses": losses, "indices": indices, "reduction_type": "element"}
        if len(losses) == 0:  # the mean would be NaN
            loss = {**self.zero_loss(), "losses": losses.sum()}
        return {"loss": loss}

    def _losses(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return one loss per row; remember the batch if it updates the centers."""
        losses = self.center_loss(embeddings, labels)
        loss_fn = self.center_loss
        learns = torch.is_grad_enabled() and embeddings.requires_grad
        if loss_fn.auto_update and loss_fn.training and learns:
            self._updated_with = _Batch(embeddings, labels)
            if self.collect_stats:
                self.centers_updated = loss_fn.num_updated
        return losses

    def _checked(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the labels, on the device of the embeddings."""
        if isinstance(embeddings, Tensor) and isinstance(labels, Tensor):
            labels = common_functions.to_device(labels, embeddings)
        batch = Batch(embeddings, labels, self.centers, None)
        _checks.check_tensors(batch)
        if labels.shape != embeddings.shape[:1]:  # the base class would say less
            _checks.check_batch(batch, self.center_loss.ignore_index)
        return labels


class _Batch:
    """A batch, to recognize when it comes again; keeps no embeddings in memory."""

    def __init__(
        self, embeddings: Tensor | None = None, labels: Tensor | None = None
    ) -> None:
        self.embeddings = None if embeddings is None else weakref.ref(embeddings)
        self.labels = labels

    def is_this(self, embeddings: Tensor, labels: Tensor) -> bool:
        """Return whether these embeddings are in the same memory, and labels equal."""
        before = None if self.embeddings is None else self.embeddings()
        if before is None or self.labels is None or not embeddings.is_set_to(before):
            return False
        return torch.equal(labels, self.labels)

    def __reduce__(self) -> tuple[type["_Batch"], tuple[()]]:
        """Copy and pickle it as no batch."""
        return _Batch, ()


def _check_distance(distance: object) -> None:
    """Raise unless this is the distance of center loss, or None."""
    if distance is None:
        return
    expected = (
        "expected LpDistance(normalize_embeddings=False, p=2, power=2), as center loss "
        "is half the squared Euclidean distance"
    )
    if not isinstance(distance, BaseDistance):
        raise TypeError(f"distance is a {type(distance).__name__}, {expected}")
    settings = ("normalize_embeddings", "p", "power", "is_inverted")
    values = {name: getattr(distance, name) for name in settings}
    right = {"normalize_embeddings": False, "p": 2, "power": 2, "is_inverted": False}
    if type(distance) is not LpDistance or values != right:
        given = ", ".join(f"{name}={value}" for name, value in values.items())
        raise ValueError(
            f"distance is {type(distance).__name__}({given}), {expected}; for cosine "
            "similarity, pass torch.nn.functional.normalize(embeddings) to the loss"
        )

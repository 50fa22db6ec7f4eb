"""The module: centers, settings, and when the centers are updated."""

import math
import numbers
import warnings
from collections.abc import Callable, Iterable
from typing import Any, Literal, Self

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .. import _settings
from . import _checks, _dispatch, _plain
from ._arrays import check_dtype, default_dtype, keep_wide, numpy_compatible
from ._batch import Batch, Settings, given_batches
from ._ranks import GivenGroup, Group, gather_rows

# A private class of PyTorch. Without it, `num_updated` of such tensors is an error.
_FakeTensor: Any = getattr(getattr(torch, "_subclasses", None), "FakeTensor", ())


class _History:
    """What the module has done, in an object: assigning to a module is slow."""

    updated: int | Tensor = 0  # the number of centers in the last update
    warned = False


class CenterLoss(nn.Module):
    """Center loss whose centers are updated during training.

    In training mode, each call whose embeddings need a gradient also updates the
    centers of the batch's classes, once, in the forward pass, as `torch.nn.BatchNorm1d`
    updates its running statistics. Loss and gradient are taken at the centers before
    the update. Neither the optimizer nor ``loss_weight`` affects the centers. They stay
    as they are in eval mode, under `torch.no_grad`, and for embeddings that need no
    gradient.

    Parameters
    ----------
    num_classes : int
        Number of classes K.
    feat_dim : int
        Number of values D of an embedding.
    alpha : float, default 0.5
        Rate of the centers: finite and >= 0. It may be changed between calls.
    loss_weight : float, default 1.0
        Factor of loss and gradient, the paper's lambda: finite and >= 0. It may be
        changed between calls.
    reduction : {"mean", "sum", "none"}, default "mean"
        Mean or sum over the rows of a batch, or one loss per row.
    normalize : bool, default True
        Divide the sum of differences of a class by one plus the number of its rows
        (Eq. 4 of [1]_).
    skip_nonfinite : bool, default True
        Rows whose squared distance to their center is not finite move no center: those
        with NaN or infinity, and those so far away that the square overflows. They
        still show in loss and gradient, where a `torch.amp.GradScaler` finds them.
    ignore_index : int, optional
        Rows with this label are ignored.
    init : {"normal", "zeros"} or Tensor, default "normal"
        Draw the centers from the standard normal distribution, start at zero, or use
        this (K, D) tensor, without copying it.
    auto_update : bool, default True
        Whether calls in training mode update the centers. If not, only `update` does.
        Turn it off if a forward pass runs more than once per backward pass, as in
        gradient checkpointing around the loss itself.
    process_group : torch.distributed.ProcessGroup or "world", optional
        Update the centers with the rows of all ranks of the group, in the order of the
        ranks. All ranks then hold the centers that a single process with the whole
        batch would have. Every rank must make the same calls. The loss is the loss of
        the rank's own rows. "world" is the default group at the time of a call, or none
        if `torch.distributed` is not initialized then. A copy of the module shares the
        group; a pickle keeps "world" and leaves out any other group.
    device, dtype : optional
        Device and dtype of the centers, float32 or float64; PyTorch's defaults if not
        given, but float32 if the default dtype is narrower.

    Attributes
    ----------
    centers : Tensor of shape (K, D)
        A buffer: it is part of ``state_dict()`` and moved by ``to()``, but it is not a
        parameter. It stays in float32 or wider when a module is converted to float16 or
        bfloat16, as by ``half()``.
    num_classes, feat_dim : int
        The sizes K and D of ``centers``.
    num_updated : int
        Number of centers in the last update; 0 before the first.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or has a wrong value.

    See Also
    --------
    centerloss.CenterLoss : The same for NumPy.

    Notes
    -----
    On the CPU, the C kernels work on the tensors' own memory: float32, float64, and
    bfloat16 over float32 centers. Embeddings in float16 are copied to float32, since
    their gradient would underflow before `torch.amp.GradScaler` multiplies it. Other
    devices, forward-mode derivatives, `torch.func` and weights that need a gradient use
    PyTorch's operations, with the same results within rounding. The transforms of
    `torch.func` allow no in-place change: use ``auto_update=False`` there.

    `torch.compile` keeps a call on the CPU in one graph, unless weights need a
    gradient. ``alpha`` and ``loss_weight`` are inputs of the graph and may change in
    every step. The other settings are constants of it: a new value compiles it again.

    A module in training mode warns once if its embeddings need no gradient. A replica
    made by `torch.nn.DataParallel` cannot update the centers of the module and raises
    an error instead: keep the loss outside of the parallel module.

    `torch.nn.parallel.DistributedDataParallel` averages gradients and broadcasts the
    buffers of rank 0: without ``process_group``, the centers would follow the rows of
    rank 0 alone. Averaging the updates of the ranks is wrong too, since each rank
    divides by its own 1 + n_j: with many classes, a center would move 1/P of its way.

    References
    ----------
    .. [1] Y. Wen, K. Zhang, Z. Li, Y. Qiao, "A Discriminative Feature Learning
       Approach for Deep Face Recognition", ECCV 2016.

    Examples
    --------
    >>> import torch
    >>> from centerloss.torch import CenterLoss
    >>> loss_fn = CenterLoss(num_classes=2, feat_dim=2, init="zeros")
    >>> embeddings = torch.tensor([[3.0, 4.0], [1.0, 0.0], [3.0, 0.0]])
    >>> _ = embeddings.requires_grad_()
    >>> labels = torch.tensor([0, 1, 1])
    >>> loss = loss_fn(embeddings, labels)
    >>> loss.backward()
    >>> loss
    tensor(5.8333, grad_fn=...)
    >>> embeddings.grad
    tensor([[1.0000, 1.3333],
            [0.3333, 0.0000],
            [1.0000, 0.0000]])
    >>> loss_fn.centers
    tensor([[0.7500, 1.0000],
            [0.6667, 0.0000]])
    >>> loss_fn.num_updated
    2
    """

    centers: Tensor
    reduction: Literal["none", "sum", "mean"]
    normalize: bool
    skip_nonfinite: bool
    ignore_index: int | None
    auto_update: bool

    def __init__(
        self,
        num_classes: int,
        feat_dim: int,
        *,
        alpha: float = 0.5,
        loss_weight: float = 1.0,
        reduction: Literal["none", "sum", "mean"] = "mean",
        normalize: bool = True,
        skip_nonfinite: bool = True,
        ignore_index: int | None = None,
        init: Literal["normal", "zeros"] | Tensor = "normal",
        auto_update: bool = True,
        process_group: GivenGroup = None,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        num_classes = _settings.size("num_classes", num_classes)
        feat_dim = _settings.size("feat_dim", feat_dim)
        self.alpha = alpha
        self.loss_weight = loss_weight
        self.reduction = reduction
        self.normalize = normalize
        self.skip_nonfinite = skip_nonfinite
        self.ignore_index = ignore_index
        if not isinstance(auto_update, bool):
            raise TypeError(f"auto_update is {auto_update!r}, expected True or False")
        self.auto_update = auto_update
        self.process_group = process_group
        self._init = init if isinstance(init, str) else "normal"
        self._history = _History()
        centers = _initial_centers(init, (num_classes, feat_dim), device, dtype)
        _checks.check_settings("step", self._settings())
        self.register_buffer("centers", centers)
        if isinstance(init, str):
            self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Set the centers to zero if ``init`` was "zeros", else draw them again."""
        if self._init == "normal":
            self.centers.normal_()
        else:
            self.centers.zero_()

    @property
    def alpha(self) -> float:
        """Rate of the centers."""
        return self._alpha

    @alpha.setter
    def alpha(self, alpha: float) -> None:
        self._alpha, self._alpha_input = alpha, _graph_input(alpha)

    @property
    def loss_weight(self) -> float:
        """Factor of loss and gradient."""
        return self._loss_weight

    @loss_weight.setter
    def loss_weight(self, weight: float) -> None:
        self._loss_weight, self._loss_weight_input = weight, _graph_input(weight)

    @property
    def num_classes(self) -> int:
        """Number of classes K."""
        return self.centers.shape[0]

    @property
    def feat_dim(self) -> int:
        """Number of values D of an embedding."""
        return self.centers.shape[1]

    @property
    def process_group(self) -> GivenGroup:
        """The group whose rows update the centers, "world", or None."""
        return self._group.given

    @process_group.setter
    def process_group(self, group: GivenGroup) -> None:
        self._group = Group(group)

    @property
    def num_updated(self) -> int:
        """Number of centers in the last update; 0 before the first."""
        updated = self._history.updated
        if isinstance(updated, Tensor):
            if updated.is_meta or isinstance(updated, _FakeTensor):  # has no value
                return 0
            self._history.updated = updated = int(updated)
        return updated

    def forward(
        self, embeddings: Tensor, labels: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        """Return the loss; in training mode, also update the centers.

        Parameters
        ----------
        embeddings : Tensor of shape (B, ...)
            The batch, one row of D values per label, in the centers' dtype, or in
            float16 or bfloat16 over float32 centers. If the labels have more axes,
            their shape comes first: (B, T, ...) for labels of shape (B, T).
        labels : Tensor of shape (B,), or of more axes, any integer dtype or bool
            The class of each row.
        sample_weight : Tensor of the labels' shape, of real numbers, optional
            The weight of each row: finite and >= 0.

        Returns
        -------
        Tensor of shape (), or of the labels' shape
            The loss, in the centers' dtype; one per row if ``reduction`` is "none". It
            is infinite if it is beyond the range of that dtype.

        Raises
        ------
        TypeError, ValueError, IndexError
            As from `centerloss.step`; no center has changed then. On devices other
            than the CPU, PyTorch finds a label out of range, with an error of its own.
        """
        batch = Batch(embeddings, labels, self._find_centers(), sample_weight)
        settings = self._settings()
        updates = self.auto_update and self.training and torch.is_grad_enabled()
        alone = self._group.given is None and "_is_replica" not in self.__dict__
        if updates and alone and _dispatch.is_usual(batch):
            step = _dispatch.usual_step(batch, settings)
            if step is not None:
                loss, self._history.updated = step
                return loss
        _checks.check_tensors(batch)
        batch = numpy_compatible(batch)
        if not updates:
            return _dispatch.loss(batch, settings)
        if not embeddings.requires_grad:
            loss = _dispatch.loss(batch, settings)
            self._warn_that_nothing_moves()
            return loss
        if "_is_replica" in self.__dict__:
            raise RuntimeError(
                "a replica made by nn.DataParallel cannot update the centers of the "
                "module: leave the loss outside of DataParallel and call it on the "
                "gathered embeddings"
            )
        group = self._group.find()
        if group is None and _dispatch.can_use_c(embeddings, batch.sample_weight):
            loss, self._history.updated = _dispatch.step(batch, settings)
            return loss
        # First, so that an error in the rows of one rank is raised on all ranks.
        rows = self._rows_of_all_ranks(batch, group)
        loss = _dispatch.loss(batch, settings)
        self._history.updated = _dispatch.update_centers(rows, settings)
        return loss

    def _warn_that_nothing_moves(self) -> None:
        # torch.compile would compile a second graph after the warning.
        if self._history.warned or torch.compiler.is_compiling():
            return
        self._history.warned = True
        warnings.warn(
            "the centers stay as they are: the module is in training mode, but the "
            "embeddings need no gradient. If the network is frozen, call update() to "
            "move the centers; to compute the loss alone, call eval() or set "
            "auto_update=False",
            stacklevel=5,  # the caller of the module
        )

    @torch.no_grad()
    def update(
        self, embeddings: Tensor, labels: Tensor, sample_weight: Tensor | None = None
    ) -> int:
        """Update the centers of the classes present, in any mode.

        Parameters
        ----------
        embeddings, labels, sample_weight
            As in a call of the module.

        Returns
        -------
        int
            The number of centers updated.

        Raises
        ------
        TypeError, ValueError, IndexError
            As from a call of the module.
        """
        batch = Batch(embeddings, labels, self.centers, sample_weight)
        _checks.check_tensors(batch)
        rows = self._rows_of_all_ranks(numpy_compatible(batch), self._group.find())
        self._history.updated = _dispatch.update_centers(rows, self._settings())
        return self.num_updated

    @torch.no_grad()
    def init_centers(
        self,
        batches: Tensor | Iterable[tuple[Tensor, Tensor]],
        labels: Tensor | None = None,
    ) -> int:
        """Set the centers of the classes present to class means; the others stay.

        The ranks of a process group exchange nothing here: pass the same batches on
        every rank.

        Parameters
        ----------
        batches : Tensor of shape (B, ...), or iterable of (embeddings, labels)
            Embeddings, or an iterable of batches, such as
            ``((network(x), y) for x, y in loader)``.
        labels : Tensor of shape (B,), optional
            The class of each row, if ``batches`` is a tensor.

        Returns
        -------
        int
            The number of centers set.

        Raises
        ------
        TypeError, ValueError, IndexError
            As from a call of the module; no center has changed then.

        Examples
        --------
        >>> import torch
        >>> loss_fn = CenterLoss(3, 1, init="zeros")
        >>> batches = [(torch.ones(1, 1), torch.tensor([2])),
        ...            (torch.tensor([[2.0], [7.0]]), torch.tensor([2, 0]))]
        >>> loss_fn.init_centers(batches)
        2
        >>> loss_fn.centers.ravel()
        tensor([7.0000, 0.0000, 1.5000])
        """
        sums, counts = _plain.empty_sums(self.centers)
        for embeddings, classes in given_batches(batches, labels):
            batch = Batch(embeddings, classes, self.centers, None)
            _checks.check_tensors(batch)
            _checks.check_batch(batch, self.ignore_index)
            _plain.add_to_classes(sums, counts, embeddings, classes, self.ignore_index)
        return _plain.set_means(self.centers, sums, counts)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Convert or move the centers; they stay in float32 or wider.

        `half()`, `to(torch.bfloat16)` and their like call it for every buffer.
        """
        centers = self.centers

        def convert(tensor: Tensor) -> Tensor:
            return keep_wide(fn, tensor) if tensor is centers else fn(tensor)

        return super()._apply(convert, recurse)

    def extra_repr(self) -> str:
        """Return the sizes and settings for the module's repr."""
        others = {"auto_update": self.auto_update, "dtype": self.centers.dtype}
        named = _settings.settings_text(_settings.settings_of(self) | others)
        return f"{self.num_classes}, {self.feat_dim}, {named}"

    def _find_centers(self) -> Tensor:
        """Return `centers`, which nn.Module looks for in other places first."""
        centers = self._buffers.get("centers")
        return self.centers if centers is None else centers  # None if parametrized

    def _settings(self) -> Settings:
        """Return the settings as they are, checked or not."""
        # A number that torch.compile sees becomes a constant of the graph.
        if torch.compiler.is_compiling():  # pragma: no cover
            loss_weight, alpha = self._loss_weight_input[0], self._alpha_input[0]
        else:
            loss_weight, alpha = self._loss_weight, self._alpha
        return Settings(
            self.reduction,
            loss_weight,
            self.ignore_index,
            alpha,
            self.normalize,
            self.skip_nonfinite,
        )

    def _rows_of_all_ranks(
        self, batch: Batch, group: dist.ProcessGroup | None
    ) -> Batch:
        """Return the rows of the process group, without their graph.

        An error in the rows of any rank is raised on all ranks.
        """
        embeddings, labels, centers, weights = batch
        weights = weights if weights is None else weights.detach()
        batch = Batch(embeddings.detach(), labels, centers, weights)
        if group is None:
            return batch
        error = None
        try:
            _checks.check_call("step", batch, self._settings())
        except (TypeError, ValueError, IndexError) as found:
            error = found
        return gather_rows(batch, error, group)


def _graph_input(value: Any) -> Tensor | list[Any]:
    """Return a setting as the sequence of one value that torch.compile is to see.

    A float64 tensor without axes would be traced twice.
    """
    if not isinstance(value, numbers.Real):
        return [value]  # an error of the next call
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    with torch.inference_mode(False):
        return torch.tensor([number], dtype=torch.float64, device="cpu")


def _initial_centers(
    init: object,
    shape: tuple[int, int],
    device: torch.device | str | int | None,
    dtype: torch.dtype | None,
) -> Tensor:
    """Return the tensor of the centers; its values are not set unless given."""
    check_dtype(dtype)
    if isinstance(init, Tensor):
        if init.shape != shape:
            raise ValueError(f"init has shape {tuple(init.shape)}, expected {shape}")
        # Only C needs contiguous rows; they are required on all devices alike.
        row_stride, stride = init.stride()
        if init.numel() > 0 and (
            (shape[1] > 1 and stride != 1) or (shape[0] > 1 and row_stride < shape[1])
        ):
            raise ValueError(
                "init has strided or overlapping rows: pass init.contiguous()"
            )
        centers = init.detach().to(device=device, dtype=dtype)
        _checks.check_centers(centers, "init")
        return centers
    _settings.check_init(init, "a tensor")
    return torch.empty(shape, device=device, dtype=dtype or default_dtype())

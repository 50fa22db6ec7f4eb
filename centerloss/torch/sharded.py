"""The module whose centers are in shards over the ranks of a process group."""

from __future__ import annotations  # functions are defined in each call

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.graph import increment_version

from .. import _settings
from .._sharding import (
    ArrayShard,
    Engine,
    Received,
    Rows,
    Shard,
    Shards,
    check_over,
    counted_labels,
)
from . import _checks, _cpu, _dispatch, _plain
from ._arrays import dtype_name, keep_wide, numpy_compatible
from ._batch import Batch, Settings, given_batches
from ._group_engine import engine_of
from ._loss_of_all import loss_of_all
from ._ranks import GivenGroup, Group
from ._shard import DeviceShard, initial_shard

_IGNORED = -1  # the position of the center of an ignored row


class ShardedCenterLoss(nn.Module):
    """Center loss for more classes than one process can hold.

    Each rank of a process group keeps the centers of a block of the classes: the first
    K / P of them on rank 0, and so on, as `torch.chunk` cuts them. Every rank calls the
    module with rows of its own, of any classes. The batches of all ranks, in the order
    of the ranks, are the whole batch: on the CPU, the centers get the bits that
    `CenterLoss` gives them in one process with the whole batch. A call takes time and
    memory in proportion to the batch.

    In training mode, each call updates the centers, unless gradients are disabled: see
    `CenterLoss`. Unlike there, it does not matter whether the embeddings need a
    gradient.

    Calls, `update`, `init_centers`, `save` and `load` are collective: every rank of the
    group has to call them, in the same order, with the same settings. Batches may
    differ in size, and may be empty. If a rank refuses its batch or the settings
    differ, all ranks raise an error, nothing has changed, and the next call works.

    Parameters
    ----------
    num_classes : int
        Number of classes K, of all ranks.
    feat_dim : int
        Number of values D of an embedding.
    process_group : torch.distributed.ProcessGroup or "world", optional
        The group; the default group if it is not given. Without `torch.distributed`,
        the shard has all classes.
    alpha, loss_weight, reduction, normalize, ignore_index, auto_update, skip_nonfinite
        As for `CenterLoss`.
    init : {"normal", "zeros"} or callable, default "normal"
        Draw the centers from the standard normal distribution, with the same bits on
        any number of ranks; start at zero; or call ``init(first, last)``, once, for the
        centers of the classes ``first`` to ``last - 1``. The tensor is not copied, so
        it may be memory-mapped, as by `torch.from_file`.
    seed : int, default 0
        Seed of the random numbers.
    over : {"rank", "all"}, default "rank"
        Whether the loss is that of the rank's own rows, as `CenterLoss` has it, or of
        the whole batch. In the latter case every rank returns the same loss, whose
        derivative is taken by the rank's own rows:
        `torch.nn.parallel.DistributedDataParallel`, which averages gradients over the
        ranks, then needs the loss times the number of ranks.
    device, dtype : optional
        Device and dtype of the centers, float32 or float64; PyTorch's defaults if not
        given, but float32 if the default dtype is narrower.

    Attributes
    ----------
    shard : Tensor
        The centers of this rank, one row for each class of ``class_range``. It is not a
        buffer: `torch.nn.parallel.DistributedDataParallel` would broadcast the one of
        rank 0. ``to()`` moves it, and it stays in float32 or wider.
    class_range : range
        The classes of this rank.
    centers : Tensor
        The centers of all ranks: a `torch.distributed.tensor.DTensor` made from the
        shard, or the shard itself without a process group.
    num_classes, feat_dim : int
        K and D.
    num_updated : int
        Number of own centers in the last update; 0 before the first.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or has a wrong value.

    See Also
    --------
    centerloss.distributed.ShardedCenterLoss : The same for NumPy and MPI.

    Notes
    -----
    A step makes four exchanges among all ranks, which are complete when the call
    returns. Each rank receives about ``2 * D * B`` values for B rows of its own,
    whatever P and K are; a group of `CenterLoss` receives ``D * B * (P - 1)``.

    Labels, embeddings and centers are exchanged in the memory of the CPU. The loss is
    computed where the embeddings are, and the centers are updated where the shard is.

    ``state_dict()`` has ``centers``, which `torch.distributed.checkpoint` saves and
    loads with any number of ranks. `save` and `load` do the same without pickles, and a
    crash leaves the older checkpoint.

    `torch.compile` runs the module as it is, outside of its graphs. The transforms of
    `torch.func` cannot run it.

    Examples
    --------
    In one process:

    >>> import torch
    >>> from centerloss.torch import ShardedCenterLoss
    >>> loss_fn = ShardedCenterLoss(num_classes=2, feat_dim=2, init="zeros")
    >>> embeddings = torch.tensor([[3.0, 4.0], [1.0, 0.0], [3.0, 0.0]])
    >>> _ = embeddings.requires_grad_()
    >>> loss_fn(embeddings, torch.tensor([0, 1, 1]))
    tensor(5.8333, grad_fn=...)
    >>> loss_fn.shard
    tensor([[0.7500, 1.0000],
            [0.6667, 0.0000]])
    >>> loss_fn.class_range
    range(0, 2)
    """

    shard: Tensor

    def __init__(
        self,
        num_classes: int,
        feat_dim: int,
        *,
        process_group: GivenGroup = None,
        alpha: float = 0.5,
        loss_weight: float = 1.0,
        reduction: Literal["none", "sum", "mean"] = "mean",
        normalize: bool = True,
        ignore_index: int | None = None,
        init: Literal["normal", "zeros"] | Callable[[int, int], Tensor] = "normal",
        seed: int = 0,
        auto_update: bool = True,
        skip_nonfinite: bool = True,
        over: Literal["rank", "all"] = "rank",
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        shape = (
            _settings.size("num_classes", num_classes),
            _settings.size("feat_dim", feat_dim),
        )
        self.alpha = alpha
        self.loss_weight = loss_weight
        self.reduction = reduction
        self.normalize = normalize
        self.ignore_index = ignore_index
        self.skip_nonfinite = skip_nonfinite
        self.over = over
        self._checked_settings()
        if not isinstance(auto_update, bool):
            raise TypeError(f"auto_update is {auto_update!r}, expected True or False")
        self.auto_update = auto_update
        self._group = Group("world" if process_group is None else process_group)
        self._shards = Shards(shape, _EngineOf(self._group))
        seed = _settings.size("seed", seed)
        self.shard = initial_shard(
            init, self.class_range, shape[1], device, dtype, seed
        )
        self.num_updated = 0

    @property
    def num_classes(self) -> int:
        """Number of classes K."""
        return self._shards.shape[0]

    @property
    def feat_dim(self) -> int:
        """Number of values D of an embedding."""
        return self._shards.shape[1]

    @property
    def class_range(self) -> range:
        """The classes of this rank."""
        return range(self._shards.first, self._shards.last)

    @property
    def centers(self) -> Tensor:
        """The centers of all ranks: a DTensor, or a tensor without a process group."""
        _ = self._shards.engine  # raises if the ranks are others now
        group = self._group.find()
        if group is None:
            return self.shard.detach()
        from torch.distributed.device_mesh import DeviceMesh
        from torch.distributed.tensor import DTensor, Shard

        return DTensor.from_local(
            self.shard.detach(),
            DeviceMesh.from_group(group, self.shard.device.type),
            [Shard(0)],
            run_check=False,
            shape=torch.Size(self._shards.shape),
            stride=(self.feat_dim, 1),
        )

    @torch.compiler.disable
    def forward(
        self, embeddings: Tensor, labels: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        """Return the loss; in training mode, also update the centers.

        Parameters
        ----------
        embeddings, labels, sample_weight
            The batch of this rank, as for `CenterLoss`. Weights are given on all ranks
            or none.

        Returns
        -------
        Tensor of shape (), or of the labels' shape
            The loss, as from `CenterLoss`.

        Raises
        ------
        TypeError, ValueError, IndexError
            As from `centerloss.step`, on the rank that has the wrong batch.
        ValueError
            On all ranks, if another one refuses its batch, or settings or calls differ.
        RuntimeError
            If centers are incomplete, since an earlier step failed while they moved.
        """
        updates = self.auto_update and self.training and torch.is_grad_enabled()
        whole = self.over == "all" and self.reduction != "none"
        batch: Batch | None = None

        def prepare() -> tuple[Rows, Mapping[str, Any]]:
            nonlocal batch
            batch, rows, settings = self._prepare(embeddings, labels, sample_weight)
            return rows, settings

        def compute(
            positions: NDArray[np.int64], centers: NDArray[Any], weight: float
        ) -> tuple[Any, NDArray[np.float64] | None]:
            assert batch is not None
            own = batch._replace(
                labels=torch.from_numpy(positions).reshape(labels.shape),
                centers=torch.from_numpy(centers),
            )
            own = own._replace(
                labels=own.labels.to(self.shard.device),
                centers=own.centers.to(self.shard.device),
            )
            settings = self._settings()._replace(ignore_index=_IGNORED)
            if whole:
                return loss_of_all(own, settings, weight)
            return _dispatch.loss(own, settings), None

        value, total, weight = self._shards.loss(
            prepare,
            self._owned(),
            compute,
            self._move if updates else None,
            whole=whole,
        )
        if whole:
            loss: Tensor = value(total, weight)
            return loss
        of_rank: Tensor = value
        return of_rank

    @torch.no_grad()
    @torch.compiler.disable
    def update(
        self, embeddings: Tensor, labels: Tensor, sample_weight: Tensor | None = None
    ) -> int:
        """Update the centers of the classes present on any rank, in any mode.

        Parameters
        ----------
        embeddings, labels, sample_weight
            As in a call of the module.

        Returns
        -------
        int
            The number of own centers updated.

        Raises
        ------
        TypeError, ValueError, IndexError, RuntimeError
            As from a call of the module.
        """
        self._shards.update(
            "update",
            lambda: self._prepare(embeddings, labels, sample_weight)[1:],
            self._move,
        )
        return self.num_updated

    @torch.no_grad()
    def init_centers(
        self,
        batches: Tensor | Iterable[tuple[Tensor, Tensor]],
        labels: Tensor | None = None,
    ) -> int:
        """Set the centers of the classes present to class means; the others stay.

        The sums take twice the memory of the shard, or as much if it is in float64.

        Parameters
        ----------
        batches, labels
            The rows of this rank, as for `CenterLoss.init_centers`. The ranks may have
            different numbers of batches.

        Returns
        -------
        int
            The number of own centers set.

        Raises
        ------
        TypeError, ValueError, IndexError, RuntimeError
            As from a call of the module.
        """
        given: Iterator[tuple[Tensor, Tensor]] | None = None
        sums, counts = _plain.empty_sums(self.shard)
        no_labels = torch.empty(0, dtype=torch.int64, device=self.shard.device)

        def prepare() -> tuple[Rows, Mapping[str, Any]]:
            nonlocal given
            if given is None:  # here, since its errors are those of this rank's batch
                given = given_batches(batches, labels)
            batch = next(given, None)
            x, y = (self.shard[:0], no_labels) if batch is None else batch
            _, rows, settings = self._prepare(x, y, None, wide=True)
            return rows._replace(done=batch is None), settings

        def add(rows: Received) -> None:
            batch = self._batch_of(rows)
            _plain.add_to_classes(sums, counts, batch.embeddings, batch.labels, None)

        while not self._shards.update("init_centers", prepare, add):
            pass
        return _plain.set_means(self.shard, sums, counts)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Save the centers of all ranks, and the settings, to a folder.

        Each rank writes its centers to a file in NumPy's .npy format; ``index.json``
        lists the files. It is replaced last. So a crash at any time leaves an earlier
        checkpoint in the same folder as it was. Any number of ranks can load it, with
        PyTorch or MPI, and so can `centerloss.CenterLoss.load` in one process.

        Parameters
        ----------
        folder : str or path-like
            A folder that all ranks can reach; it is made if it does not exist.

        Raises
        ------
        OSError
            On the rank that cannot write; an earlier checkpoint stays.
        RuntimeError
            On the other ranks then.
        """
        self._shards.save(folder, self._owned(), self._settings_to_save)

    def load(self, folder: str | os.PathLike[str]) -> None:
        """Set centers and settings to those that `save` wrote, on any number of ranks.

        Parameters
        ----------
        folder : str or path-like
            The folder. Nothing in it is unpickled.

        Raises
        ------
        OSError, ValueError
            If the folder cannot be read, is damaged, or holds centers of another shape
            or dtype; nothing has changed then, on any rank.
        """
        settings = self._shards.load(folder, self._owned())
        increment_version(self.shard)
        for name in _settings.SETTINGS:
            setattr(self, name, settings[name])

    def extra_repr(self) -> str:
        """Return the sizes and settings for the module's repr."""
        settings = _settings.settings_of(self)
        settings |= {"over": self.over, "auto_update": self.auto_update}
        settings |= {"dtype": self.shard.dtype, "class_range": self.class_range}
        named = _settings.settings_text(settings)
        return f"{self.num_classes}, {self.feat_dim}, {named}"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Convert or move the shard, which is not a buffer."""
        super()._apply(fn, recurse)
        self.shard = keep_wide(fn, self.shard)
        return self

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + "centers"] = self.centers

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: Mapping[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Copy the own rows of a DTensor like that of `state_dict`, or of a tensor."""
        key = prefix + "centers"
        others = {k: v for k, v in state_dict.items() if k != key}
        super()._load_from_state_dict(
            others,
            prefix,
            local_metadata,
            strict,
            missing_keys,
            unexpected_keys,
            error_msgs,
        )
        if key not in state_dict:
            missing_keys.append(key)
            return
        try:
            rows = self._own_rows(key, state_dict[key])
        except (TypeError, ValueError) as error:
            error_msgs.append(str(error))
            return
        with torch.no_grad():
            self.shard.copy_(rows)
        self._shards.incomplete = False

    def _own_rows(self, name: str, centers: Any) -> Tensor:
        if not isinstance(centers, Tensor):
            kind = type(centers).__name__
            raise TypeError(f"{name} is a {kind}, expected a tensor")
        if tuple(centers.shape) != self._shards.shape:
            raise ValueError(
                f"{name} has shape {tuple(centers.shape)}, expected "
                f"{self._shards.shape}"
            )
        if not hasattr(centers, "to_local"):
            return centers[self.class_range.start : self.class_range.stop]
        if _layout(centers) != _layout(self.centers):
            raise ValueError(
                f"{name} is a DTensor over other ranks, or with other rows on them: "
                "load it into state_dict() by torch.distributed.checkpoint.load"
            )
        local: Tensor = centers.to_local()
        return local

    def _owned(self) -> Shard:
        """Return the shard as what the exchange reads and writes."""
        shard = self.shard.detach()
        return ArrayShard(shard.numpy()) if _in_c(shard) else DeviceShard(shard)

    def _prepare(
        self,
        embeddings: Tensor,
        labels: Tensor,
        sample_weight: Tensor | None,
        *,
        wide: bool = False,
    ) -> tuple[Batch, Rows, Mapping[str, Any]]:
        """Return the batch, its rows to be sent, and the settings; all are checked.

        With `wide` the rows have the dtype of the centers.
        """
        settings = self._checked_settings()
        batch = Batch(embeddings, labels, self.shard, sample_weight)
        _checks.check_tensors(batch)
        batch = numpy_compatible(batch)
        shape = (len(self.class_range), self.feat_dim)
        if tuple(self.shard.shape) != shape:
            raise ValueError(
                f"shard has shape {tuple(self.shard.shape)}, expected {shape}"
            )
        weights = batch.sample_weight
        on_cpu = Batch(
            embeddings.detach(),
            labels.cpu(),
            self.shard.new_zeros(1, self.feat_dim).expand(self._shards.shape),
            None if weights is None else weights.detach().cpu(),
        )
        _checks.check_batch(on_cpu, self.ignore_index)
        flat = _plain.flat(on_cpu)
        x = flat.embeddings.to(self.shard.dtype) if wide else flat.embeddings
        rows = Rows(
            _bits(x.cpu()),
            counted_labels(flat.labels.numpy(), settings["ignore_index"]),
            None if flat.sample_weight is None else flat.sample_weight.double().numpy(),
            dtype_name(x.dtype),
        )
        return batch, rows, settings

    @torch.no_grad()
    def _move(self, rows: Received) -> None:
        batch, settings = self._batch_of(rows), self._settings()
        if _in_c(self.shard):
            updated = _cpu.update_centers_at(batch, rows.places, settings)
        else:
            updated = int(_plain.update_centers(batch, settings))
        self.num_updated = updated

    def _batch_of(self, rows: Received) -> Batch:
        """Return rows, from any rank, where the shard is."""
        device = self.shard.device
        weights = rows.weights
        return Batch(
            torch.from_numpy(rows.values).view(getattr(torch, rows.type)).to(device),
            torch.from_numpy(rows.labels).to(device),
            self.shard,
            None if weights is None else torch.from_numpy(weights).to(device),
        )

    def _settings(self) -> Settings:
        """Return the settings as they are; labels stand for no ignored row any more."""
        return Settings(
            self.reduction,
            self.loss_weight,
            None,
            self.alpha,
            self.normalize,
            self.skip_nonfinite,
        )

    def _settings_to_save(self) -> dict[str, Any]:
        return _settings.check_settings(_settings.settings_of(self))

    def _checked_settings(self) -> dict[str, Any]:
        """Return the settings as plain Python values."""
        return {**self._settings_to_save(), "over": check_over(self.over)}


class _EngineOf:
    """Finds the engine of a group, in each call."""

    def __init__(self, group: Group) -> None:
        self._group = group

    def __call__(self) -> Engine:
        return engine_of(self._group.find())


def _in_c(shard: Tensor) -> bool:
    """Whether C can read and update the centers."""
    return shard.is_cpu


def _layout(tensor: Any) -> tuple[Any, ...]:
    """Return which rows of a DTensor are where."""
    return getattr(tensor, "device_mesh", None), getattr(tensor, "placements", None)


def _bits(rows: Tensor) -> NDArray[Any]:
    """Return rows as an array; those of 16 bits as integers: NumPy has no bfloat16."""
    rows = rows.resolve_neg()
    if rows.dtype.itemsize == 2:
        rows = rows.view(torch.int16)
    array: NDArray[Any] = rows.numpy()
    return array

"""Center loss for NumPy whose centers are in shards over the ranks of MPI."""

from __future__ import annotations  # functions are defined in each call

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ._core import (
    check,
    class_sums_at,
    loss,
    terms_and_grad,
    update_centers_at,
    value_and_grad,
)
from ._settings import (
    SETTINGS,
    check_centers,
    check_settings,
    float_dtype,
    settings_of,
    settings_text,
    size,
    zero_centers,
)
from ._sharding import (
    ArrayShard,
    Engine,
    OneProcess,
    Received,
    Rows,
    Shards,
    Words,
    check_init,
    check_over,
    counted_labels,
    normal_rows,
    total_loss,
)

__all__ = ["ShardedCenterLoss"]


class ShardedCenterLoss:
    """Center loss for more classes than one process can hold.

    Each rank of a communicator keeps the centers of a block of the classes: the first
    K / P of them on rank 0, and so on. Every rank calls with rows of its own, of any
    classes. The batches of all ranks, in the order of the ranks, are the whole batch:
    the centers get the bits that `centerloss.CenterLoss` gives them in one process with
    the whole batch. A call takes time and memory in proportion to the batch.

    All methods but the constructor are collective: every rank has to call them, in the
    same order, with the same settings. Batches may differ in size, and may be empty. If
    a rank refuses its batch or the settings differ, all ranks raise an error, nothing
    has changed, and the next call works.

    Parameters
    ----------
    num_classes : int
        Number of classes K, of all ranks.
    feat_dim : int
        Number of values D of a feature row.
    comm : mpi4py.MPI.Comm or None
        The communicator; None for one process without MPI.
    alpha, loss_weight, reduction, normalize, skip_nonfinite, ignore_index
        As for `centerloss.CenterLoss`.
    init : {"normal", "zeros"} or callable, default "normal"
        Draw the centers from the standard normal distribution, with the same bits on
        any number of ranks; start at zero; or call ``init(first, last)``, once, for the
        centers of the classes ``first`` to ``last - 1``. The array is not copied, so it
        may be part of a `numpy.memmap`.
    seed : int, default 0
        Seed of the random numbers.
    over : {"all", "rank"}, default "all"
        Whether loss and gradient are those of the whole batch, or of the rank's own
        rows. In the first case, every rank gets the same loss. There is no difference
        if `reduction` is "none".
    dtype : {"float32", "float64"}, default "float32"
        Dtype of centers that are drawn or zero; an array keeps its own.

    Attributes
    ----------
    shard : ndarray
        The centers of this rank, one row for each class of `class_range`.
    class_range : range
        The classes of this rank.
    num_updated : int
        Number of own centers in the last update; 0 before the first.
    num_classes, feat_dim : int
        K and D.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or has a wrong value.

    See Also
    --------
    centerloss.CenterLoss : The same for one process.
    centerloss.torch.ShardedCenterLoss : The same for PyTorch.

    Notes
    -----
    A step makes four exchanges among all ranks. Each rank receives about
    ``2 * D * B`` values for B rows of its own, whatever P and K are.

    An exception on one rank outside of these calls leaves the others waiting, as with
    any program that uses MPI: ``mpiexec -n 4 python -m mpi4py script.py`` ends them.

    Examples
    --------
    In one process:

    >>> import numpy as np
    >>> from centerloss.distributed import ShardedCenterLoss
    >>> loss_fn = ShardedCenterLoss(2, 2, None, init="zeros")
    >>> features = np.array([[3.0, 4.0], [1.0, 0.0], [3.0, 0.0]], dtype=np.float32)
    >>> value, gradient = loss_fn.step(features, [0, 1, 1])
    >>> round(value, 4)
    5.8333
    >>> loss_fn.shard
    array([[0.75     , 1.       ],
           [0.6666667, 0.       ]], dtype=float32)

    With MPI, ``comm`` is ``mpi4py.MPI.COMM_WORLD``.
    """

    def __init__(
        self,
        num_classes: int,
        feat_dim: int,
        comm: Any,
        *,
        alpha: float = 0.5,
        loss_weight: float = 1.0,
        reduction: Literal["none", "sum", "mean"] = "mean",
        normalize: bool = True,
        skip_nonfinite: bool = True,
        ignore_index: int | None = None,
        init: Literal["normal", "zeros"]
        | Callable[[int, int], NDArray[Any]] = "normal",
        seed: int = 0,
        over: Literal["all", "rank"] = "all",
        dtype: DTypeLike = "float32",
    ) -> None:
        shape = (size("num_classes", num_classes), size("feat_dim", feat_dim))
        self.alpha = alpha
        self.loss_weight = loss_weight
        self.reduction = reduction
        self.normalize = normalize
        self.ignore_index = ignore_index
        self.skip_nonfinite = skip_nonfinite
        self.over = over
        self._checked_settings()
        engine = _engine_of(comm)
        self._shards = Shards(shape, lambda: engine)
        self.shard = _initial_shard(
            init, self.class_range, shape[1], float_dtype(dtype), size("seed", seed)
        )
        self.num_updated = 0

    @property
    def num_classes(self) -> int:
        """Number of classes K."""
        return self._shards.shape[0]

    @property
    def feat_dim(self) -> int:
        """Number of values D of a feature row."""
        return self._shards.shape[1]

    @property
    def class_range(self) -> range:
        """The classes of this rank."""
        return range(self._shards.first, self._shards.last)

    def __call__(
        self,
        features: ArrayLike,
        labels: ArrayLike,
        sample_weight: ArrayLike | None = None,
    ) -> float | Any:
        """Return the loss.

        Parameters
        ----------
        features : array_like of shape S + (...)
            The batch of this rank: a row of D values for each label.
        labels : array_like of shape S, any integer dtype or bool
            The class of each row.
        sample_weight : array_like of shape S, optional
            The weight of each row: finite and >= 0. On all ranks or none.

        Returns
        -------
        float or ndarray of shape S
            The loss; one per own row, in the centers' dtype, if `reduction` is "none".

        Raises
        ------
        TypeError, ValueError, IndexError
            As from `centerloss.loss`, on the rank that has the wrong batch.
        ValueError
            On all ranks, if another one refuses its batch, or settings or calls differ.
        RuntimeError
            If centers are incomplete, since an earlier step failed while they moved.
        """
        value, _ = self._loss(features, labels, sample_weight, gradient=False)
        return value

    def value_and_grad(
        self,
        features: ArrayLike,
        labels: ArrayLike,
        sample_weight: ArrayLike | None = None,
        out: NDArray[Any] | None = None,
    ) -> tuple[float | Any, NDArray[Any]]:
        """Return the loss, and its gradient with respect to the own rows.

        Parameters
        ----------
        features, labels, sample_weight
            As in a call of the object.
        out : ndarray, optional
            Array for the gradient, with the features' shape and dtype.

        Returns
        -------
        loss : float or ndarray of shape S
            As from a call of the object.
        gradient : ndarray of the features' shape and dtype
            Of the own rows; `out` if given.

        Raises
        ------
        TypeError, ValueError, IndexError, RuntimeError
            As from a call of the object.
        """
        return self._loss(features, labels, sample_weight, out=out)

    def update(
        self,
        features: ArrayLike,
        labels: ArrayLike,
        sample_weight: ArrayLike | None = None,
    ) -> int:
        """Update the centers of the classes present on any rank.

        Parameters
        ----------
        features, labels, sample_weight
            As in a call of the object.

        Returns
        -------
        int
            The number of own centers updated.

        Raises
        ------
        TypeError, ValueError, IndexError, RuntimeError
            As from a call of the object.
        """
        self._shards.update(
            "update",
            lambda: self._prepare(features, labels, sample_weight)[1:],
            self._move,
        )
        return self.num_updated

    def step(
        self,
        features: ArrayLike,
        labels: ArrayLike,
        sample_weight: ArrayLike | None = None,
        out: NDArray[Any] | None = None,
    ) -> tuple[float | Any, NDArray[Any]]:
        """Return loss and gradient, and update the centers.

        Parameters
        ----------
        features, labels, sample_weight, out
            As in `value_and_grad`.

        Returns
        -------
        loss, gradient
            As from `value_and_grad`, both at the centers before the update.

        Raises
        ------
        TypeError, ValueError, IndexError, RuntimeError
            As from a call of the object.
        """
        return self._loss(features, labels, sample_weight, out=out, updates=True)

    def init_centers(self, features: ArrayLike, labels: ArrayLike) -> int:
        """Set the centers of the classes present on any rank to their class means.

        The centers of absent classes stay as they are.

        Parameters
        ----------
        features, labels
            As in a call of the object.

        Returns
        -------
        int
            The number of own centers set.

        Raises
        ------
        TypeError, ValueError, IndexError, RuntimeError
            As from a call of the object.
        """
        count = 0

        def set_means(rows: Received) -> None:
            nonlocal count
            zero = zero_centers(self.shard.shape, self.shard.dtype)
            classes, sums, counts = class_sums_at(
                rows.values, rows.labels, zero, places=rows.places
            )
            self.shard[classes] = sums / counts[:, np.newaxis]
            count = len(classes)

        self._shards.update(
            "init_centers",
            lambda: self._prepare(features, labels, None)[1:],
            set_means,
        )
        return count

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Save the centers of all ranks, and the settings, to a folder.

        Each rank writes its centers to a file in NumPy's .npy format; ``index.json``
        lists the files. It is replaced last. So a crash at any time leaves an earlier
        checkpoint in the same folder as it was. Any number of ranks can load it, and
        so can `centerloss.CenterLoss.load` in one process.

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
        self._shards.save(folder, ArrayShard(self.shard), self._settings_to_save)

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
        settings = self._shards.load(folder, ArrayShard(self.shard))
        for name in SETTINGS:
            setattr(self, name, settings[name])

    def __repr__(self) -> str:
        others = {"over": self.over, "dtype": self.shard.dtype.name}
        named = settings_text(settings_of(self) | others)
        kind = type(self).__name__
        sizes = f"{self.num_classes}, {self.feat_dim}"
        return f"<{kind}({sizes}, {named}) with {self.class_range}>"

    def _loss(
        self,
        features: ArrayLike,
        labels: ArrayLike,
        sample_weight: ArrayLike | None,
        *,
        out: NDArray[Any] | None = None,
        gradient: bool = True,
        updates: bool = False,
    ) -> tuple[float | Any, Any]:
        whole = self.over == "all" and self.reduction != "none"
        checked: dict[str, Any] = {}

        def prepare() -> tuple[Rows, Mapping[str, Any]]:
            batch, rows, settings = self._prepare(features, labels, sample_weight, out)
            checked.update(batch)
            return rows, settings

        def compute(
            positions: NDArray[np.int64], centers: NDArray[Any], weight: float
        ) -> tuple[Any, NDArray[np.float64] | None]:
            batch: tuple[Any, Any, Any] = (
                checked["features"],
                positions.reshape(checked["labels"].shape),
                centers,
            )
            options = {
                "reduction": checked["reduction"],
                "loss_weight": checked["loss_weight"],
                "sample_weight": checked["sample_weight"],
                "ignore_index": -1,
            }
            if whole:
                terms, of_rows = terms_and_grad(
                    *batch, **options, total_weight=weight, out=out
                )
                return (math.nan, of_rows), terms.reshape(-1)
            if gradient:
                return value_and_grad(*batch, **options, out=out), None
            return (loss(*batch, **options), None), None

        (value, of_rows), total, weight = self._shards.loss(
            prepare,
            ArrayShard(self.shard),
            compute,
            self._move if updates else None,
            whole=whole,
        )
        if whole:
            value = total_loss(
                total, weight, checked["reduction"], checked["loss_weight"]
            )
        return value, of_rows

    def _prepare(
        self,
        features: ArrayLike,
        labels: ArrayLike,
        sample_weight: ArrayLike | None,
        out: NDArray[Any] | None = None,
    ) -> tuple[dict[str, Any], Rows, Mapping[str, Any]]:
        """Return the checked arguments, the batch, and the settings."""
        settings = self._checked_settings()
        check_centers(self.shard, written=True, name="shard")
        shape = (len(self.class_range), self.feat_dim)
        if self.shard.shape != shape:
            raise ValueError(f"shard has shape {self.shard.shape}, expected {shape}")
        batch = check(
            "value_and_grad",
            {
                "features": features,
                "labels": labels,
                "centers": zero_centers(self._shards.shape, self.shard.dtype),
                "reduction": settings["reduction"],
                "loss_weight": settings["loss_weight"],
                "sample_weight": sample_weight,
                "ignore_index": settings["ignore_index"],
                "out": out,
            },
        )
        if out is not None and np.may_share_memory(out, self.shard):
            raise ValueError("out overlaps shard in memory")
        return batch, _rows_of(batch, self.feat_dim), settings

    def _move(self, rows: Received) -> None:
        settings = self._checked_settings()
        self.num_updated = update_centers_at(
            rows.values,
            rows.labels,
            self.shard,
            places=rows.places,
            alpha=settings["alpha"],
            normalize=settings["normalize"],
            skip_nonfinite=settings["skip_nonfinite"],
            sample_weight=rows.weights,
        )

    def _settings_to_save(self) -> dict[str, Any]:
        settings = self._checked_settings()
        del settings["over"]
        return settings

    def _checked_settings(self) -> dict[str, Any]:
        """Return the settings as plain Python values."""
        return {**check_settings(settings_of(self)), "over": check_over(self.over)}


class _MPI:
    """The engine of an mpi4py communicator."""

    def __init__(self, comm: Any) -> None:
        self._comm = comm
        self.rank: int = comm.Get_rank()
        self.size: int = comm.Get_size()

    def exchange(self, words: Words) -> Words:
        received = np.empty_like(words)
        self._comm.Alltoall(words, received)
        return received

    def start(
        self, words: Words, sent: Sequence[int], received: Sequence[int]
    ) -> Callable[[], Words]:
        result = np.empty(sum(received), np.int64)
        request = self._comm.Ialltoallv([words, sent], [result, received])

        def wait() -> Words:
            request.Wait()
            return result

        return wait


def _engine_of(comm: Any) -> Engine:
    if comm is None:
        return OneProcess()
    if not (hasattr(comm, "Alltoall") and hasattr(comm, "Ialltoallv")):
        raise TypeError(
            f"comm is {comm!r}, expected an mpi4py communicator such as "
            "mpi4py.MPI.COMM_WORLD, or None"
        )
    return _MPI(comm)


def _rows_of(batch: Mapping[str, Any], columns: int) -> Rows:
    """Return checked rows, flat."""
    labels = counted_labels(batch["labels"], batch["ignore_index"])
    features, weights = batch["features"], batch["sample_weight"]
    return Rows(
        features.reshape(len(labels), columns),
        labels,
        None if weights is None else weights.reshape(-1),
        features.dtype.name,
    )


def _initial_shard(
    init: Any, classes: range, columns: int, dtype: np.dtype[Any], seed: int
) -> NDArray[Any]:
    shape = (len(classes), columns)
    if callable(init):
        rows = init(classes.start, classes.stop)
        name = f"init({classes.start}, {classes.stop})"
        if not isinstance(rows, np.ndarray):
            raise TypeError(
                f"{name} is a {type(rows).__name__}, expected a NumPy array"
            )
        if rows.shape != shape:
            raise ValueError(f"{name} has shape {rows.shape}, expected {shape}")
        check_centers(rows, written=True, name=name)
        return rows
    check_init(init)
    shard = np.zeros(shape, dtype)
    if init == "normal":
        store = ArrayShard(shard).store
        normal_rows(
            classes.start,
            classes.stop,
            columns,
            dtype,
            seed,
            lambda first, rows: store(first - classes.start, rows),
        )
    return shard

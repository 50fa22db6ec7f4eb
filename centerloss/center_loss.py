"""CenterLoss for NumPy: keeps the centers and the settings between calls."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ._core import class_sums, loss, step_of_class, update_centers, value_and_grad
from ._files import atomic_write, read_npz, write_npz
from ._folders import read_folder
from ._settings import (
    SETTINGS,
    check_centers,
    check_init,
    check_keys,
    check_settings,
    float_dtype,
    settings_of,
    settings_text,
    size,
    zero_centers,
)

_FILE_FORMAT = 1


class CenterLoss:
    """Center loss together with its centers and settings.

    Calling the object, `value_and_grad`, `update` and `step` each call the function of
    the same purpose, `loss`, `value_and_grad`, `update_centers` or `step`, with the
    centers and the settings filled in. They raise what that function raises.

    Parameters
    ----------
    num_classes : int
        Number of classes K.
    feat_dim : int
        Number of values D of a feature row.
    alpha : float, default 0.5
        Rate of the centers: finite and >= 0. It may be changed between calls.
    loss_weight : float, default 1.0
        Factor of loss and gradient, the paper's lambda: finite and >= 0. It does not
        affect the centers. It may be changed between calls.
    reduction : {"mean", "sum", "none"}, default "mean"
        Mean or sum over the rows of a batch, or one loss per row.
    normalize : bool, default True
        Divide the sum of differences of a class by one plus the number of its rows
        (Eq. 4 of [1]_).
    skip_nonfinite : bool, default True
        Rows whose squared distance to their center is not finite move no center: those
        with NaN or infinity, and those so far away that the square overflows.
    ignore_index : int, optional
        Rows with this label are ignored.
    init : {"normal", "zeros"} or ndarray, default "normal"
        Draw the centers from the standard normal distribution, start at zero, or use
        this (K, D) array. The array is not copied, so it may be a `numpy.memmap`.
    dtype : {"float32", "float64"}, default "float32"
        Dtype of centers that are drawn or zero; an array keeps its own.
    rng : int, sequence of int or numpy.random.Generator, optional
        Random numbers of ``init="normal"``, as for `numpy.random.default_rng`.

    Attributes
    ----------
    centers : ndarray of shape (K, D), float32 or float64
        The array itself. The next call uses what is written to it.
    num_classes, feat_dim : int
        The shape of ``centers``.
    alpha, loss_weight, reduction, normalize, ignore_index, skip_nonfinite
        The settings. The next call that uses a setting checks its value.

    Raises
    ------
    TypeError
        If an argument is of the wrong type, or ``init`` of the wrong dtype.
    ValueError
        If an argument has a wrong value, or ``init`` has the wrong shape or cannot be
        written to in place.

    References
    ----------
    .. [1] Y. Wen, K. Zhang, Z. Li, Y. Qiao, "A Discriminative Feature Learning
       Approach for Deep Face Recognition", ECCV 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from centerloss import CenterLoss
    >>> loss_fn = CenterLoss(num_classes=2, feat_dim=2, init="zeros")
    >>> features = np.array([[3.0, 4.0], [1.0, 0.0], [3.0, 0.0]], dtype=np.float32)
    >>> labels = np.array([0, 1, 1])
    >>> value, gradient = loss_fn.step(features, labels)
    >>> round(value, 4)
    5.8333
    >>> loss_fn.centers
    array([[0.75     , 1.       ],
           [0.6666667, 0.       ]], dtype=float32)
    """

    __slots__ = ("__weakref__", "centers", *SETTINGS)

    centers: NDArray[Any]
    alpha: float
    loss_weight: float
    reduction: Literal["none", "sum", "mean"]
    normalize: bool
    ignore_index: int | None
    skip_nonfinite: bool

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
        init: Literal["normal", "zeros"] | NDArray[Any] = "normal",
        dtype: DTypeLike = "float32",
        # A string: evaluating it would import numpy.random, which takes a sixth of the
        # time that importing NumPy does.
        rng: "int | Sequence[int] | np.random.Generator | None" = None,
    ) -> None:
        shape = (size("num_classes", num_classes), size("feat_dim", feat_dim))
        self.alpha = alpha
        self.loss_weight = loss_weight
        self.reduction = reduction
        self.normalize = normalize
        self.ignore_index = ignore_index
        self.skip_nonfinite = skip_nonfinite
        check_settings(settings_of(self))
        self.centers = _initial_centers(init, shape, dtype, rng)

    @property
    def num_classes(self) -> int:
        """Number of classes K."""
        return len(self.centers)

    @property
    def feat_dim(self) -> int:
        """Number of values D of a feature row."""
        return int(self.centers.shape[1])

    def __call__(
        self,
        features: ArrayLike,
        labels: ArrayLike,
        sample_weight: ArrayLike | None = None,
    ) -> float | Any:
        """Return the loss; see `centerloss.loss`.

        Parameters
        ----------
        features : array_like of shape S + (...)
            The batch: a row of D values for each label.
        labels : array_like of shape S, any integer dtype or bool
            The class of each row. S is (B,), or has more axes.
        sample_weight : array_like of shape S, optional
            The weight of each row: finite and >= 0.

        Returns
        -------
        float or ndarray of shape S
            The loss; one per row, in the centers' dtype, if ``reduction`` is "none".
        """
        return loss(
            features,
            labels,
            self.centers,
            reduction=self.reduction,
            loss_weight=self.loss_weight,
            sample_weight=sample_weight,
            ignore_index=self.ignore_index,
        )

    def value_and_grad(
        self,
        features: ArrayLike,
        labels: ArrayLike,
        sample_weight: ArrayLike | None = None,
        out: NDArray[Any] | None = None,
    ) -> tuple[float | Any, NDArray[Any]]:
        """Return loss and gradient in one pass; see `centerloss.value_and_grad`.

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
            The gradient of the loss with respect to the features; ``out`` if given.
        """
        return value_and_grad(
            features,
            labels,
            self.centers,
            reduction=self.reduction,
            loss_weight=self.loss_weight,
            sample_weight=sample_weight,
            ignore_index=self.ignore_index,
            out=out,
        )

    def update(
        self,
        features: ArrayLike,
        labels: ArrayLike,
        sample_weight: ArrayLike | None = None,
    ) -> int:
        """Update the centers of the classes present; see `centerloss.update_centers`.

        Parameters
        ----------
        features, labels, sample_weight
            As in a call of the object.

        Returns
        -------
        int
            The number of centers updated.
        """
        return update_centers(
            features,
            labels,
            self.centers,
            alpha=self.alpha,
            normalize=self.normalize,
            skip_nonfinite=self.skip_nonfinite,
            sample_weight=sample_weight,
            ignore_index=self.ignore_index,
        )

    def step(
        self,
        features: ArrayLike,
        labels: ArrayLike,
        sample_weight: ArrayLike | None = None,
        out: NDArray[Any] | None = None,
    ) -> tuple[float | Any, NDArray[Any]]:
        """Return loss and gradient, and update the centers; see `centerloss.step`.

        Parameters
        ----------
        features, labels, sample_weight, out
            As in `value_and_grad`.

        Returns
        -------
        loss, gradient
            As from `value_and_grad`, both at the centers before the update.
        """
        return step_of_class(
            features,
            labels,
            self.centers,
            self.alpha,
            self.normalize,
            self.skip_nonfinite,
            self.reduction,
            self.loss_weight,
            sample_weight,
            self.ignore_index,
            out,
        )

    def init_centers(self, features: ArrayLike, labels: ArrayLike) -> int:
        """Set the centers of the classes present to the class means of the features.

        The centers of absent classes stay as they are. If the sum of a class exceeds
        the range of the centers' dtype, its center is infinity, as from `numpy.mean`.

        Parameters
        ----------
        features, labels
            As in a call of the object.

        Returns
        -------
        int
            The number of centers set.

        Raises
        ------
        TypeError, ValueError, IndexError
            As from `centerloss.class_sums`.

        Examples
        --------
        >>> loss_fn = CenterLoss(3, 1, init="zeros")
        >>> loss_fn.init_centers([[1.0], [2.0], [7.0]], [2, 2, 0])
        2
        >>> loss_fn.centers.ravel()
        array([7. , 0. , 1.5], dtype=float32)
        """
        centers = self.centers
        zero = zero_centers(centers.shape, centers.dtype)
        classes, sums, counts = class_sums(
            features, labels, zero, ignore_index=self.ignore_index
        )
        means = (sums / counts[:, np.newaxis]).astype(centers.dtype)
        centers[classes] = means
        return len(classes)

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of the centers, and the settings as plain Python values.

        Returns
        -------
        dict
            Keys "centers", "alpha", "loss_weight", "reduction", "normalize",
            "ignore_index" and "skip_nonfinite".

        Raises
        ------
        TypeError, ValueError
            If the centers or a setting are invalid.
        """
        check_centers(self.centers, written=False)
        return {"centers": self.centers.copy(), **check_settings(settings_of(self))}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set centers and settings: all of them or, on an error, none.

        The values are copied into the existing array of centers.

        Parameters
        ----------
        state : mapping
            As `state_dict` returns it. "skip_nonfinite" may be missing, as in older
            states; it is True then.

        Raises
        ------
        TypeError
            If ``state`` is not a mapping, or a setting is of the wrong type.
        ValueError
            If a key is missing or unknown, the centers have another shape or dtype
            than those here, or a setting has a wrong value.
        """
        if not isinstance(state, Mapping):
            kind = type(state).__name__
            raise TypeError(f"state is a {kind}, expected a dict as from state_dict()")
        check_keys("state", state, ("centers", *SETTINGS))
        centers, own = np.asarray(state["centers"]), self.centers
        if centers.shape != own.shape:
            raise ValueError(f"centers has shape {centers.shape}, expected {own.shape}")
        if centers.dtype.newbyteorder("=") != own.dtype:
            raise ValueError(f"centers has dtype {centers.dtype}, expected {own.dtype}")
        given = {name: state[name] for name in SETTINGS if name in state}
        settings = check_settings(given)
        check_centers(own, written=True)
        # Everything is checked: from here on nothing raises, so all values are set.
        own[...] = centers
        for name in SETTINGS:
            setattr(self, name, settings[name])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save centers and settings to a file in NumPy's .npz format.

        The file is written under a temporary name in the same folder and then renamed,
        so a crash leaves an existing file as it was. The new file keeps the permissions
        of the existing one. A process that is killed may leave a file
        ``.centerloss-*.tmp`` behind, which can be deleted.

        Parameters
        ----------
        path : str or path-like
            The file to write; no suffix is added.

        Raises
        ------
        TypeError, ValueError
            If the centers or a setting are invalid; an existing file stays.
        ValueError
            If ``path`` exists and is not a regular file.
        OSError
            If the file cannot be written; an existing file stays.
        """
        check_centers(self.centers, written=False)
        # None as an empty array: an array with None in it would have to be pickled.
        settings: dict[str, Any] = {
            name: [] if value is None else value
            for name, value in check_settings(settings_of(self)).items()
        }
        with atomic_write(path) as file:
            write_npz(file, format=_FILE_FORMAT, centers=self.centers, **settings)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Return the object that `save` wrote to a file; nothing is unpickled.

        Parameters
        ----------
        path : str or path-like
            The file, or a folder that a ``ShardedCenterLoss`` saved.

        Returns
        -------
        CenterLoss
            Its centers have the byte order of this machine.

        Raises
        ------
        OSError
            If there is no such file, or it cannot be opened.
        ValueError
            If the file or folder is damaged, or is not one that `save` writes.
        """
        name = os.fsdecode(path)
        if os.path.isdir(name):
            centers, settings = read_folder(name)
            return cls(*centers.shape, init=centers, **settings)
        with open(name, "rb") as file:
            try:
                centers, settings = _read_state(file)
            except MemoryError:
                raise
            except Exception as error:  # zipfile and NumPy raise many types for damage
                reason = str(error) or repr(error)
                raise ValueError(f"{name} is no saved CenterLoss: {reason}") from error
        return cls(*centers.shape, init=centers, **settings)

    def __getstate__(self) -> object:
        # Pickle protocols 0 and 1 refuse a class with __slots__ that lacks this method.
        return super().__getstate__()

    def __repr__(self) -> str:
        named = settings_text(settings_of(self) | {"dtype": self.centers.dtype.name})
        kind = type(self).__name__
        return f"{kind}({self.num_classes}, {self.feat_dim}, {named})"


def _initial_centers(
    init: Any, shape: tuple[int, int], dtype: DTypeLike, rng: Any
) -> NDArray[Any]:
    if isinstance(init, np.ndarray):
        if init.shape != shape:
            raise ValueError(f"init has shape {init.shape}, expected {shape}")
        check_centers(init, written=True, name="init")
        return init
    check_init(init, "a NumPy array")
    centers = np.zeros(shape, float_dtype(dtype))
    if init == "normal":
        np.random.default_rng(rng).standard_normal(dtype=centers.dtype, out=centers)
    return centers


def _read_state(file: BinaryIO) -> tuple[NDArray[Any], dict[str, Any]]:
    """Read and check the centers and the settings that `CenterLoss.save` wrote."""
    state = read_npz(file, ("format", "centers", *SETTINGS))
    file_format = state.pop("format").item()
    if file_format != _FILE_FORMAT:
        raise ValueError(f"its format is {file_format!r}, expected {_FILE_FORMAT}")
    centers = state.pop("centers")
    centers = np.asarray(centers, centers.dtype.newbyteorder("="), order="C")
    check_centers(centers, written=True)
    settings = {name: x.item() if x.size else None for name, x in state.items()}
    return centers, check_settings(settings)

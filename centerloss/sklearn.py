"""An estimator for scikit-learn that classifies by the nearest center."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Real
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from sklearn import get_config
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.preprocessing import LabelEncoder
from sklearn.utils import Tags, check_array, gen_batches
from sklearn.utils.multiclass import check_classification_targets, unique_labels
from sklearn.utils.validation import check_is_fitted, validate_data

from ._nearest import NearestCenters, half_squares, rows_per_block
from ._running import RunningCenters

__all__ = ["CenterClassifier"]

_METRICS = ("euclidean", "cosine")
_FLOATS = [np.float64, np.float32]  # other dtypes become the first


class CenterClassifier(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClassifierMixin, BaseEstimator
):
    """Nearest center classifier that learns from a stream of batches.

    Each class has a center, and a row gets the class of the nearest one. With the
    default settings, a center is the mean of all rows of its class so far, as in
    `sklearn.neighbors.NearestCentroid`, but `partial_fit` takes them in any number of
    batches. With a rate, centers follow classes that drift.

    Parameters
    ----------
    metric : {"euclidean", "cosine"}, default "euclidean"
        The distance. With "cosine" it is one minus the cosine of the angle; each row
        is divided by its length first, and centers are means of such rows.
    learning_rate : "mean" or float >= 0, default "mean"
        How far a batch moves the centers of its classes. "mean": to the mean of all
        rows so far, weighted by `sample_weight`. A float: the rate alpha of Eq. 4 of
        [1]_, ``c -= alpha * sum(c - x) / (1 + n)`` for the n rows of the class in the
        batch. In the first batch that has rows of a class, its center is their mean in
        either case, so the rate does not change what `fit` does.
    shrink_threshold : float > 0, optional
        Threshold for shrinking the centers towards the mean of all rows, in units of
        the standard deviation of each feature within the classes [2]_, as in
        `NearestCentroid`. It needs ``learning_rate="mean"``.
    working_memory : float > 0, optional
        MiB of temporary arrays for distances, beside the result; by default, that of
        `sklearn.get_config`.

    Attributes
    ----------
    classes_ : ndarray of shape (K,)
        The labels of the classes.
    centers_ : ndarray of shape (K, D), float32 or float64
        The centers, with the dtype of the first batch. They are NaN for a class that
        had no rows so far.
    class_count_ : ndarray of shape (K,), float64
        The number of rows of each class so far, or the sum of their weights.
    n_features_in_ : int
        The number of features D.
    feature_names_in_ : ndarray of shape (D,)
        The names of the features, if the first batch has names that are strings.

    See Also
    --------
    sklearn.neighbors.NearestCentroid : The same for all rows at once.
    centerloss.CenterLoss : Centers that pull on features which are learned.

    Notes
    -----
    Sums and distances are computed in float64. Predictions are those of differences,
    ``sum((x - c) ** 2)``, whatever the order of sums in the matrix products that find
    the candidates, so they do not depend on the number of threads. The first of
    equally near classes is predicted. A class that had no rows is never predicted.

    A row of zeros has no direction: with "cosine", its distance to every center is 1.

    References
    ----------
    .. [1] Y. Wen, K. Zhang, Z. Li, Y. Qiao, "A Discriminative Feature Learning
       Approach for Deep Face Recognition", ECCV 2016.
    .. [2] R. Tibshirani, T. Hastie, B. Narasimhan, G. Chu, "Diagnosis of multiple
       cancer types by shrunken centroids of gene expression", PNAS 99 (10), 2002.

    Examples
    --------
    >>> import numpy as np
    >>> from centerloss.sklearn import CenterClassifier
    >>> X = np.array([[0.0, 1.0], [0.0, 3.0], [4.0, 0.0]])
    >>> classifier = CenterClassifier().fit(X, ["up", "up", "right"])
    >>> classifier.centers_
    array([[4., 0.],
           [0., 2.]])
    >>> classifier.predict([[1.0, 1.0]])
    array(['up'], dtype='<U5')
    >>> classifier.partial_fit([[2.0, 0.0]], ["right"]).centers_
    array([[3., 0.],
           [0., 2.]])
    """

    classes_: NDArray[Any]
    centers_: NDArray[Any]
    class_count_: NDArray[np.float64]
    n_features_in_: int
    feature_names_in_: NDArray[Any]
    _running: RunningCenters

    def __init__(
        self,
        metric: Literal["euclidean", "cosine"] = "euclidean",
        *,
        learning_rate: Literal["mean"] | float = "mean",
        shrink_threshold: float | None = None,
        working_memory: float | None = None,
    ) -> None:
        self.metric = metric
        self.learning_rate = learning_rate
        self.shrink_threshold = shrink_threshold
        self.working_memory = working_memory

    def fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Set the centers to the class means; what was learned before is forgotten.

        Parameters
        ----------
        X : array-like of shape (n, D)
            The rows: finite numbers.
        y : array-like of shape (n,)
            The class of each row: integers, strings, or other labels.
        sample_weight : array-like of shape (n,), optional
            The weight of each row: finite and >= 0. A row of weight 2 counts as two.

        Returns
        -------
        CenterClassifier
            The object itself.

        Raises
        ------
        TypeError, ValueError
            If a parameter or an argument is invalid.
        """
        self._check_parameters()
        with _unchanged_on_error(self):
            self._learn(X, y, sample_weight, first=True)
        return self

    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Move the centers of the classes in a batch.

        Parameters
        ----------
        X : array-like of shape (n, D)
            The rows: finite numbers. They get the dtype of the first batch.
        y : array-like of shape (n,)
            The class of each row, one of `classes`.
        classes : array-like of shape (K,), optional
            All labels that can come. Required in the first call, unless `fit` was
            called.
        sample_weight : array-like of shape (n,), optional
            The weight of each row: finite and >= 0. A row of weight 2 counts as two.

        Returns
        -------
        CenterClassifier
            The object itself.

        Raises
        ------
        TypeError, ValueError
            If a parameter or an argument is invalid. The object is as it was before.
        """
        self._check_parameters()
        first = not hasattr(self, "classes_")
        if first:
            if classes is None:
                raise ValueError(
                    "classes must be passed on the first call to partial_fit."
                )
            classes = unique_labels(classes)
        elif classes is not None and not self._are_own(classes):
            raise ValueError(
                f"`classes={classes!r}` is not the same as on last call to "
                f"partial_fit, was: {self.classes_!r}"
            )
        with _unchanged_on_error(self):
            self._learn(X, y, sample_weight, first=first, classes=classes)
        return self

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the class of the nearest center for each row.

        Parameters
        ----------
        X : array-like of shape (n, D)
            The rows: finite numbers.

        Returns
        -------
        ndarray of shape (n,)
            The labels.

        Raises
        ------
        NotFittedError
            If no batch was learned so far.
        TypeError, ValueError
            If an argument is invalid.
        """
        X = self._validated(X)
        seen, centers, offsets = self._seen()
        find = NearestCenters(centers, offsets)
        codes = np.empty(len(X), np.intp)
        for block, rows in self._blocks(X):
            nearest = find(rows)
            if self.metric == "cosine":
                nearest[~rows.any(axis=1)] = 0  # equally near to all
            codes[block] = seen[nearest]
        predicted: NDArray[Any] = self.classes_[codes]
        return predicted

    def decision_function(self, X: ArrayLike) -> NDArray[Any]:
        """Return minus half the squared distance of each row to each center.

        With the metric "cosine", rows and centers have length 1, so that this is minus
        the distance.

        Parameters
        ----------
        X : array-like of shape (n, D)
            The rows: finite numbers.

        Returns
        -------
        ndarray of shape (n, K)
            The largest value of a row belongs to the predicted class. It is minus
            infinity for a class that had no rows so far. With two classes, the shape is
            (n,), and the value is that of the second class minus that of the first.

        Raises
        ------
        NotFittedError
            If no batch was learned so far.
        TypeError, ValueError
            If an argument is invalid.
        """
        X = self._validated(X)
        binary = len(self.classes_) == 2
        shape = (len(X),) if binary else (len(X), len(self.classes_))
        scores = np.empty(shape, self._result_dtype(X))
        for block, halves in self._halves(X):
            scores[block] = _difference(halves) if binary else -halves
        return scores

    def transform(self, X: ArrayLike) -> NDArray[Any]:
        """Return the distance of each row to each center.

        Parameters
        ----------
        X : array-like of shape (n, D)
            The rows: finite numbers.

        Returns
        -------
        ndarray of shape (n, K)
            The distances; infinity for a class that had no rows so far.

        Raises
        ------
        NotFittedError
            If no batch was learned so far.
        TypeError, ValueError
            If an argument is invalid.
        """
        X = self._validated(X)
        distances = np.empty((len(X), len(self.classes_)), self._result_dtype(X))
        for block, halves in self._halves(X):
            euclidean = self.metric == "euclidean"
            distances[block] = np.sqrt(2 * halves) if euclidean else halves
        return distances

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    @property
    def _n_features_out(self) -> int:
        """Number of columns of `transform`, for the names of these."""
        return len(self.classes_)

    def _check_parameters(self) -> None:
        """Raise what scikit-learn raises for its own estimators, in the same words."""
        rate, positive = self.learning_rate, "a float in the range (0.0, inf) or None"
        for name, valid, expected in (
            (
                "metric",
                isinstance(self.metric, str) and self.metric in _METRICS,
                "a str among {'cosine', 'euclidean'}",
            ),
            (
                "learning_rate",
                rate == "mean" if isinstance(rate, str) else _is_rate(rate),
                "a str among {'mean'} or a float in the range [0.0, inf)",
            ),
            ("shrink_threshold", _is_none_or_positive(self.shrink_threshold), positive),
            ("working_memory", _is_none_or_positive(self.working_memory), positive),
        ):
            if not valid:
                raise ValueError(
                    f"The {name!r} parameter of {type(self).__name__} must be "
                    f"{expected}. Got {getattr(self, name)!r} instead."
                )
        if self.shrink_threshold is not None and rate != "mean":
            raise ValueError(
                f"shrink_threshold={self.shrink_threshold!r} needs "
                f"learning_rate='mean'. Got {rate!r} instead."
            )

    def _learn(
        self, X: Any, y: Any, sample_weight: Any, *, first: bool, classes: Any = None
    ) -> None:
        """Check a batch and move the centers; in the first one, from nothing."""
        dtype = _FLOATS if first else self.centers_.dtype
        X, y = validate_data(self, X, y, reset=first, dtype=dtype)
        weights = None if sample_weight is None else _checked_weights(sample_weight, X)
        codes = self._encoded(y, classes, first)
        shrinks = self.shrink_threshold is not None
        if first:
            self._running = RunningCenters(
                len(self.classes_), X.shape[1], X.dtype, with_squares=shrinks
            )
        running = self._running
        if shrinks and running.squares is None:
            raise ValueError(
                "shrink_threshold was None when the first batch was learned. Call "
                "fit, or set shrink_threshold before the first batch."
            )
        if weights is not None and not (weights.any() or running.counts.any()):
            raise ValueError(
                "Sample weights must contain at least one non-zero number."
            )
        rows = X if self.metric == "euclidean" else _unit_rows(X, X.dtype)
        alpha = None if self.learning_rate == "mean" else float(self.learning_rate)
        running.add(rows, codes, weights, alpha)
        self.class_count_ = running.counts
        self.centers_ = running.centers
        if self.shrink_threshold is not None:
            self.centers_ = running.shrunk(self.shrink_threshold)

    def _are_own(self, classes: ArrayLike) -> bool:
        """Return whether these are `classes_`, in any order and number."""
        own = self.classes_
        # Sorting many labels takes longer than the rest of a call.
        return np.array_equal(own, classes) or np.array_equal(
            own, unique_labels(classes)
        )

    def _encoded(self, y: Any, classes: Any, first: bool) -> Any:
        """Return the index of each label; the first batch sets what they can be."""
        if first and classes is None:
            check_classification_targets(y)
            encoder = LabelEncoder()
            codes = encoder.fit_transform(y)
            self.classes_ = encoder.classes_
            return codes
        if first:
            self.classes_ = classes
        return _index_of_labels(y, self.classes_)

    def _validated(self, X: Any) -> NDArray[Any]:
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=_FLOATS)
        return np.asarray(X)

    def _result_dtype(self, X: NDArray[Any]) -> np.dtype[Any]:
        return np.result_type(X, self.centers_)

    def _seen(self) -> tuple[NDArray[np.intp], NDArray[Any], NDArray[np.float64]]:
        """Return the classes with rows, and their centers and `half_squares` offsets.

        With "cosine", centers have length 1. A center of zeros has distance 1 from all
        rows: half a squared length, and an offset of one half.
        """
        seen = np.flatnonzero(self.class_count_)
        centers = self.centers_[seen]
        offsets = np.zeros(len(seen))
        if self.metric == "cosine":
            offsets[~centers.any(axis=1)] = 0.5
            centers = _unit_rows(centers, np.float64)
        return seen, centers, offsets

    def _blocks(self, X: NDArray[Any]) -> Iterator[tuple[slice, NDArray[Any]]]:
        """Yield the rows in blocks within `working_memory`."""
        memory = self.working_memory
        if memory is None:
            memory = get_config()["working_memory"]
        limit = float(memory) * 2**20
        count = rows_per_block(X.shape[1], len(self.classes_), limit)
        for block in gen_batches(len(X), count):
            rows = X[block]
            if self.metric == "cosine":
                rows = _unit_rows(rows, np.float64)
            yield block, rows

    def _halves(self, X: NDArray[Any]) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        """Yield half the squared distances to all classes, in blocks of rows."""
        seen, centers, offsets = self._seen()
        for block, rows in self._blocks(X):
            halves = np.full((len(rows), len(self.classes_)), np.inf)
            halves[:, seen] = half_squares(rows, centers, offsets)
            if self.metric == "cosine":
                zeros = np.flatnonzero(~rows.any(axis=1))
                halves[zeros[:, np.newaxis], seen] = 1
            del rows  # its memory is free while the next block is made
            yield block, halves


def _is_rate(value: Any) -> bool:
    return isinstance(value, Real) and 0 <= float(value) < np.inf


def _is_none_or_positive(value: Any) -> bool:
    return value is None or (isinstance(value, Real) and 0 < float(value) < np.inf)


def _index_of_labels(y: NDArray[Any], classes: NDArray[Any]) -> NDArray[np.intp]:
    """Return the index of each label among the sorted classes; raise if it is none.

    `LabelEncoder.transform` would cast labels to the dtype of the classes, where 0.5
    becomes 0 and longer strings are cut off.
    """
    codes: NDArray[np.intp] = np.searchsorted(classes, y)
    known = codes < len(classes)
    known[known] = classes[codes[known]] == y[known]
    if not known.all():
        unseen = np.unique(y[~known]).tolist()
        raise ValueError(f"y contains previously unseen labels: {unseen}")
    return codes


def _checked_weights(sample_weight: Any, X: NDArray[Any]) -> NDArray[np.float64]:
    """Return the weights; raise unless they are one number >= 0 per row."""
    weights: NDArray[np.float64] = check_array(
        sample_weight,
        ensure_2d=False,
        dtype=np.float64,
        ensure_non_negative=True,
        input_name="sample_weight",
    )
    if weights.shape != (len(X),):
        raise ValueError(
            f"sample_weight.shape == {weights.shape}, expected {(len(X),)}!"
        )
    return weights


def _unit_rows(rows: NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
    """Return the rows divided by their lengths, which are computed in float64.

    Rows of zeros stay as they are.
    """
    units = np.empty(rows.shape, dtype)
    for block in gen_batches(len(rows), max(1, min(len(rows) // 4, 1024))):
        values = rows[block].astype(np.float64)
        # First by the largest number, so that squares neither overflow nor vanish.
        for order in (np.inf, 2):
            sizes = np.linalg.norm(values, order, axis=1, keepdims=True)
            sizes[sizes == 0] = 1
            values /= sizes
        units[block] = values
    return units


def _difference(halves: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the first column minus the second; 0 where both are infinite."""
    first, second = halves.T
    difference = np.zeros(len(halves))
    np.subtract(first, second, out=difference, where=first != second)
    return difference


@contextmanager
def _unchanged_on_error(estimator: BaseEstimator) -> Iterator[None]:
    """Give the object the attributes that it had, if the block raises."""
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise

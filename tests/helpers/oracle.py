"""Center loss in exact arithmetic, and the distance of a result from it.

A finite float is an integer times a power of two, so an array of floats is an array
of Python integers over one common power of two. Sums, differences and products of
those are exact; only the last division is rounded, once, to float64 (Python divides
integers correctly rounded). Nothing here calls the code under test.
"""

from fractions import Fraction
from functools import cached_property

import ml_dtypes
import numpy as np

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)

# Bits of the significand, and exponent of the smallest normal number.
FORMATS = {
    np.dtype(np.float16): (11, -14),
    BFLOAT16: (8, -126),
    np.dtype(np.float32): (24, -126),
    np.dtype(np.float64): (53, -1022),
}


def ulp(exact, dtype):
    """Distance between neighbouring numbers of `dtype` at the values `exact`."""
    bits, smallest = FORMATS[np.dtype(dtype)]
    fraction, exponent = np.frexp(np.asarray(exact, np.float64))
    exponent = np.where(fraction == 0, smallest, exponent)
    return np.ldexp(1.0, np.maximum(exponent - 1, smallest) - (bits - 1))


def worst_ulps(got, exact, dtype):
    """The largest error of `got`, in units of `dtype` in the last place of `exact`."""
    error = np.abs(np.asarray(got, np.float64) - exact) / ulp(exact, dtype)
    return error.max(initial=0.0)


def integers(array):
    """Python integers n and an exponent e with array == n * 2**e, exactly."""
    fraction, exponent = np.frexp(np.asarray(array).astype(np.float64))
    exponent = np.where(fraction == 0, 0, exponent).astype(np.int64) - 53
    lowest = int(exponent.min(initial=0))
    mantissa = np.ldexp(fraction, 53).astype(np.int64).astype(object)
    return mantissa << (exponent - lowest).astype(object), lowest


def on_one_scale(*arrays):
    """`integers` of each array, all over the same power of two."""
    pairs = [integers(array) for array in arrays]
    lowest = min(exponent for _, exponent in pairs)
    return [n << (exponent - lowest) for n, exponent in pairs], Fraction(2) ** lowest


def rounded(numerators, factor):
    """Integers times a fraction, rounded once to float64."""
    numerators = np.asarray(numerators, dtype=object) * factor.numerator
    return np.asarray(numerators / factor.denominator, dtype=np.float64)


class Exact:
    """Center loss of a batch, each result rounded once to float64.

    Labels are all inside the classes, and no row is ignored: rows that do not count
    are left out by the test.
    """

    def __init__(self, features, labels, centers, *, sample_weight=None):
        labels = np.asarray(labels)
        rows = np.asarray(features).reshape(len(labels), centers.shape[1])
        weights = np.ones(len(labels)) if sample_weight is None else sample_weight
        (x, self.c), self.scale = on_one_scale(rows, centers)
        (self.w,), self.weight_scale = on_one_scale(weights)
        self.labels = labels
        self.d = x - self.c[labels]
        self.weighted = self.w[:, np.newaxis] * self.d
        self.rows, self.centers = rows.astype(np.float64), centers.astype(np.float64)

    def factor(self, reduction, loss_weight):
        """loss_weight, divided by the sum of the weights for "mean"."""
        total = int(sum(self.w)) * self.weight_scale
        if reduction != "mean":
            return Fraction(loss_weight)
        return Fraction(loss_weight) / total if total else Fraction(0)

    def loss(self, reduction, loss_weight=1.0):
        """Row by row for "none", otherwise one number."""
        rows = self._row_losses
        factor = self.factor(reduction, loss_weight) * self.weight_scale / 2
        total = rows if reduction == "none" else int(sum(rows))
        return rounded(total, factor * self.scale**2)

    def gradient(self, reduction, loss_weight=1.0):
        factor = self.factor(reduction, loss_weight) * self.weight_scale
        return rounded(self.weighted, factor * self.scale)

    @cached_property
    def _row_losses(self):
        """w_i ||d_i||^2, as integers over `scale**2 * weight_scale`."""
        return (self.weighted * self.d).sum(axis=1)

    def classes(self):
        return np.unique(self.labels)

    @cached_property
    def _rows_of(self):
        """The rows of each class."""
        order = np.argsort(self.labels, kind="stable")
        starts = np.searchsorted(self.labels[order], self.classes())
        return dict(zip(self.classes(), np.split(order, starts)[1:], strict=True))

    @cached_property
    def _counts(self):
        return {j: int(sum(self.w[i])) for j, i in self._rows_of.items()}

    def count(self, j):
        return self._counts[j] * self.weight_scale

    @cached_property
    def _pulls(self):
        """sum_i w_i (c_j - x_i), as integers over `scale * weight_scale`."""
        return {j: -self.weighted[i].sum(axis=0) for j, i in self._rows_of.items()}

    def sums(self):
        """(U, D) sums of w_i (x_i - c_j) over the classes present."""
        pulls = list(self._pulls.values())
        shape = (len(pulls), self.c.shape[1])
        return rounded(pulls, -self.scale * self.weight_scale).reshape(shape)

    def deltas(self, normalize=True):
        """(K, D) center deltas."""
        result = np.zeros(self.centers.shape)
        for j in self.classes():
            factor = self.scale * self.weight_scale
            if normalize:
                factor /= 1 + self.count(j)
            result[j] = rounded(self._pulls[j], factor)
        return result

    def moved(self, alpha, normalize=True):
        """(K, D) centers after an update."""
        result = self.centers.copy()
        for j in self.classes():
            # c - rate * pull, over the denominator of rate
            rate = Fraction(alpha) * self.weight_scale
            if normalize:
                rate /= 1 + self.count(j)
            numerators = self.c[j] * rate.denominator - self._pulls[j] * rate.numerator
            result[j] = rounded(numerators, self.scale / rate.denominator)
        return result

    def operands(self, moved, *, differences):
        """(K, D) largest operand of each element's update: |c|, |x|, |result|, |d|."""
        largest = np.maximum(np.abs(self.centers), np.abs(moved))
        rows = np.abs(self.rows)
        if differences:
            rows = np.maximum(rows, np.abs(rounded(self.d, self.scale)))
        np.maximum.at(largest, self.labels, rows)
        return largest

    def magnitudes(self):
        """(U, D) sums of |w_i (x_i - c_j)|: the scale of the errors of `sums`."""
        products = abs(self.weighted)
        sums = [products[i].sum(axis=0) for i in self._rows_of.values()]
        shape = (len(sums), self.c.shape[1])
        return rounded(sums, self.scale * self.weight_scale).reshape(shape)

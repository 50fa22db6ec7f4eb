"""Promise 1: as exact as the dtype allows, measured against exact arithmetic.

Errors are counted in units in the last place (ulp) of the exact result, or of the
largest operand where results may cancel. See `oracle` for the exact arithmetic.
"""

from fractions import Fraction

import numpy as np
import pytest

from tests.helpers.batches import C, reference
from tests.helpers.oracle import BFLOAT16, Exact, ulp

# Around multiples of 16, where vector code processes whole vectors or a remainder.
FEATURES = [
    *(1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 20, 24, 31, 32, 33, 40, 47, 48, 49),
    *(63, 64, 65, 79, 80, 81, 95, 96, 97, 112, 127, 128, 129, 191, 192, 193),
    *(255, 256, 257, 383, 384, 511, 512, 513, 1000, 1023, 1024, 1025, 2047, 2048),
]
FEW_FEATURES = [1, 2, 3, 15, 16, 17, 31, 33, 64, 127, 129, 256, 1023, 2048]
ROWS_CLASSES = [(1, 1), (2, 3), (3, 2), (5, 1), (7, 4), (16, 5), (17, 3), (33, 40)]
ELEMENTS = 4000  # of a batch: exact arithmetic is slow


def plain(rng, shape):
    return rng.standard_normal(shape)


def offset(rng, shape):
    """Far from zero compared with their distance: x^2 - 2xc + c^2 fails here."""
    return 1000 + rng.standard_normal(shape)


def wide(rng, shape):
    """Many orders of magnitude within the range of float16."""
    return rng.standard_normal(shape) * 10.0 ** rng.uniform(-4, 3, shape)


def tenths(rng, shape):
    """Similar positive numbers: rounding errors add up in one direction."""
    return 0.1 * rng.integers(1, 3, shape)


KINDS = [plain, offset, wide, tenths]


# The reference takes part in `make test` where that costs little.
reference_is_slow = pytest.mark.parametrize(
    "cl",
    [C, reference(pytest.mark.slow)],
    indirect=True,
    scope="session",
)


class Case:
    """A batch; every third one has no sample weights."""

    def __init__(self, number, rows, row, classes, dtype, centers_dtype, kind=None):
        rng = np.random.default_rng([number, rows, row, classes])
        kind = kind or KINDS[number % len(KINDS)]
        self.features = kind(rng, (rows, row)).astype(dtype)
        self.labels = rng.integers(0, classes, rows)
        self.centers = kind(rng, (classes, row)).astype(centers_dtype)
        self.weights = rng.uniform(0.1, 3, rows) if number % 3 else None
        self.loss_weight = (1.0, 0.003, 7)[number % 3]
        self.exact = Exact(
            self.features, self.labels, self.centers, sample_weight=self.weights
        )
        self.arguments = (self.features, self.labels, self.centers)
        self.options = {"sample_weight": self.weights}

    def value_and_grad(self, cl, reduction):
        return cl.value_and_grad(
            *self.arguments,
            reduction=reduction,
            loss_weight=self.loss_weight,
            **self.options,
        )

    def moved(self, cl, alpha):
        centers = self.centers.copy()
        cl.update_centers(
            self.features, self.labels, centers, alpha=alpha, **self.options
        )
        return centers


def cases(row, shapes, dtype, centers_dtype):
    for number, (rows, classes) in enumerate(shapes):
        fitting = max(1, min(rows, ELEMENTS // row))
        yield Case(number + row, fitting, row, classes, dtype, centers_dtype)


def unit(exact, dtype):
    """One ulp of each value; for float64, 1e-13 of it."""
    return 1e-13 * np.abs(exact) if dtype == np.float64 else ulp(exact, dtype)


def assert_within(units, got, exact, dtype):
    error = np.abs(np.asarray(got, np.float64) - exact)
    assert np.all(error <= units * unit(exact, dtype))


def check(cl, case):
    """Loss 4 ulp, gradient 2, centers 1 of the largest operand; float64: `unit`."""
    exact, dtype = case.exact, case.centers.dtype
    loss_units, gradient_units = (1, 1) if dtype == np.float64 else (4, 2)
    for reduction in ("none", "sum", "mean"):
        loss, gradient = case.value_and_grad(cl, reduction)
        expected = exact.loss(reduction, case.loss_weight)
        assert_within(loss_units, np.asarray(loss, dtype), expected, dtype)
        if reduction != "none":  # whose gradient is that of "sum"
            expected = exact.gradient(reduction, case.loss_weight)
            assert_within(gradient_units, gradient, expected, case.features.dtype)
    for alpha in (0.5, 1.0):
        expected = exact.moved(alpha)
        operands = exact.operands(expected, differences=alpha == 1.0)
        error = np.abs(case.moved(cl, alpha) - expected)
        assert np.all(error <= unit(operands, dtype))


def check_sums(cl, case):
    """Sums and deltas, whose errors are relative to the sum of the |w_i d_i|."""
    exact = case.exact
    tolerance = 1e-13 if case.centers.dtype == np.float64 else 1.5 * 2**-23
    classes, sums, counts = cl.class_sums(*case.arguments, **case.options)
    magnitudes = exact.magnitudes()
    assert classes.tolist() == exact.classes().tolist()
    assert np.all(np.abs(sums - exact.sums()) <= tolerance * magnitudes)
    for j, count in zip(classes, counts, strict=True):
        assert abs(Fraction(count) - exact.count(j)) <= 1e-13 * exact.count(j)
    for normalize in (False, True):
        delta = cl.center_delta(*case.arguments, normalize=normalize, **case.options)
        divisor = 1 + counts[:, np.newaxis] if normalize else 1
        error = np.abs(delta - exact.deltas(normalize))[classes]
        assert np.all(error <= tolerance * magnitudes / divisor)


@reference_is_slow
@pytest.mark.parametrize("row", FEATURES)
def test_float32(cl, row):
    for case in cases(row, ROWS_CLASSES, np.float32, np.float32):
        check(cl, case)
        check_sums(cl, case)


@pytest.mark.parametrize("row", FEW_FEATURES)
def test_float64(cl, row):
    for case in cases(row, ROWS_CLASSES[3:], np.float64, np.float64):
        check(cl, case)
        check_sums(cl, case)


@pytest.mark.parametrize("row", FEW_FEATURES)
@pytest.mark.parametrize("dtype", [np.float16, BFLOAT16], ids=["float16", "bfloat16"])
def test_half(cl, dtype, row):
    for case in cases(row, ROWS_CLASSES[4:], dtype, np.float32):
        check(cl, case)


wide_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@wide_dtypes
@pytest.mark.parametrize("rows", [255, 256, 257, 511, 512, 513, 1023, 1025, 4097])
@pytest.mark.parametrize("classes", [1, 3])
def test_long_classes(cl, rows, classes, dtype):
    """Around the lengths at which a sum might be split."""
    check(cl, Case(rows + classes, rows, 3, classes, dtype, dtype))


@reference_is_slow
@wide_dtypes
@pytest.mark.parametrize(("weighted", "kind"), [(1, plain), (0, tenths)])
def test_100_000_rows_of_a_class(cl, kind, weighted, dtype):
    case = Case(weighted, 100_000, 2, 1, dtype, dtype, kind)
    check(cl, case)
    check_sums(cl, case)


@reference_is_slow
@wide_dtypes
@pytest.mark.parametrize("number", [0, 1], ids=["plain", "weighted"])
def test_many_rows_of_few_classes(cl, number, dtype):
    """Several segments, in batch order."""
    case = Case(number, 70_000, 2, 300, dtype, dtype)
    check(cl, case)
    check_sums(cl, case)


@pytest.mark.parametrize("value", [0.1, 1 / 3, 0.7, 1.1, 1.3])
def test_100_000_equal_rows(cl, value):
    """Each addition rounds in one direction, so a naive sum loses digits."""
    features, centers = np.full((100_000, 1), value), np.zeros((1, 1))
    arguments = (features, np.zeros(100_000, np.int64), centers)
    assert abs(Fraction(cl.loss(*arguments)) / (Fraction(value) ** 2 / 2) - 1) <= 1e-13
    total = 100_000 * Fraction(value)
    loss = cl.loss(*arguments, reduction="sum")
    assert abs(Fraction(loss) / (total * Fraction(value) / 2) - 1) <= 1e-13
    sums = cl.class_sums(*arguments)[1]
    assert abs(Fraction(sums[0, 0]) / total - 1) <= 1e-13


@pytest.mark.parametrize("value", [0.1, 1 / 3, 0.7, 1.1, 1.3])
def test_100_000_equal_weights(cl, value):
    weights = np.full(100_000, value)
    features = np.linspace(1, 2, 100_000)[:, np.newaxis]
    arguments = (features, np.zeros(100_000, np.int64), np.zeros((1, 1)))
    total = 100_000 * Fraction(value)
    gradient = cl.gradient(*arguments, sample_weight=weights)
    expected = features * float(Fraction(value) / total)
    assert np.abs(gradient / expected - 1).max() <= 1e-13
    count = cl.class_sums(*arguments, sample_weight=weights)[2][0]
    assert abs(Fraction(count) / total - 1) <= 1e-13


def test_small_distances_are_not_lost(cl):
    """Where x^2 + c^2 - 2xc has no correct digit in float32."""
    centers = np.full((1, 512), 1000, np.float32)
    features = np.nextafter(centers, np.float32(2000))
    loss = cl.loss(features, [0], centers)
    assert loss == 0.5 * 512 * (2.0**-14) ** 2
    assert np.all(cl.gradient(features, [0], centers) == np.float32(2.0**-14))


class TestOracle:
    """The oracle on a batch computed by hand."""

    features = np.array([[1.0, 2.0], [3.0, 0.5], [1.0, 0.0]], np.float32)
    labels = np.array([2, 2, 0])
    centers = np.array([[1.0, 1.0], [9.0, 9.0], [0.0, 1.0]], np.float32)
    weights = np.array([1.0, 2.0, 1.0])

    def test_plain(self):
        exact = Exact(self.features, self.labels, self.centers)
        assert exact.loss("none").tolist() == [1.0, 4.625, 0.5]
        assert exact.loss("sum") == 6.125
        assert exact.loss("mean", 2) == 2 * 6.125 / 3
        assert exact.gradient("sum").tolist() == [[1, 1], [3, -0.5], [0, -1]]
        assert exact.classes().tolist() == [0, 2]
        assert exact.sums().tolist() == [[0, -1], [4, 0.5]]
        assert exact.magnitudes().tolist() == [[0, 1], [4, 1.5]]
        assert exact.deltas().tolist() == [[0, 0.5], [0, 0], [-4 / 3, -0.5 / 3]]
        assert exact.moved(0.75).tolist() == [[1, 0.625], [9, 9], [1, 1.125]]

    def test_weighted(self):
        exact = Exact(
            self.features, self.labels, self.centers, sample_weight=self.weights
        )
        assert exact.loss("none").tolist() == [1.0, 9.25, 0.5]
        assert exact.loss("mean") == 10.75 / 4
        assert exact.gradient("mean").tolist() == [
            *([0.25, 0.25], [1.5, -0.25], [0, -0.25]),
        ]
        assert exact.count(2) == 3
        assert exact.deltas(normalize=False).tolist() == [[0, 1], [0, 0], [-7, 0]]
        assert exact.moved(1.0).tolist() == [[1, 0.5], [9, 9], [1.75, 1]]
        operands = exact.operands(exact.moved(1.0), differences=True)
        assert operands.tolist() == [[1, 1], [9, 9], [3, 2]]

    def test_ulp(self):
        values = np.array([0.0, 1.0, 1.5, -3.99, 4.0, 1e-42, 6.1e-5, 3e4])
        for dtype in (np.float16, np.float32, np.float64):
            expected = np.abs(np.spacing(values.astype(dtype))).astype(np.float64)
            assert ulp(values.astype(dtype), dtype).tolist() == expected.tolist()
        assert ulp(1.0, BFLOAT16) == 2.0**-7

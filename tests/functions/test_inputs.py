"""Accepted inputs: shapes, classes, lists, array-likes, NaN and infinity."""

import math
from array import array

import numpy as np
import pytest

import centerloss
from tests.helpers.batches import CALLS, batch, bits, dtypes, whole_numbers
from tests.helpers.error_cases import good_call

every_call = pytest.mark.parametrize("name", CALLS)


# --- shapes, lists and array-likes ------------------------------------


def test_features_of_one_axis_are_rows_of_one_value(cl):
    x, y = np.array([1, 2, 4], np.float32), [0, 1, 1]
    c = np.array([[0], [1]], np.float32)
    assert cl.loss(x, y, c, reduction="none").tolist() == [0.5, 0.5, 4.5]
    assert cl.gradient(x, y, c, reduction="sum").tolist() == [1, 1, 3]
    out = np.zeros(3, np.float32)
    assert cl.step(x, y, c, alpha=1.5, out=out)[1] is out
    assert c.tolist() == [[0.75], [3]]


def test_every_row_a_class_of_its_own(cl):
    x, _, c = whole_numbers(500, 3, 500)
    y = np.random.default_rng(0).permutation(500)
    classes, sums, counts = cl.class_sums(x, y, c)
    assert classes.tolist() == list(range(500))
    assert counts.tolist() == [1] * 500
    expected = np.zeros_like(c)
    expected[y] = x - c[y]
    assert np.array_equal(sums, expected)
    assert cl.update_centers(x, y, c, alpha=2) == 500
    assert np.array_equal(c[y], x)


@pytest.mark.parametrize("rows", [3, 20, 300])
@pytest.mark.parametrize("classes", [256, 65_536, 1_000_000])
def test_classes_are_ascending_and_few_of_many(cl, rows, classes):
    rng = np.random.default_rng([rows, classes])
    y = rng.integers(0, classes, rows)
    y[:3] = [classes - 1, 0, classes - 1]
    x = np.ones((rows, 2), np.float32)
    c = np.zeros((classes, 2), np.float32)
    present, count = np.unique(y, return_counts=True)
    found, sums, counts = cl.class_sums(x, y, c)
    assert np.array_equal(found, present)
    assert np.array_equal(counts, count)
    assert np.array_equal(sums, np.stack([count, count], axis=1))
    assert cl.update_centers(x, y, c, normalize=False, alpha=1) == len(present)
    assert np.array_equal(np.flatnonzero(c[:, 0]), present)
    assert np.array_equal(c[present], sums)


@every_call
def test_lists(cl, name):
    function = getattr(cl, name)
    x, y, w = [[1, 0], [3, 4.5], [0, 4]], [0, 2, 2], [1, 2.5, 0]
    for dtype in (np.float32, np.float64):
        c = np.array([[2, 2], [9, 9], [0, 0]], dtype)
        expected = function(
            np.array(x, dtype), np.array(y), c.copy(), sample_weight=np.array(w)
        )
        result = function(x, y, c.copy(), sample_weight=w)
        assert bits(result) == bits(expected)
        rows = tuple(tuple(row) for row in x)
        result = function(rows, tuple(y), c.copy(), sample_weight=tuple(w))
        assert bits(result) == bits(expected)


def test_sequences_of_every_kind(cl):
    """Without a dtype of their own they take that of the centers."""
    x, y, c = np.array([1.5, 2.25, 4]), np.array([0, 1, 1]), np.ones((2, 1), np.float32)
    expected = bits(cl.gradient(x.astype(np.float32), y, c))
    for features in (array("d", x), memoryview(x), [x[:1], x[1:2], x[2:]]):
        gradient = cl.gradient(features, y, c)
        assert bits(np.ravel(gradient)) == (expected[0], (3,), expected[2])
    x = x.astype(np.float32)
    for labels in (array("b", y), memoryview(y), list(y), (0, np.uint8(1), True)):
        assert bits(cl.gradient(x, labels, c)) == expected
    weighted = bits(cl.gradient(x, y, c, sample_weight=np.array([1, 0.5, 0])))
    for weights in (array("f", [1, 0.5, 0]), [True, 0.5, np.float16(0)]):
        assert bits(cl.gradient(x, y, c, sample_weight=weights)) == weighted


class Tensor:
    """An array of another library."""

    def __init__(self, array):
        self.array = array
        self.dtype = f"library.{array.dtype}"

    def __array__(self, dtype=None, copy=None):
        return self.array


class RaisingSequence(list):
    """A sequence whose dtype raises an error."""

    @property
    def dtype(self):
        raise LookupError("no answer")


class RaisingNumber:
    """A number whose conversion raises an error."""

    def __float__(self):
        raise LookupError("no answer")

    __index__ = __float__


@every_call
def test_an_error_in_an_argument_comes_out(cl, name):
    x, y, c = batch((5, 3), 2)
    function, centers = getattr(cl, name), c.copy()
    for arguments in (
        (RaisingSequence(x), y, centers),
        (x[:0], RaisingSequence(), centers),
    ):
        with pytest.raises(LookupError, match="no answer"):
            function(*arguments)
    numbers = good_call(name).keys() & {"alpha", "loss_weight", "ignore_index"}
    for argument in numbers:
        with pytest.raises(LookupError, match="no answer"):
            function(x, y, centers, **{argument: RaisingNumber()})
    assert bits(centers) == bits(c)


class Unreadable(list):
    """A sequence that raises an error whose type takes more than a message."""

    def __array__(self, dtype=None, copy=None):
        raise UnicodeDecodeError("utf-8", b"x", 0, 1, "no text")


@every_call
def test_what_cannot_be_an_array_is_named(cl, name):
    x, y, c = batch((2, 3), 2)
    ragged = [[1, 2, 3], [4]]
    for argument in ("features", "labels", "sample_weight"):
        arguments = {"features": x, "labels": y, "centers": c.copy()}
        for value, error, reason in (
            (ragged, ValueError, "setting an array element with a sequence"),
            (Unreadable([1]), ValueError, "'utf-8' codec can't decode"),
        ):
            with pytest.raises(
                error, match=f"^{argument} cannot be an array: {reason}"
            ):
                getattr(cl, name)(**(arguments | {argument: value}))
    with pytest.raises(ValueError, match="^features cannot .*: could not convert str"):
        getattr(cl, name)([["1", "a", "2"]] * 2, y, c)
    with pytest.raises(TypeError, match="^features cannot be an array: float"):
        getattr(cl, name)((row for row in x), y, c)


class SideEffect:
    """A number that changes other arguments while it is converted."""

    def __init__(self, action):
        self.action = action

    def __index__(self):
        self.action()
        return -1


@pytest.mark.kernels
@every_call
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("changed", "dtype"),
    [
        ("features", "i4"),
        ("labels", "f8"),
        ("centers", "i4"),
        ("sample_weight", "M8[s]"),
        ("out", "i4"),
    ],
)
def test_conversion_of_a_number_changes_a_dtype(name, changed, dtype):
    x, y, c = batch((5, 3), 2)
    arrays = {"features": x, "labels": y.astype(np.int64), "centers": c}
    arrays["sample_weight"] = np.ones(5)
    if changed == "out":
        if name not in ("gradient", "value_and_grad", "step"):
            return
        arrays["out"] = np.empty_like(x)

    def change():
        arrays[changed].dtype = dtype

    with pytest.raises(TypeError, match=f"^{changed} has dtype "):
        getattr(centerloss, name)(**arrays, ignore_index=SideEffect(change))


@pytest.mark.kernels
@every_call
@pytest.mark.parametrize("changed", ["features", "labels", "centers", "sample_weight"])
def test_conversion_of_a_number_resizes_a_subclass(name, changed):
    """Whatever was read from the array before is outdated then."""
    x, y, c = batch((5000, 3), 2)
    given = {"features": x, "labels": y, "centers": c, "sample_weight": np.ones(5000)}
    arrays = {part: np.copy(array).view(Shrinking) for part, array in given.items()}
    arrays[changed] = Shrinking(given[changed].shape, given[changed].dtype)
    arrays[changed][...] = given[changed]

    def change():
        arrays[changed].resize((1, 1), refcheck=False)

    with pytest.raises(ValueError, match=r"shapes? \(1, 1\)|1 values per row|has 1:"):
        getattr(centerloss, name)(**arrays, ignore_index=SideEffect(change))


class Shrinking(np.ndarray):
    """A subclass that owns its memory."""


# Weights: NumPy calls the handler of np.errstate when it converts them, which is
# after all other checks.
SIGNALLING_NAN = np.full(64, 0x7FA00000, np.uint32).view(np.float32)


@pytest.mark.kernels
@every_call
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("changed", ["features", "labels", "centers", "out"])
def test_errstate_handler_changes_a_shape(name, changed):
    x, y, c = batch((64, 1024), 2)
    arrays = {"features": x, "labels": y, "centers": c}
    if name in ("gradient", "value_and_grad", "step"):
        arrays["out"] = np.empty_like(x)

    def handler(*_):
        for argument, values in arrays.items():
            if argument == changed or changed == "out":
                values.shape = (1, values.size)

    with (
        np.errstate(invalid="call", call=handler),
        pytest.raises(ValueError, match=" shape"),
    ):
        getattr(centerloss, name)(**arrays, sample_weight=SIGNALLING_NAN)


@pytest.mark.kernels
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_errstate_handler_changes_the_dtype_of_out():
    x, y, c = batch((64, 8), 2)
    out = np.empty_like(x)

    def handler(*_):
        out.dtype = np.int32

    with (
        np.errstate(invalid="call", call=handler),
        pytest.raises(TypeError, match="^out has dtype int32, expected float32$"),
    ):
        centerloss.step(x, y, c, sample_weight=SIGNALLING_NAN, out=out)


@every_call
def test_arrays_of_other_libraries(cl, name):
    x, y, c = batch((5, 3), 2)
    w = np.ones(5)
    function = getattr(cl, name)
    expected = bits(function(x, y, c.copy(), sample_weight=w))
    result = function(Tensor(x), Tensor(y), c.copy(), sample_weight=Tensor(w))
    assert bits(result) == expected
    with pytest.raises(TypeError, match=r"^features has dtype int64, but centers has"):
        function(Tensor(y), Tensor(y), c)
    with pytest.raises(TypeError, match=r"^labels has dtype float32, expected"):
        function(Tensor(x), Tensor(x), c)
    with pytest.raises(TypeError, match=r"^labels has dtype float32, expected"):
        function(x[:0], Tensor(x[:0, 0]), c)


# --- NaN and infinity ---------------------------------------------------------------


@dtypes
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", [0, 7, 16, 39])
def test_bad_values_stay_in_their_row_and_class(cl, dtype, centers_dtype, bad, column):
    x, y, c = batch((64, 40), 5, dtype=dtype, centers_dtype=centers_dtype)
    w = np.linspace(0.5, 1, 64)
    options = {"reduction": "none", "sample_weight": w}
    expected_centers = c.copy()
    expected_rows, expected = cl.step(x, y, expected_centers, **options)
    row = 20
    x[row, column] = bad
    moved = c.copy()
    rows, gradient = cl.step(x, y, moved, skip_nonfinite=False, **options)

    others = np.arange(64) != row
    assert bits(rows[others]) == bits(expected_rows[others])
    assert bits(gradient[others]) == bits(expected[others])
    assert same(rows[row], abs(bad))
    assert same(gradient[row, column], bad)
    columns = np.arange(40) != column
    assert bits(gradient[row, columns]) == bits(expected[row, columns])
    assert same(cl.loss(x, y, c), abs(bad))

    others = np.arange(5) != y[row]
    assert bits(moved[others]) == bits(expected_centers[others])
    assert same(moved[y[row], column], bad)
    assert bits(moved[y[row], columns]) == bits(expected_centers[y[row], columns])
    delta = cl.center_delta(x, y, c)
    assert same(delta[y[row], column], -bad)
    assert np.isfinite(delta).sum() == delta.size - 1
    sums = cl.class_sums(x, y, c)[1]
    assert same(sums[y[row], column], bad)
    assert np.isfinite(sums).sum() == sums.size - 1


def same(value, expected):
    """Equal, where NaN equals NaN."""
    return np.array_equal(float(value), float(expected), equal_nan=True)


def test_bad_centers_stay_in_their_class(cl):
    x, y, c = batch((64, 40), 5)
    expected = cl.loss(x, y, c, reduction="none")
    c[3, 11] = np.nan
    rows = cl.loss(x, y, c, reduction="none")
    assert np.array_equal(np.isnan(rows), y == 3)
    assert bits(rows[y != 3]) == bits(expected[y != 3])
    for skip in (True, False):
        cl.update_centers(x, y, c, skip_nonfinite=skip)
        assert np.argwhere(np.isnan(c)).tolist() == [[3, 11]]


@every_call
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
def test_bad_values_give_no_warning(cl, name, bad):
    """A warning would be an error here."""
    x, c = np.full((2, 3), bad, np.float32), np.full((1, 3), -bad, np.float32)
    getattr(cl, name)(x, [0, 0], c.copy())
    getattr(cl, name)(x, [0, 0], -c)


def test_infinity_less_infinity(cl):
    x, c = np.full((2, 3), np.inf, np.float32), np.full((1, 3), np.inf, np.float32)
    assert math.isnan(cl.loss(x, [0, 0], c))
    assert np.isnan(cl.gradient(x, [0, 0], c)).all()


def test_infinity_times_a_rate_that_is_zero(cl):
    """alpha / (1 + n_j) is the rate, and 5e-324 / 2 rounds to zero."""
    c = np.ones((1, 2), np.float32)
    x = np.array([[np.inf, 3]], np.float32)
    cl.update_centers(x, [0], c, alpha=5e-324, skip_nonfinite=False)
    assert np.isnan(c[0, 0])
    assert c[0, 1] == 1


def test_overflow_is_infinity(cl):
    """Of float32 where the result has that dtype, and of float64 in the others."""
    x, c = np.full((2, 1), 1e38, np.float32), np.full((1, 1), -1e38, np.float32)
    assert cl.loss(x, [0, 0], c, reduction="none").tolist() == [math.inf] * 2
    assert cl.loss(x, [0, 0], c) == pytest.approx(2e76, rel=1e-6)
    assert np.isinf(cl.gradient(x, [0, 0], c, reduction="sum", loss_weight=1e10)).all()
    assert np.isinf(cl.gradient(x, [0, 0], c, reduction="sum", loss_weight=1e300)).all()
    x = np.full((1, 1), 60000, np.float16)
    gradient = cl.gradient(x, [0], np.zeros((1, 1), np.float32), loss_weight=2)
    assert gradient.tolist() == [[math.inf]]

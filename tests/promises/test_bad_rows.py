"""Promise 8: a row that is not finite moves no center.

The centers get the bits that they get from the batch without those rows.
"""

import numpy as np
import pytest

import centerloss
from centerloss import _core
from tests.helpers.batches import DTYPES, MOVES_CENTERS, batch, bits, dtypes
from tests.helpers.oracle import BFLOAT16

moves_centers = pytest.mark.parametrize("name", MOVES_CENTERS)
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
IGNORED = -1


# --- worked out by hand -------------------------------------------------------------


@moves_centers
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@dtypes
def test_one_bad_row(cl, name, bad, dtype, centers_dtype):
    x = np.array([[1, 0], [bad, 4], [3, 2]], dtype)
    c = np.zeros((2, 2), centers_dtype)
    getattr(cl, name)(x, [0, 0, 1], c)
    assert c.tolist() == [[0.25, 0], [0.75, 0.5]]


def test_classes_without_a_good_row_are_not_counted(cl):
    x = np.array([[np.nan, 1], [2, 2], [1, np.inf], [0, -np.inf]])
    c = np.array([[-0.0, 5], [0, 0], [-0.0, 1]])
    assert cl.update_centers(x, [0, 1, 2, 2], c) == 1
    assert bits(c) == bits(np.array([[-0.0, 5], [0.5, 0.5], [-0.0, 1]]))


def test_no_good_row_at_all(cl):
    x, c = np.full((3, 2), np.nan), np.array([[-0.0, 5], [0, 0]])
    before = bits(c)
    assert cl.update_centers(x, [0, 1, 1], c) == 0
    assert bits(c) == before


@moves_centers
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_center_that_is_not_finite_stays(cl, name, bad):
    """Its rows are at no finite distance."""
    x = np.array([[1.0, 2], [3, 4], [3, 2]])
    c = np.array([[bad, -0.0], [1, 0]])
    getattr(cl, name)(x, [0, 0, 1], c)
    assert bits(c) == bits(np.array([[bad, -0.0], [1.5, 0.5]]))


@moves_centers
def test_a_difference_beyond_float32(cl, name):
    """2^127 - (-2^127) is infinite in float32; the second row is 2^127 away."""
    x = np.array([[2.0**127], [0]], np.float32)
    c = np.array([[-(2.0**127)]], np.float32)
    getattr(cl, name)(x, [0, 0], c)
    assert c.tolist() == [[-0.75 * 2.0**127]]


@moves_centers
def test_a_difference_beyond_float64(cl, name):
    """The square of the second one, 2^1023, is infinite too."""
    x, c = np.array([[2.0**1023], [0], [1]]), np.array([[-(2.0**1023)], [2]])
    getattr(cl, name)(x, [0, 0, 1], c)
    assert c.tolist() == [[-(2.0**1023)], [1.75]]


@moves_centers
@pytest.mark.parametrize("classes", [2, 1000])  # batch order and class order
def test_only_the_total_is_beyond_float64(cl, name, classes):
    """Each squared distance is finite, so every row moves its center."""
    x, c = np.full((4, 1), 2.0**511), np.zeros((classes, 1))
    x[:, 0] *= [1, 1.25, 1.25, 1.25]
    getattr(cl, name)(x, [1, 0, 0, 0], c)
    assert c[:2, 0].tolist() == [0.5 * 3.75 / 4 * 2.0**511, 0.25 * 2.0**511]


@moves_centers
@pytest.mark.parametrize(
    ("row", "moves"),
    [
        ([2.0**511] * 3, True),  # 3 * 2^1022
        ([2.0**511] * 4, False),  # 2^1024, beyond float64
        ([2.0**512, 0], False),
        ([2.0**511, 0], True),
    ],
)
def test_a_square_beyond_float64(cl, name, row, moves):
    x, c = np.array([row]), np.zeros((1, len(row)))
    getattr(cl, name)(x, [0], c)
    assert c.tolist() == [[0.25 * value if moves else 0 for value in row]]


@moves_centers
def test_squares_beyond_float32_are_finite(cl, name):
    """They are taken in float64."""
    x, c = np.full((1, 3), 2.0**127, np.float32), np.zeros((1, 3), np.float32)
    getattr(cl, name)(x, [0], c)
    assert c.tolist() == [[2.0**125] * 3]


@moves_centers
def test_a_feature_beyond_float16(cl, name):
    with np.errstate(over="ignore"):
        x = np.array([[70000.0], [60000.0]]).astype(np.float16)
    c = np.zeros((1, 1), np.float32)
    getattr(cl, name)(x, [0, 0], c)
    assert c.tolist() == [[15000]]


@moves_centers
@pytest.mark.parametrize("weight", [0, 0.5, 1])
def test_a_bad_row_has_no_weight(cl, name, weight):
    x, c = np.array([[8.0], [np.nan]]), np.zeros((1, 1))
    getattr(cl, name)(x, [0, 0], c, sample_weight=[3, weight])
    assert c.tolist() == [[0.5 * 3 * 8 / (1 + 3)]]


def test_a_weight_of_zero_counts_and_a_bad_row_does_not(cl):
    x, c = np.array([[1.0], [np.nan]]), np.array([[-0.0], [-0.0]])
    assert cl.update_centers(x, [0, 1], c, sample_weight=[0, 0]) == 1


@moves_centers
def test_without_normalization(cl, name):
    x, c = np.array([[8.0], [np.nan], [4.0]]), np.zeros((1, 1))
    getattr(cl, name)(x, [0, 0, 0], c, normalize=False, alpha=0.25)
    assert c.tolist() == [[3]]


@moves_centers
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_skipped(cl, name, bad):
    x = np.array([[1, 0], [bad, 4], [3, 2]])
    for flag in (False, np.False_):
        c = np.zeros((2, 2))
        getattr(cl, name)(x, [0, 0, 1], c, skip_nonfinite=flag)
        assert np.array_equal(c, [[bad, 4 / 6], [0.75, 0.5]], equal_nan=True)
    c = np.zeros((3, 2))
    counted = cl.update_centers(x, [0, 1, 2], c, skip_nonfinite=False)
    assert counted == 3


def test_tokens(cl):
    x = np.array([[[1, 0], [np.nan, 4]], [[3, 2], [0, np.inf]]])
    c = np.zeros((2, 2))
    assert cl.update_centers(x, [[0, 0], [1, 1]], c) == 2
    assert c.tolist() == [[0.25, 0], [0.75, 0.5]]


# --- data always propagate ----------------------------------------------------------


def test_deltas_and_sums_propagate(cl):
    x = np.array([[1, 0], [np.nan, 4], [np.inf, 2]])
    c = np.zeros((3, 2))
    delta = cl.center_delta(x, [0, 0, 2], c)
    expected = [[np.nan, -4 / 3], [0, 0], [-np.inf, -1]]
    assert np.array_equal(delta, expected, equal_nan=True)
    classes, sums, counts = cl.class_sums(x, [0, 0, 2], c)
    assert classes.tolist() == [0, 2]
    assert np.array_equal(sums, [[np.nan, 4], [np.inf, 2]], equal_nan=True)
    assert counts.tolist() == [2, 1]
    for name in ("center_delta", "class_sums"):
        with pytest.raises(TypeError, match="unexpected keyword argument 'skip_nonf"):
            getattr(centerloss, name)(x, [0, 0, 2], c, skip_nonfinite=True)


# --- against the batch without the bad rows -----------------------------------------


def nan(x, _c, _y, rows):
    x[rows, rows % x.shape[1]] = np.nan


def infinity(x, _c, _y, rows):
    x[rows, rows % x.shape[1]] = np.where(rows % 2, np.inf, -np.inf)


def differences(x, c, y, rows):
    """Finite rows, so far from their finite centers that the difference is not."""
    far = float(np.finfo(c.dtype).max) * 0.9
    c[y[rows], 0] = -far
    x[rows, 0] = far


def squares(x, _c, _y, rows):
    """Differences whose squares are beyond float64."""
    x[rows, 0] = 1e160


KINDS = {
    nan: [dtype for dtype, _ in DTYPES],
    infinity: [dtype for dtype, _ in DTYPES],
    differences: [F32, BFLOAT16],
    squares: [F64],
}
CENTERS = dict(DTYPES)


def spoiled(kind, dtype, shape, classes, *, of_one_row=False):
    """A batch with bad rows: some, and all of one class."""
    x, y, c = batch(shape, classes, dtype=dtype, centers_dtype=CENTERS[dtype])
    rng = np.random.default_rng(3)
    if of_one_row:
        y = rng.permutation(classes)[: len(y)]
    bad = rng.random(len(y)) < 0.1
    bad |= y == y[len(y) // 2]
    kind(x, c, y, np.flatnonzero(bad))
    return x, y, c, bad


def update(cl, x, y, c, **options):
    """The bits of the updated centers, and how many were updated."""
    moved = c.copy()
    count = cl.update_centers(x, y, moved, **options)
    return bits(moved), count


def check_all(cl, x, y, c, bad, **options):
    """Compare everything with the batch that has no bad rows."""
    weights = options.pop("sample_weight", None)
    given = options if weights is None else options | {"sample_weight": weights}
    finite, labels = x.copy(), y.copy()
    finite[bad], labels[bad] = 0, IGNORED
    ignoring = {"ignore_index": IGNORED, "skip_nonfinite": False}
    expected = update(cl, finite, labels, c, **given | ignoring)
    if len(y) <= 32768:
        left = (
            options if weights is None else options | {"sample_weight": weights[~bad]}
        )
        left = left | {"skip_nonfinite": False}
        assert update(cl, x[~bad], y[~bad], c, **left) == expected
    assert 0 < expected[1] < len(np.unique(y[y != IGNORED]))
    assert update(cl, x, y, c, **given) == expected

    for reduction in ("mean", "none"):
        loss_options = given | {"reduction": reduction}
        for name in ("alpha", "normalize"):
            loss_options.pop(name, None)
        value = bits(cl.value_and_grad(x, y, c, **loss_options))
        for skip in (True, False):
            moved = c.copy()
            step = given | {"reduction": reduction, "skip_nonfinite": skip}
            assert bits(cl.step(x, y, moved, **step)) == value
            assert (bits(moved) == expected[0]) == skip
        others = np.setdiff1d(np.arange(len(c)), y[bad])
        clean = c.copy()
        cl.update_centers(finite, labels, clean, **given | ignoring)
        assert bits(moved[others]) == bits(clean[others])
    return expected[1]


BATCHES = {
    "batch order": ((64, 40), 5, {}),
    "class order": ((64, 40), 1000, {}),
    "classes of one row": ((90, 17), 120, {"of_one_row": True}),
    "chunks": ((2500, 9), 3, {}),
}
OPTIONS = {
    "plain": lambda _: {},
    "weighted": lambda rows: {
        "sample_weight": np.arange(rows) % 4 / 2.0,
        "alpha": 0.3,
        "normalize": False,
    },
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize(
    ("kind", "dtype"),
    [(kind, dtype) for kind, dtypes in KINDS.items() for dtype in dtypes],
    ids=lambda value: getattr(value, "__name__", None) or value.name,
)
@pytest.mark.parametrize("shape", BATCHES)
def test_centers_without_the_bad_rows(cl, shape, kind, dtype, options):
    size, classes, more = BATCHES[shape]
    x, y, c, bad = spoiled(kind, dtype, size, classes, **more)
    check_all(cl, x, y, c, bad, **options(len(y)))


@pytest.mark.parametrize("shape", BATCHES)
def test_ignored_rows_beside_bad_ones(cl, shape):
    size, classes, more = BATCHES[shape]
    x, y, c, bad = spoiled(nan, F32, size, classes, **more)
    good, wrong = np.flatnonzero(~bad)[::7], np.flatnonzero(bad)[::2]
    y[good] = y[wrong] = IGNORED
    bad[wrong] = False  # they are ignored, whatever they hold
    check_all(cl, x, y, c, bad, ignore_index=IGNORED)


# In batch order and class order, large enough for three threads.
LARGE = {
    "class order": ((13_000, 64), 20_000, F32),
    "chunks": ((13_000, 64), 15, F32),
    "segments": ((70_000, 12), 300, F64),
    "chunks in segments": ((70_000, 12), 5, F64),
    "segments in class order": ((70_000, 3), 30_000, F64),
}


@pytest.fixture(params=[1, 3])
def threads(request):
    before = centerloss.get_num_threads()
    centerloss.set_num_threads(request.param)
    yield request.param
    centerloss.set_num_threads(before)


@pytest.mark.kernels
@pytest.mark.thread_unsafe(reason="sets the number of threads")
@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("kind", [nan, infinity])
@pytest.mark.parametrize("shape", LARGE)
def test_large_batches(shape, kind):
    size, classes, dtype = LARGE[shape]
    x, y, c, bad = spoiled(kind, dtype, size, classes)
    weights = np.arange(len(y)) % 4 / 2.0
    check_all(centerloss, x, y, c, bad, sample_weight=weights)


@pytest.mark.kernels
@pytest.mark.parametrize("shape", BATCHES)
@pytest.mark.parametrize("skip", [True, False])
def test_step_and_count(shape, skip):
    """`step`, and the number that `update_centers` returns."""
    size, classes, more = BATCHES[shape]
    x, y, c, _ = spoiled(nan, F32, size, classes, **more)
    moved, counted, stepped = c.copy(), c.copy(), c.copy()
    expected = centerloss.step(x, y, stepped, skip_nonfinite=skip)
    out = np.empty_like(x)
    result = _core.step_and_count(x, y, counted, skip_nonfinite=skip, out=out)
    assert type(result) is tuple
    assert bits(result[:2]) == bits(expected)
    assert result[1] is out
    assert bits(counted) == bits(stepped)
    count = centerloss.update_centers(x, y, moved, skip_nonfinite=skip)
    assert type(result[2]) is type(count) is int
    assert result[2] == count


@pytest.mark.kernels
def test_the_count_of_many_classes():
    """More than Python's cached integers, and fewer than the classes of the batch."""
    x, c = np.ones((1000, 2), np.float32), np.zeros((1000, 2), np.float32)
    x[::10, 1] = np.nan
    y = np.arange(1000)
    for _ in range(100):
        assert centerloss.update_centers(x, y, c) == 900
        assert _core.step_and_count(x, y, c)[2] == 900
    assert not c[::10].any()

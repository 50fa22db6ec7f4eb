"""Promise 2: the same numbers give the same bits."""

import numpy as np
import pytest

import centerloss as cl
from tests.helpers.batches import DTYPES, batch, bits, dtypes
from tests.helpers.layouts import (
    IN_PLACE,
    READ,
    on_a_cache_line,
    one_element_on,
    with_gaps,
)
from tests.helpers.oracle import BFLOAT16

pytestmark = pytest.mark.kernels

# Rows, values per row, classes.
SHAPES = [(1, 1, 1), (7, 3, 2), (64, 17, 5), (130, 129, 40), (2500, 33, 2)]
# Gradients larger than the cache: short rows, long rows, several segments.
LARGE = [(20_000, 128, 1000), (6000, 500, 2000), (120_000, 20, 300)]
REDUCTIONS = ["none", "sum", "mean"]

shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)


def make(shape, dtype, centers_dtype):
    rows, row, classes = shape
    arrays = batch((rows, row), classes, dtype=dtype, centers_dtype=centers_dtype)
    weights = np.random.default_rng(1).uniform(0, 2, rows)
    return *arrays, weights


def moved(x, y, c, **options):
    """Centers after an update, and the number of them updated."""
    centers = c.copy()
    return centers, cl.update_centers(x, y, centers, **options)


def everything(x, y, c, **options):
    """Bits of all results of a batch."""
    centers = c.copy()
    return (
        bits(cl.loss(x, y, c, reduction="none", **options)),
        bits(cl.value_and_grad(x, y, c, **options)),
        bits(cl.center_delta(x, y, c, **options)),
        bits(cl.class_sums(x, y, c, **options)),
        bits(cl.step(x, y, centers, **options)),
        bits(centers),
    )


# --- the same from every function ---------------------------------------------------


@dtypes
@shapes
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_every_function_agrees(shape, dtype, centers_dtype, weighted):
    x, y, c, w = make(shape, dtype, centers_dtype)
    rows = {"sample_weight": w, "ignore_index": 0} if weighted else {}
    rate = {"alpha": 0.3, "normalize": weighted}
    centers, count = moved(x, y, c, **rows, **rate)
    for reduction in REDUCTIONS:
        options = {"reduction": reduction, "loss_weight": 0.003, **rows}
        value, gradient = cl.value_and_grad(x, y, c, **options)
        assert bits(cl.loss(x, y, c, **options)) == bits(value)
        assert bits(cl.gradient(x, y, c, **options)) == bits(gradient)
        stepped = c.copy()
        result = cl.step(x, y, stepped, **options, **rate)
        assert bits(result) == bits((value, gradient))
        assert bits(stepped) == bits(centers)
    assert count == len(cl.class_sums(x, y, c, **rows)[0])


@dtypes
@shapes
def test_gradient_of_none_is_that_of_sum(shape, dtype, centers_dtype):
    x, y, c, w = make(shape, dtype, centers_dtype)
    none = cl.gradient(x, y, c, reduction="none", sample_weight=w)
    assert bits(none) == bits(cl.gradient(x, y, c, reduction="sum", sample_weight=w))


@dtypes
@shapes
def test_run_after_run(shape, dtype, centers_dtype):
    x, y, c, w = make(shape, dtype, centers_dtype)
    first = everything(x, y, c, sample_weight=w)
    for _ in range(3):
        again = everything(x.copy(), y.copy(), c.copy(), sample_weight=w.copy())
        assert again == first


@dtypes
@pytest.mark.parametrize("shape", LARGE, ids=str)
def test_large_batch(shape, dtype, centers_dtype):
    """From every function, run after run, and wherever the gradient lies."""
    x, y, c, w = make(shape, dtype, centers_dtype)
    options = {"reduction": "none", "sample_weight": w}
    value, gradient = cl.value_and_grad(x, y, c, **options)
    assert bits(cl.loss(x, y, c, **options)) == bits(value)
    centers, count = moved(x, y, c, sample_weight=w)
    assert count == len(np.unique(y))
    for layout in (np.copy, on_a_cache_line, one_element_on, with_gaps):
        stepped, out = c.copy(), layout(np.zeros_like(x))
        result = cl.step(x, y, stepped, out=out, **options)
        assert bits(result) == bits((value, gradient))
        assert bits(stepped) == bits(centers)
        result = cl.value_and_grad(x, y, c, out=out, **options)
        assert bits(result) == bits((value, gradient))


# --- each row and each class on its own -----------------------------------------------


@dtypes
@shapes
def test_place_of_a_row_in_the_batch(shape, dtype, centers_dtype):
    x, y, c, w = make(shape, dtype, centers_dtype)

    def rows(order):
        options = {"reduction": "none", "sample_weight": w[order]}
        value, gradient = cl.value_and_grad(x[order], y[order], c, **options)
        stepped = cl.step(x[order], y[order], c.copy(), **options)
        assert bits(stepped) == bits((value, gradient))
        return value, gradient

    value, gradient = rows(slice(None))
    for order in (
        np.random.default_rng(2).permutation(len(x)),
        np.arange(len(x))[::-1],
        np.arange(len(x)) // 2,
        np.arange(0, len(x), 3),
        *([i] for i in (0, len(x) // 2, len(x) - 1)),
    ):
        assert bits(rows(order)) == bits((value[order], gradient[order]))


@dtypes
@shapes
def test_rows_of_a_class_by_themselves(shape, dtype, centers_dtype):
    """So the classes can be distributed over processes."""
    x, y, c, w = make(shape, dtype, centers_dtype)
    whole, _ = moved(x, y, c, sample_weight=w)
    delta = cl.center_delta(x, y, c, sample_weight=w)
    classes, sums, counts = cl.class_sums(x, y, c, sample_weight=w)
    shared = c.copy()
    for part in range(3):
        mine = y % 3 == part
        arguments = (x[mine], y[mine], shared)
        parts = cl.class_sums(*arguments, sample_weight=w[mine])
        here = classes % 3 == part
        assert bits(parts) == bits((classes[here], sums[here], counts[here]))
        deltas = cl.center_delta(*arguments, sample_weight=w[mine])
        assert bits(deltas[classes[here]]) == bits(delta[classes[here]])
        cl.update_centers(*arguments, sample_weight=w[mine])
    assert bits(shared) == bits(whole)


@dtypes
@shapes
def test_rows_of_a_class_keep_their_order(shape, dtype, centers_dtype):
    """Rows of other classes may come between them."""
    x, y, c, w = make(shape, dtype, centers_dtype)
    order = np.argsort(y, kind="stable")
    sorted_rows = moved(x[order], y[order], c, sample_weight=w[order])
    assert bits(sorted_rows) == bits(moved(x, y, c, sample_weight=w))


@dtypes
@shapes
def test_names_of_the_classes(shape, dtype, centers_dtype):
    """More classes than needed, in another order, change nothing."""
    x, y, c, w = make(shape, dtype, centers_dtype)
    names = np.random.default_rng(3).permutation(10 * len(c))[: len(c)]
    more = np.full((10 * len(c), c.shape[1]), 7, c.dtype)
    more[names] = c
    expected = cl.value_and_grad(x, y, c, sample_weight=w)
    assert bits(cl.value_and_grad(x, names[y], more, sample_weight=w)) == bits(expected)
    expected = moved(x, y, c, sample_weight=w)
    centers, count = moved(x, names[y], more, sample_weight=w)
    assert bits((centers[names], count)) == bits(expected)
    others = np.setdiff1d(np.arange(len(more)), names)
    assert np.all(centers[others] == 7)


@dtypes
@shapes
def test_ignored_rows_change_nothing(shape, dtype, centers_dtype):
    x, y, c, w = make(shape, dtype, centers_dtype)
    y[::3] = -100
    there = y != -100
    options = {"sample_weight": w, "ignore_index": -100}
    only = {"sample_weight": w[there]}
    assert bits(moved(x, y, c, **options)) == bits(moved(x[there], y[there], c, **only))
    value, gradient = cl.value_and_grad(x, y, c, reduction="none", **options)
    expected = cl.value_and_grad(x[there], y[there], c, reduction="none", **only)
    assert bits((value[there], gradient[there])) == bits(expected)


@dtypes
@shapes
def test_weights_of_one_change_nothing(shape, dtype, centers_dtype):
    x, y, c, _ = make(shape, dtype, centers_dtype)
    ones = np.ones(len(x))
    assert everything(x, y, c, sample_weight=ones) == everything(x, y, c)


# --- the order of additions -----------------------------------------------------------

CHUNK, SEGMENT = 512, 32768
IGNORED = -1
LENGTHS = [20_000, 9000, CHUNK, CHUNK + 1, 2 * CHUNK, CHUNK - 1, 1]
CLASSES = len(LENGTHS) + 2


def labels_of_long_classes(rows):
    """Classes of LENGTHS rows, one of two full chunks, one of what is left.

    The first chunk of the former has its last two rows in another segment than the
    others. Some rows are ignored.
    """
    y = np.full(rows, len(LENGTHS) + 1)
    y[::11] = IGNORED
    first = 2 * SEGMENT - CHUNK + 2
    y[first : first + 2 * CHUNK] = len(LENGTHS)
    left = np.flatnonzero(y != len(LENGTHS))
    chosen = np.random.default_rng(5).permutation(left)[: sum(LENGTHS)]
    y[chosen] = np.repeat(np.arange(len(LENGTHS)), LENGTHS)
    return y


def added(terms):
    """One after another, to zero."""
    return 0.0 + np.add.accumulate(terms, axis=0)[-1]


def sum_by_hand(terms, rows):
    """Chunk by chunk, and within a chunk segment by segment."""
    chunks = []
    for start in range(0, len(rows), CHUNK):
        chunk = rows[start : start + CHUNK]
        segments = np.unique(chunk // SEGMENT)
        parts = [added(terms[chunk[chunk // SEGMENT == k]]) for k in segments]
        chunks.append(added(np.array(parts)))
    return added(np.array(chunks))


@pytest.fixture(params=[1, 3, 8])
def threads(request):
    before = cl.get_num_threads()
    cl.set_num_threads(request.param)
    yield request.param
    cl.set_num_threads(before)


# With CLASSES classes the rows are in batch order, with 30 000 classes in class order.
@pytest.mark.thread_unsafe(reason="sets the number of threads")
@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("classes", [CLASSES, 30_000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_rows_of_long_classes_are_added_by_chunk_and_segment(dtype, classes, weighted):
    x, _, c = batch((70_000, 17), classes, dtype=dtype)
    y = labels_of_long_classes(len(x))
    w = np.random.default_rng(6).uniform(0, 2, len(x)) if weighted else None
    options = {"sample_weight": w, "ignore_index": IGNORED}
    weights = np.ones(len(x)) if w is None else w
    terms = (x - c[y]).astype(np.float64) * weights[:, np.newaxis]
    terms = np.hstack([terms, weights[:, np.newaxis]])

    def sums(excluded):
        rows = [np.flatnonzero((y == j) & ~excluded) for j in range(CLASSES)]
        return np.array([sum_by_hand(terms, own) for own in rows])

    expected = sums(np.zeros(len(x), bool))
    names, total, counts = cl.class_sums(x, y, c, **options)
    assert names.tolist() == list(range(CLASSES))
    assert bits(total) == bits(expected[:, :-1].astype(dtype))
    assert bits(counts) == bits(np.ascontiguousarray(expected[:, -1]))

    # Rows that are not finite belong to no chunk. With these options the sum is added.
    bad = np.arange(len(x)) % 101 == 7
    x[bad, 3] = np.nan
    expected = c.copy()
    expected[:CLASSES] += sums(bad)[:, :-1]
    rate = {"alpha": 1.0, "normalize": False}
    for function in (cl.update_centers, cl.step):
        centers = c.copy()
        function(x, y, centers, **options, **rate)
        assert bits(centers) == bits(expected)


# --- the same from any memory and dtype that holds the same numbers -----------------


@dtypes
@shapes
def test_features_in_any_layout(shape, dtype, centers_dtype):
    x, y, c, w = make(shape, dtype, centers_dtype)
    expected = everything(x, y, c, sample_weight=w)
    for layout in READ:
        other = layout(x)
        assert np.array_equal(other, x)
        assert everything(other, y, c, sample_weight=w) == expected, layout


def test_large_features_in_any_layout():
    x, y, c, w = make(LARGE[0], *DTYPES[0])
    expected = bits(cl.value_and_grad(x, y, c, sample_weight=w))
    for layout in READ:
        value_and_grad = cl.value_and_grad(layout(x), y, c, sample_weight=w)
        assert bits(value_and_grad) == expected


@dtypes
def test_images_in_any_layout(dtype, centers_dtype):
    """Features (B, C, H, W) are the same as flattened ones."""
    x, y, c = batch((6, 3, 4, 5), 4, dtype=dtype, centers_dtype=centers_dtype)
    flat = x.reshape(6, -1)
    expected = cl.value_and_grad(flat, y, c)
    for layout in READ:
        value, gradient = cl.value_and_grad(layout(x), y, c)
        assert bits((value, gradient.reshape(6, -1))) == bits(expected), layout
        assert gradient.shape == x.shape
        assert bits(moved(layout(x), y, c)) == bits(moved(flat, y, c)), layout


@dtypes
@shapes
def test_centers_and_out_in_any_layout(shape, dtype, centers_dtype):
    x, y, c, _ = make(shape, dtype, centers_dtype)
    expected = everything(x, y, c)
    expected_centers = c.copy()
    expected_step = cl.step(x, y, expected_centers)
    for layout in IN_PLACE:
        centers, out = layout(c), layout(np.zeros_like(x))
        assert everything(x, y, centers) == expected, layout
        assert bits(cl.step(x, y, centers, out=out)) == bits(expected_step), layout
        assert bits(centers) == bits(expected_centers), layout
        assert bits(out) == bits(expected_step[1]), layout


@pytest.mark.parametrize("layout", IN_PLACE)
def test_bytes_between_rows_do_not_change(layout):
    x, y, c, _ = make((64, 17, 5), *DTYPES[0])
    centers, out = layout(c.copy()), layout(np.zeros_like(x))
    gaps = [around(centers), around(out)]
    cl.step(x, y, centers, out=out)
    assert [around(centers), around(out)] == gaps


def around(array):
    """The bytes of the memory around an array."""
    base = array
    while isinstance(base.base, np.ndarray):
        base = base.base
    own = array.copy()
    array[...] = 0
    result = base.tobytes()
    array[...] = own
    return result


@pytest.mark.parametrize("dtype", [*"bBhHiIlLqQ"])
def test_labels_of_any_dtype_and_layout(dtype):
    x, y, c, w = make((130, 17, 40), *DTYPES[0])
    options = {"sample_weight": w, "ignore_index": 3}
    expected = everything(x, y, c, **options)
    for layout in (*READ, list):
        other = layout(y.astype(dtype))
        assert everything(x, other, c, **options) == expected, layout


@pytest.mark.parametrize("dtype", ["?", *"bBhHiIlLqQefdg"])
def test_weights_of_any_dtype_and_layout(dtype):
    x, y, c, _ = make((130, 17, 40), *DTYPES[0])
    w = np.random.default_rng(4).integers(0, 2, len(x)).astype(np.float64)
    expected = everything(x, y, c, sample_weight=w)
    for layout in (*READ, list):
        other = layout(w.astype(dtype))
        assert everything(x, y, c, sample_weight=other) == expected, layout


@pytest.mark.parametrize("dtype", [np.float16, BFLOAT16], ids=["float16", "bfloat16"])
@shapes
def test_half_features_are_widened_first(shape, dtype):
    """To float32, and the gradient is rounded back once."""
    x, y, c, w = make(shape, dtype, np.float32)
    wide = x.astype(np.float32)
    value, gradient = cl.value_and_grad(x, y, c, sample_weight=w)
    expected_value, expected = cl.value_and_grad(wide, y, c, sample_weight=w)
    assert bits(value) == bits(expected_value)
    assert bits(gradient) == bits(expected.astype(dtype))
    assert bits(moved(x, y, c)) == bits(moved(wide, y, c))


@pytest.mark.parametrize("dtype", [np.float16, BFLOAT16], ids=["float16", "bfloat16"])
def test_every_half_number(dtype):
    """All 65536 of them as features, then rounded to as gradients of zero centers."""
    x = np.arange(2**16).astype(np.uint16).view(dtype).reshape(-1, 16)
    y, c = np.zeros(len(x), np.int64), np.zeros((1, 16), np.float32)
    gradient = cl.gradient(x, y, c, reduction="sum")
    with np.errstate(all="ignore"):
        nan = np.isnan(x)
        assert np.array_equal(np.isnan(gradient), nan)
        assert bits(gradient[~nan]) == bits(x[~nan])
        for weight in (0.7, 1.0009765625, 2.0**-11, 3.0):
            gradient = cl.gradient(x, y, c, reduction="sum", loss_weight=weight)
            expected = (x.astype(np.float32) * np.float32(weight)).astype(dtype)
            assert bits(gradient[~nan]) == bits(expected[~nan])
            assert np.isnan(gradient[nan]).all()


def any_floats(rng, shape):
    """Every exponent, subnormal ones too, below where differences overflow."""
    bits = rng.integers(0, 2**32, shape, dtype=np.uint32)
    values = bits.view(np.float32)
    return np.where(np.abs(values) < 1e38, values, np.float32(0))


def near_ties(rng, shape):
    """Small integers: many sums are halfway between two floats, or almost."""
    return (2.0 ** rng.integers(-30, 1, shape) * rng.integers(1, 9, shape)).astype("f4")


@pytest.mark.parametrize("values", [any_floats, near_ties])
@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0**-30, 2.0**-148, 0.3])
def test_the_only_row_of_a_class_moves_its_center_as_in_double_precision(alpha, values):
    """With a rate that is a power of two, kernels use fused operations of floats."""
    rng = np.random.default_rng(0)
    shape = (400, 16 + 15)
    features, before = values(rng, shape), values(rng, shape)
    expected = before + alpha / 2 * (features - before).astype(np.float64)
    centers = before.copy()
    cl.step(features, np.arange(len(features)), centers, alpha=alpha)
    assert bits(centers) == bits(expected.astype(np.float32))

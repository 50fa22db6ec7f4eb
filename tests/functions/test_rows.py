"""Sample weights, ignored rows and empty batches."""

import math

import numpy as np
import pytest

from tests.helpers.batches import batch, bits, dtypes, is_array, small, whole_numbers

# --- sample weights -----------------------------------------------------------------


def test_whole_weights_are_repeated_rows(cl):
    x, y, c = whole_numbers(64, 5, 7)
    w = np.random.default_rng(0).integers(1, 5, 64)
    repeated = (np.repeat(x, w, axis=0), np.repeat(y, w))
    for reduction in ("sum", "mean"):
        value = cl.loss(x, y, c, sample_weight=w, reduction=reduction)
        assert value == cl.loss(*repeated, c, reduction=reduction)
    assert bits(cl.class_sums(x, y, c, sample_weight=w)) == bits(
        cl.class_sums(*repeated, c)
    )
    for normalize in (False, True):
        delta = cl.center_delta(x, y, c, sample_weight=w, normalize=normalize)
        expected = cl.center_delta(*repeated, c, normalize=normalize)
        assert bits(delta) == bits(expected)
        weighted, unweighted = c.copy(), c.copy()
        count = cl.update_centers(x, y, weighted, sample_weight=w, normalize=normalize)
        assert count == cl.update_centers(*repeated, unweighted, normalize=normalize)
        assert bits(weighted) == bits(unweighted)


def test_mean_is_over_the_weights(cl):
    w = [1, 0, 0.5, 0.5]
    assert cl.loss(*small(), sample_weight=w) == (2.5 + 4 + 1) / 2
    gradient = cl.gradient(*small(), sample_weight=w)
    assert gradient.tolist() == [[-0.5, -1], [0, 0], [0, 1], [-0.5, 0]]


def test_a_weight_of_zero_still_touches_its_class(cl):
    x, y, c = small()
    w = [0, 1, 1, 0]
    classes, sums, counts = cl.class_sums(x, y, c, sample_weight=w)
    assert classes.tolist() == [0, 2]
    assert sums.tolist() == [[0, 0], [3, 8]]
    assert counts.tolist() == [0, 2]
    assert cl.update_centers(x, y, c, sample_weight=w) == 2
    assert c[:2].tolist() == [[2, 2], [9, 9]]


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_only_weights_of_zero(cl, reduction):
    x, y, c = small()
    before = bits(c)
    options = {"sample_weight": np.zeros(4), "reduction": reduction}
    value, gradient = cl.step(x, y, c, **options)
    assert np.all(np.asarray(value) == 0)
    assert not gradient.any()
    assert bits(c) == before


def test_a_weight_of_zero_still_multiplies(cl):
    """0 * nan is nan, as everywhere in NumPy; use ignore_index to leave rows out."""
    x, y, c = small()
    x[1, 0] = np.nan
    w = [1, 0, 1, 1]
    rows = cl.loss(x, y, c, reduction="none", sample_weight=w)
    assert np.isnan(rows).tolist() == [False, True, False, False]
    assert math.isnan(cl.loss(x, y, c, sample_weight=w))
    gradient = cl.gradient(x, y, c, sample_weight=w)
    assert np.isnan(gradient).tolist() == [
        [False] * 2,
        [True, False],
        *[[False] * 2] * 2,
    ]
    cl.update_centers(x, y, c, sample_weight=w, skip_nonfinite=False)
    assert np.isnan(c).tolist() == [[False] * 2, [False] * 2, [True, False]]


def test_no_weight_at_all_is_a_loss_of_zero(cl):
    """The mean of no weight is zero, even with NaN in the rows."""
    x, y, c = small()
    x[1, 0] = np.nan
    assert cl.loss(x, y, c, sample_weight=np.zeros(4)) == 0
    assert math.isnan(cl.loss(x, y, c, sample_weight=np.zeros(4), reduction="sum"))


# --- ignored rows -------------------------------------------------------------------

IGNORED = [
    (np.int64, 1),
    (np.int64, -100),
    (np.int64, 2**63 - 1),
    (np.int64, -(2**63)),
    (np.int32, -1),
    (np.int8, -100),
    (np.uint8, 255),
    (np.uint8, 0),
    (np.uint16, 65535),
    (np.uint64, 2**63 - 1),
]


@pytest.mark.parametrize(("dtype", "ignored"), IGNORED)
def test_ignored_rows(cl, dtype, ignored):
    x, y, c = whole_numbers(64, 5, 7)
    y = y.astype(dtype)
    y[::5] = ignored
    there = y != ignored
    options = {"ignore_index": ignored}
    rows, gradient = cl.value_and_grad(x, y, c, reduction="none", **options)
    assert not rows[~there].any()
    assert not gradient[~there].any()
    assert rows[there].all()
    for reduction in ("sum", "mean"):
        options["reduction"] = reduction
        value, gradient = cl.value_and_grad(x, y, c, **options)
        only = cl.value_and_grad(x[there], y[there], c, reduction=reduction)
        assert bits((value, gradient[there])) == bits(only)
    del options["reduction"]
    for name in ("center_delta", "class_sums"):
        function = getattr(cl, name)
        assert bits(function(x, y, c, **options)) == bits(
            function(x[there], y[there], c)
        )
    moved, expected = c.copy(), c.copy()
    count = cl.update_centers(x[there], y[there], expected)
    assert cl.update_centers(x, y, moved, **options) == count
    assert bits(moved) == bits(expected)


@pytest.mark.parametrize(
    ("dtype", "ignored"),
    [(np.uint8, -1), (np.uint64, -1), (np.int8, 255), (np.int8, 2**63 - 1)],
)
def test_ignored_is_a_number_not_a_pattern_of_bits(cl, dtype, ignored):
    """-1 is none of the labels of an unsigned dtype, nor 255 one of int8."""
    x, y, c = batch((8, 3), 5)
    y = y.astype(dtype)
    assert cl.loss(x, y, c, ignore_index=ignored) == cl.loss(x, y, c)
    y[6] = np.array(ignored).astype(dtype)
    message = rf"^labels\[6\] is {y[6]}, but there are 5 classes \(0 to 4\)$"
    with pytest.raises(IndexError, match=message):
        cl.loss(x, y, c, ignore_index=ignored)


@pytest.mark.parametrize("number", [np.int64(2), np.uint8(2), np.array(2)])
def test_ignore_index_of_any_integer_type(cl, number):
    x, y, c = batch((64, 3), 5)
    expected = cl.gradient(x, y, c, ignore_index=2)
    assert bits(cl.gradient(x, y, c, ignore_index=number)) == bits(expected)


def test_weights_of_ignored_rows_do_not_count(cl):
    x, y, c = small()
    y[3] = -1
    options = {"sample_weight": [1, 1, 2, 100], "ignore_index": -1}
    assert cl.loss(x, y, c, **options) == (2.5 + 12.5 + 16) / 4
    assert cl.class_sums(x, y, c, **options)[2].tolist() == [1, 3]


def test_ignored_rows_may_hold_anything(cl):
    x, y, c = small()
    y[3] = -1
    expected = cl.value_and_grad(x, y, c, ignore_index=-1)
    moved = c.copy()
    cl.update_centers(x, y, moved, ignore_index=-1)
    x[3] = [np.nan, np.inf]
    assert bits(cl.value_and_grad(x, y, c, ignore_index=-1)) == bits(expected)
    assert bits(cl.step(x, y, c, ignore_index=-1)) == bits(expected)
    assert bits(c) == bits(moved)


# --- nothing to do ------------------------------------------------------------------


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("classes", [0, 3])
def test_all_rows_ignored(cl, reduction, classes):
    x, _, c = batch((4, 3), 3)
    c = c[:classes]
    y, before = [-100] * 4, bits(c)
    options = {"reduction": reduction, "ignore_index": -100}
    for function in (cl.value_and_grad, cl.step):
        value, gradient = function(x, y, c, **options)
        assert np.array_equal(value, np.zeros(4) if reduction == "none" else 0)
        assert bits(gradient) == bits(np.zeros_like(x))
    check_no_class(cl, x, y, c, ignore_index=-100)
    assert bits(c) == before


@dtypes
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize(
    ("shape", "classes"),
    [((0, 3), 2), ((0, 3), 0), ((0, 0), 2), ((0, 0), 0), ((0,), 2), ((0, 2, 0), 5)],
)
def test_empty_batch(cl, dtype, centers_dtype, reduction, shape, classes):
    row = math.prod(shape[1:])
    x, y = np.zeros(shape, dtype), np.zeros(0, np.int64)
    c = np.ones((classes, row), centers_dtype)
    for labels in (y, []):
        for function in (cl.value_and_grad, cl.step):
            value, gradient = function(x, labels, c, reduction=reduction)
            assert np.array_equal(value, np.zeros(0) if reduction == "none" else 0)
            assert is_array(gradient, shape, dtype)
        check_no_class(cl, x, labels, c)
    assert np.all(c == 1)


def check_no_class(cl, x, y, c, **options):
    """Nothing of `c` is touched."""
    assert bits(cl.center_delta(x, y, c, **options)) == bits(np.zeros_like(c))
    classes, sums, counts = cl.class_sums(x, y, c, **options)
    assert is_array(classes, (0,), np.int64)
    assert is_array(sums, (0, c.shape[1]), c.dtype)
    assert is_array(counts, (0,), np.float64)
    assert cl.update_centers(x, y, c, **options) == 0


@dtypes
@pytest.mark.parametrize("shape", [(4, 0), (4, 3, 0, 2)])
def test_rows_without_values(cl, dtype, centers_dtype, shape):
    x, y = np.zeros(shape, dtype), [0, 2, 0, 0]
    c = np.zeros((3, 0), centers_dtype)
    assert cl.loss(x, y, c) == 0
    assert cl.loss(x, y, c, reduction="none").tolist() == [0] * 4
    assert is_array(cl.gradient(x, y, c), shape, dtype)
    assert cl.center_delta(x, y, c).shape == (3, 0)
    classes, sums, counts = cl.class_sums(x, y, c)
    assert (classes.tolist(), sums.shape, counts.tolist()) == ([0, 2], (2, 0), [3, 1])
    assert cl.update_centers(x, y, c) == 2
    assert cl.step(x, y, c)[0] == 0


def test_empty_lists(cl):
    c = np.ones((2, 1))
    assert cl.loss([], [], c) == 0
    assert cl.gradient([], [], c).shape == (0,)
    assert cl.update_centers([], [], c, sample_weight=[]) == 0

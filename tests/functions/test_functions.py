"""Every function and every option."""

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from tests.helpers.batches import (
    CALLS,
    HAS_REDUCTION,
    MOVES_CENTERS,
    batch,
    bits,
    dtypes,
    is_array,
    small,
    whole_numbers,
)

has_reduction = pytest.mark.parametrize("name", HAS_REDUCTION)
every_call = pytest.mark.parametrize("name", CALLS)
moves_centers = pytest.mark.parametrize("name", MOVES_CENTERS)


# --- a batch worked out by hand -----------------------------------------------------


def test_loss(cl):
    assert cl.loss(*small(), reduction="none").tolist() == [2.5, 12.5, 8.0, 2.0]
    assert cl.loss(*small(), reduction="sum") == 25.0
    assert cl.loss(*small(), reduction="mean") == 6.25
    assert cl.loss(*small()) == 6.25


def test_gradient(cl):
    differences = [[-1, -2], [3, 4], [0, 4], [-2, 0]]
    for reduction in ("none", "sum"):
        assert cl.gradient(*small(), reduction=reduction).tolist() == differences
    quarter = [[d / 4 for d in row] for row in differences]
    assert cl.gradient(*small(), reduction="mean").tolist() == quarter
    assert cl.gradient(*small()).tolist() == quarter


def test_class_sums(cl):
    classes, sums, counts = cl.class_sums(*small())
    assert classes.tolist() == [0, 2]
    assert sums.tolist() == [[-3, -2], [3, 8]]
    assert counts.tolist() == [2, 2]


def test_center_delta(cl):
    delta = cl.center_delta(*small(), normalize=False)
    assert delta.tolist() == [[3, 2], [0, 0], [-3, -8]]
    third = np.array([[3, 2], [0, 0], [-3, -8]], np.float32) / np.float32(3)
    assert cl.center_delta(*small()).tolist() == third.tolist()


def test_update_centers(cl):
    x, y, c = small()
    assert cl.update_centers(x, y, c, alpha=0.75) == 2
    assert c.tolist() == [[1.25, 1.5], [9, 9], [0.75, 2]]


def test_step(cl):
    x, y, c = small()
    value, gradient = cl.step(x, y, c, alpha=0.25, normalize=False, reduction="sum")
    assert value == 25.0
    assert gradient.tolist() == [[-1, -2], [3, 4], [0, 4], [-2, 0]]
    assert c.tolist() == [[1.25, 1.5], [9, 9], [0.75, 2]]


# --- types of results ----------------------------------------------------------------


@dtypes
def test_types(cl, dtype, centers_dtype):
    shape = (5, 2, 3)
    x, y, c = batch(shape, 4, dtype=dtype, centers_dtype=centers_dtype)
    assert type(cl.loss(x, y, c)) is float
    assert type(cl.loss(x, y, c, reduction="sum")) is float
    assert is_array(cl.loss(x, y, c, reduction="none"), (5,), centers_dtype)
    for function in (cl.value_and_grad, cl.step):
        result = function(x, y, c)
        assert type(result) is tuple
        assert type(result[0]) is float
        assert is_array(result[1], shape, dtype)
        result = function(x, y, c, reduction="none")
        assert is_array(result[0], (5,), centers_dtype)
        assert is_array(result[1], shape, dtype)
    assert is_array(cl.gradient(x, y, c), shape, dtype)
    assert is_array(cl.center_delta(x, y, c), c.shape, centers_dtype)
    present = len(np.unique(y))
    classes, sums, counts = cl.class_sums(x, y, c)
    assert is_array(classes, (present,), np.int64)
    assert is_array(sums, (present, 6), centers_dtype)
    assert is_array(counts, (present,), np.float64)
    count = cl.update_centers(x, y, c)
    assert type(count) is int
    assert count == present


def test_gradient_of_a_subclass_is_a_plain_array(cl):
    x, y, c = batch((5, 3), 2)
    x, c = x.view(np.recarray), c.view(np.recarray)
    assert type(cl.gradient(x, y, c)) is np.ndarray
    assert type(cl.center_delta(x, y, c)) is np.ndarray
    assert all(type(part) is np.ndarray for part in cl.class_sums(x, y, c))
    assert type(cl.loss(x, y, c, reduction="none")) is np.ndarray


def test_results_are_not_reused(cl):
    x, y, c = batch((5, 3), 2)
    for name in ("gradient", "center_delta", "class_sums"):
        first, second = (getattr(cl, name)(x, y, c) for _ in range(2))
        if name == "class_sums":
            first, second = first[1], second[1]
        assert not np.shares_memory(first, second)
        assert not np.shares_memory(first, x)
        assert not np.shares_memory(first, c)


@every_call
def test_inputs_do_not_change(cl, name):
    x, y, c = batch((50, 3), 7)
    w = np.linspace(0, 1, 50)
    before = [bits(array) for array in (x, y, w)]
    centers = bits(c)
    getattr(cl, name)(x, y, c, sample_weight=w)
    assert [bits(array) for array in (x, y, w)] == before
    assert (bits(c) == centers) == (name not in MOVES_CENTERS)


@every_call
def test_arguments_by_keyword(cl, name):
    x, y, c = batch((5, 3), 2)
    function = getattr(cl, name)
    expected = bits(function(x, y, c.copy()))
    assert bits(function(centers=c.copy(), labels=y, features=x)) == expected
    assert bits(function(x, centers=c.copy(), labels=y)) == expected


# --- out ----------------------------------------------------------------------------


@dtypes
@pytest.mark.parametrize("name", ["gradient", "value_and_grad", "step"])
def test_out_is_the_gradient(cl, name, dtype, centers_dtype):
    x, y, c = batch((64, 2, 17), 2, dtype=dtype, centers_dtype=centers_dtype)
    out = np.full_like(x, np.nan)
    result = getattr(cl, name)(x, y, c.copy(), ignore_index=y[0], out=out)
    gradient = result if name == "gradient" else result[1]
    assert gradient is out
    assert bits(out) == bits(cl.gradient(x, y, c, ignore_index=y[0]))
    assert not out[0].any()


@dtypes
def test_out_of_loss(cl, dtype, centers_dtype):
    x, y, c = batch((64, 17), 2, dtype=dtype, centers_dtype=centers_dtype)
    options = {"reduction": "none", "ignore_index": y[0]}
    out = np.full(64, np.nan, centers_dtype)
    assert cl.loss(x, y, c, out=out, **options) is out
    assert bits(out) == bits(cl.loss(x, y, c, **options))
    assert out[0] == 0
    strided = np.full(3 * 64, np.nan, centers_dtype)[::3]
    assert cl.loss(x, y, c, out=strided, **options) is strided
    assert bits(strided) == bits(out)


@dtypes
def test_out_of_center_delta(cl, dtype, centers_dtype):
    x, _, c = batch((64, 17), 4, dtype=dtype, centers_dtype=centers_dtype)
    y = np.full(64, 2)
    out = np.full_like(c, np.nan)
    assert cl.center_delta(x, y, c, out=out) is out
    assert bits(out) == bits(cl.center_delta(x, y, c))
    assert not out[[0, 1, 3]].any()


def test_out_of_a_subclass_comes_back_as_it_is(cl, tmp_path):
    x, y, c = batch((5, 3), 2)
    out = np.memmap(tmp_path / "out", np.float32, "w+", shape=(5, 3))
    assert cl.gradient(x, y, c, out=out) is out
    assert bits(out) == bits(cl.gradient(x, y, c))


@every_call
def test_out_may_be_none(cl, name):
    x, y, c = batch((5, 3), 2)
    options = {} if name in ("class_sums", "update_centers") else {"out": None}
    result = getattr(cl, name)(x, y, c.copy(), **options)
    assert bits(result) == bits(getattr(cl, name)(x, y, c))


# --- reduction, loss_weight, alpha, normalize ---------------------------------------


@has_reduction
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_loss_weight_multiplies(cl, name, reduction):
    x, y, c = whole_numbers(64, 5, 7)
    options = {"reduction": reduction}
    once = getattr(cl, name)(x, y, c.copy(), **options)
    for weight in (4, 0.25, 0):
        result = getattr(cl, name)(x, y, c.copy(), loss_weight=weight, **options)
        if isinstance(once, tuple):
            expected = tuple(weight * part for part in once)
            assert all(map(np.array_equal, result, expected))
        else:
            assert np.array_equal(result, weight * once)


@moves_centers
def test_alpha_multiplies_the_move(cl, name):
    x, y, c = whole_numbers(64, 5, 7)
    for normalize in (False, True):
        delta = cl.center_delta(x, y, c, normalize=normalize)
        for alpha in (0, 0.25, 0.5, 1, 3):
            moved = c.copy()
            getattr(cl, name)(x, y, moved, alpha=alpha, normalize=normalize)
            np.testing.assert_allclose(moved, c - alpha * delta, rtol=1e-14, atol=1e-13)


def test_defaults(cl):
    x, y, c = batch((64, 5), 7)
    given = c.copy()
    cl.update_centers(x, y, given, alpha=0.5, normalize=True)
    default = c.copy()
    cl.update_centers(x, y, default)
    assert bits(default) == bits(given)
    options = {"reduction": "mean", "loss_weight": 1.0}
    expected = cl.value_and_grad(x, y, c, **options)
    assert bits(cl.value_and_grad(x, y, c)) == bits(expected)


@pytest.mark.parametrize(
    "number", [2, 2.0, Fraction(2), Decimal(2), np.float32(2), np.int8(2), np.array(2)]
)
def test_numbers_of_any_type(cl, number):
    x, y, c = batch((6, 5), 7)
    expected, centers = cl.gradient(x, y, c, loss_weight=2.0), c.copy()
    assert bits(cl.gradient(x, y, c, loss_weight=number)) == bits(expected)
    cl.update_centers(x, y, centers, alpha=2.0)
    cl.update_centers(x, y, c, alpha=number)
    assert bits(c) == bits(centers)


def test_true_is_a_number_and_so_is_minus_zero(cl):
    x, y, c = batch((6, 5), 7)
    assert cl.loss(x, y, c, loss_weight=True) == cl.loss(x, y, c)
    before = bits(c)
    assert cl.loss(x, y, c, loss_weight=-0.0) == 0
    cl.update_centers(x, y, c, alpha=-0.0)
    assert bits(c) == before


def test_normalize_of_numpy(cl):
    x, y, c = batch((6, 5), 7)
    for normalize in (False, True):
        expected = cl.center_delta(x, y, c, normalize=normalize)
        result = cl.center_delta(x, y, c, normalize=np.bool_(normalize))
        assert bits(result) == bits(expected)


# --- finite differences -------------------------------------------------------------


def central_difference(function, array):
    """Derivative by each element; exact for a quadratic, but for rounding."""
    h = 2.0**-8
    result = np.zeros_like(array)
    for place in np.ndindex(array.shape):
        kept = array[place]
        array[place] = kept + h
        above = function()
        array[place] = kept - h
        result[place] = (above - function()) / (2 * h)
        array[place] = kept
    return result


OPTIONS = [{}, {"sample_weight": np.linspace(0, 2, 9)}, {"ignore_index": 1}]


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_gradient_by_finite_differences(cl, reduction, options):
    x, y, c = batch((9, 4), 3, dtype=np.float64)
    options = {"reduction": reduction, "loss_weight": 1.7, **options}
    gradient = cl.gradient(x, y, c, **options)
    expected = central_difference(lambda: cl.loss(x, y, c, **options), x)
    np.testing.assert_allclose(gradient, expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_center_delta_by_finite_differences(cl, options):
    """Without the count it is the gradient of the "sum" loss for the centers."""
    x, y, c = batch((9, 4), 4, dtype=np.float64)
    delta = cl.center_delta(x, y, c, normalize=False, **options)
    expected = central_difference(
        lambda: cl.loss(x, y, c, reduction="sum", **options), c
    )
    np.testing.assert_allclose(delta, expected, rtol=1e-10, atol=1e-11)

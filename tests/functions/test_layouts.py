"""Random shapes and layouts, against contiguous arrays and exact arithmetic."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import centerloss as cl
from tests.helpers.batches import DTYPES, bits
from tests.helpers.layouts import in_memory
from tests.helpers.oracle import BFLOAT16, Exact, ulp, worst_ulps

pytestmark = pytest.mark.kernels

INTEGERS = [np.dtype(code) for code in "bBhHiIlLqQ"]


@st.composite
def batches(draw):
    """Labels of up to three axes, features of up to three more, centers and weights.

    All are in plain memory.
    """
    dtype, centers_dtype = draw(st.sampled_from(DTYPES))
    rows = draw(
        st.one_of(
            st.tuples(st.integers(0, 40)),
            st.lists(st.integers(0, 4), min_size=2, max_size=3).map(tuple),
        )
    )
    shape = (*rows, *draw(st.lists(st.integers(0, 9), max_size=3)))
    classes = draw(st.integers(1, 12))
    row = int(np.prod(shape[len(rows) :]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    scale = 10.0 ** draw(st.integers(-2, 2))
    features = (scale * rng.standard_normal(shape)).astype(dtype)
    centers = (scale * rng.standard_normal((classes, row))).astype(centers_dtype)
    labels = rng.integers(0, classes, rows).astype(draw(st.sampled_from(INTEGERS)))
    weights = draw(st.sampled_from([None, rng.uniform(0, 2, rows)]))
    return features, labels, centers, weights


@st.composite
def evenly_spaced(draw, features, axes):
    """An array for the gradient: any first axis, made of the first `axes` ones."""
    shape = features.shape
    flat = np.zeros((np.prod(shape[:axes], dtype=int), *shape[axes:]), features.dtype)
    flat = draw(in_memory(flat, contiguous_rows=True))
    out = flat.reshape(shape)
    assert np.shares_memory(out, flat) or not out.size
    return out


def swapped_or_not(draw, array):
    if array.dtype != BFLOAT16 and draw(st.booleans()):
        return array.astype(array.dtype.newbyteorder())
    return array


@given(st.data(), batches())
def test_layout_changes_no_bit(data, plain):
    features, labels, centers, weights = plain
    expected_centers = centers.copy()
    expected = cl.step(features, labels, expected_centers, sample_weight=weights)

    x = data.draw(in_memory(swapped_or_not(data.draw, features)))
    y = data.draw(in_memory(swapped_or_not(data.draw, labels)))
    c = data.draw(in_memory(centers, contiguous_rows=True))
    w = None if weights is None else data.draw(in_memory(weights))
    out = data.draw(evenly_spaced(features, labels.ndim))
    result = cl.step(x, y, c, sample_weight=w, out=out)
    assert bits(result) == bits(expected)
    assert bits(c) == bits(expected_centers)
    assert np.array_equal(x, features)
    assert np.array_equal(y, labels)


# 450 ulp of float64 are at most 1e-13.
@given(batches(), st.sampled_from(["none", "sum", "mean"]))
def test_any_shape_is_exact(arguments, reduction):
    features, labels, centers, weights = arguments
    flat = None if weights is None else weights.ravel()
    x = features.reshape(labels.size, centers.shape[1])
    exact = Exact(x, labels.ravel(), centers, sample_weight=flat)
    moved = centers.copy()
    options = {"sample_weight": weights, "reduction": reduction}
    value, gradient = cl.step(features, labels, moved, **options)

    ulps = {"float32": (4, 2, 1), "float64": (450, 450, 450)}[centers.dtype.name]
    assert np.shape(value) == (labels.shape if reduction == "none" else ())
    value = np.ravel(np.asarray(value, centers.dtype))
    assert worst_ulps(value, exact.loss(reduction), centers.dtype) <= ulps[0]
    expected = exact.gradient(reduction).reshape(features.shape)
    assert worst_ulps(gradient, expected, features.dtype) <= ulps[1]
    expected = exact.moved(0.5)
    operands = exact.operands(expected, differences=False)
    error = np.abs(moved - expected) / ulp(operands, centers.dtype)
    assert error.max(initial=0) <= ulps[2]

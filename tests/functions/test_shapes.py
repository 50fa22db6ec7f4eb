"""Labels of several axes: the features, weights and results follow their shape."""

import numpy as np
import pytest

from centerloss import CenterLoss
from centerloss._core import check
from tests.helpers.batches import (
    CALLS,
    MOVES_CENTERS,
    OUT_HOLDS,
    batch,
    bits,
    dtypes,
    is_array,
)

every_call = pytest.mark.parametrize("name", CALLS)


def shaped(rows, row, classes, **more):
    """Features (*rows, *row), labels of shape `rows`, and centers."""
    x, y, c = batch((int(np.prod(rows)), *row), classes, **more)
    return x.reshape(*rows, *row), y.reshape(rows), c


# --- by hand ------------------------------------------------------------------------


def tokens():
    """Two sequences of two tokens with two values each."""
    x = np.array([[[1, 0], [3, 4]], [[0, 4], [0, 2]]], np.float32)
    c = np.array([[2, 2], [9, 9], [0, 0]], np.float32)
    return x, np.array([[0, 2], [2, 0]]), c


def test_loss(cl):
    assert cl.loss(*tokens(), reduction="none").tolist() == [[2.5, 12.5], [8, 2]]
    assert cl.loss(*tokens(), reduction="sum") == 25
    assert cl.loss(*tokens()) == 6.25
    w = np.array([[1, 0], [0.5, 0.5]])
    assert cl.loss(*tokens(), sample_weight=w) == (2.5 + 4 + 1) / 2


def test_step(cl):
    x, y, c = tokens()
    losses, gradient = cl.step(
        x, y, c, alpha=0.75, reduction="none", sample_weight=np.ones((2, 2))
    )
    assert losses.tolist() == [[2.5, 12.5], [8, 2]]
    assert gradient.tolist() == [[[-1, -2], [3, 4]], [[0, 4], [-2, 0]]]
    assert c.tolist() == [[1.25, 1.5], [9, 9], [0.75, 2]]


def test_ignored_tokens(cl):
    x, y, c = tokens()
    y[0, 1] = -100
    losses, gradient = cl.step(x, y, c, alpha=0.75, reduction="none", ignore_index=-100)
    assert losses.tolist() == [[2.5, 0], [8, 2]]
    assert gradient.tolist() == [[[-1, -2], [0, 0]], [[0, 4], [-2, 0]]]
    assert c.tolist() == [[1.25, 1.5], [9, 9], [0, 1.5]]


def test_pixels_with_the_channels_last(cl):
    """Of (B, C, H, W), after np.moveaxis."""
    x = np.arange(2 * 3 * 2 * 2, dtype=np.float64).reshape(2, 3, 2, 2)
    y = np.array([[[0, 1], [1, 0]], [[0, 0], [1, 1]]])
    losses = cl.loss(np.moveaxis(x, 1, -1), y, np.zeros((2, 3)), reduction="none")
    expected = 0.5 * (x[:, 0] ** 2 + x[:, 1] ** 2 + x[:, 2] ** 2)
    assert losses.tolist() == expected.tolist()


def test_the_class():
    x, y, c = tokens()
    loss_fn = CenterLoss(3, 2, init=c, reduction="none", alpha=0.75)
    assert loss_fn(x, y).tolist() == [[2.5, 12.5], [8, 2]]
    assert loss_fn.value_and_grad(x, y, np.ones((2, 2)))[1].shape == x.shape
    assert loss_fn.step(x, y)[0].shape == (2, 2)
    assert c.tolist() == [[1.25, 1.5], [9, 9], [0.75, 2]]
    assert loss_fn.update(x, y, np.zeros((2, 2))) == 2
    assert loss_fn.init_centers(x, y) == 2
    assert c.tolist() == [[0.5, 1], [9, 9], [1.5, 4]]


# --- the same as with one axis, bit for bit -----------------------------------------

SHAPES = [
    ((4,), (6,)),
    ((4,), ()),
    ((2, 3), (6,)),
    ((2, 3), ()),
    ((2, 3), (2, 3)),
    ((6, 1), (6,)),
    ((1, 6), (6,)),
    ((2, 1, 3), (6,)),
    ((2, 3, 5, 7), (4,)),
    ((1,) * 3, (6,)),
    ((0, 3), (6,)),
    ((3, 0), (6,)),
    ((2, 3), (0,)),
]


@every_call
@dtypes
@pytest.mark.parametrize(("rows", "row"), SHAPES)
def test_results_follow_the_labels(cl, name, dtype, centers_dtype, rows, row):
    x, y, c = shaped(rows, row, 5, dtype=dtype, centers_dtype=centers_dtype)
    w = np.linspace(0.5, 2, y.size).reshape(rows)
    moved, expected_centers = c.copy(), c.copy()
    function, options = getattr(cl, name), {}
    if name in ("loss", "gradient", "value_and_grad", "step"):
        options["reduction"] = "none"
    flat = function(
        x.reshape(y.size, *row),
        y.ravel(),
        expected_centers,
        sample_weight=w.ravel(),
        **options,
    )
    result = function(x, y, moved, sample_weight=w, **options)
    assert bits(moved) == bits(expected_centers)
    parts = result if isinstance(result, tuple) else (result,)
    flat = flat if isinstance(flat, tuple) else (flat,)
    for part, expected in zip(parts, flat, strict=True):
        assert np.asarray(part).tobytes() == np.asarray(expected).tobytes()
    if name in ("loss", "value_and_grad", "step"):
        assert is_array(parts[0], rows, centers_dtype)
    if OUT_HOLDS.get(name) == "gradient":
        assert is_array(parts[-1], x.shape, dtype)


# --- memory -------------------------------------------------------------------------


def in_one_block(x):
    return x


def every_second_row(x):
    """Of all rows, also where a sequence ends."""
    flat = x.reshape(-1, x.shape[-1])
    return np.repeat(flat, 2, axis=0)[::2].reshape(x.shape)


def backwards(x):
    return x[::-1, ::-1].copy()[::-1, ::-1]


@pytest.mark.kernels
@pytest.mark.parametrize("change", [in_one_block, every_second_row, backwards])
def test_evenly_spaced_rows_are_not_copied(change):
    x, y, c = shaped((4, 5), (3,), 6)
    x = change(x)
    checked = check("loss", {"features": x, "labels": y, "centers": c})
    assert np.shares_memory(checked["features"], x)
    assert np.shares_memory(checked["labels"], y)
    assert checked["features"].shape == x.shape
    assert checked["labels"].shape == y.shape


def transposed(x):
    return np.swapaxes(np.swapaxes(x, 0, 1).copy(), 0, 1)


def every_second_sequence(x):
    return np.repeat(x, 2, axis=0)[::2]


def padded_sequences(x):
    """A part of longer sequences."""
    return np.concatenate([x, x], axis=1)[:, : x.shape[1]]


def channels_first(x):
    return np.moveaxis(np.moveaxis(x, -1, 1).copy(), 1, -1)


@every_call
@pytest.mark.parametrize(
    "change", [transposed, every_second_sequence, padded_sequences, channels_first]
)
def test_other_layouts_are_read(cl, name, change):
    """Features, labels and weights in them give the same bits."""
    x, y, c = shaped((4, 5), (3,), 6)
    w = np.linspace(0.5, 2, 20).reshape(4, 5)
    moved, expected_centers = c.copy(), c.copy()
    function = getattr(cl, name)
    expected = function(x, y, expected_centers, sample_weight=w)
    y, w = change(y[..., None])[..., 0], change(w[..., None])[..., 0]
    result = function(change(x), y, moved, sample_weight=w)
    assert bits(result) == bits(expected)
    assert bits(moved) == bits(expected_centers)


@pytest.mark.parametrize("name", ["gradient", "value_and_grad", "step"])
@pytest.mark.parametrize("change", [in_one_block, every_second_row, backwards])
def test_out_with_one_stride_is_written_in_place(cl, name, change):
    x, y, c = shaped((4, 5), (3,), 6)
    out = change(np.full_like(x, np.nan))
    result = getattr(cl, name)(x, y, c.copy(), out=out)
    assert (result if name == "gradient" else result[1]) is out
    assert np.array_equal(out, cl.gradient(x, y, c))


UNEVEN = (
    "^out has rows at uneven distances: one stride must lead from each row to the next$"
)


@pytest.mark.parametrize("name", ["gradient", "value_and_grad", "step"])
@pytest.mark.parametrize(
    "change", [transposed, every_second_sequence, padded_sequences]
)
def test_out_without_one_stride_is_refused(cl, name, change):
    x, y, c = shaped((4, 5), (3,), 6)
    out, before = change(np.ones_like(x)), bits(c)
    with pytest.raises(ValueError, match=UNEVEN):
        getattr(cl, name)(x, y, c, out=out)
    assert np.all(out == 1)
    assert bits(c) == before


@pytest.mark.parametrize("name", ["gradient", "step"])
def test_out_whose_rows_overlap_is_refused(cl, name):
    """One stride leads through them, one element after the other."""
    x, y, c = shaped((2, 2), (3,), 6)
    memory = np.ones(6, np.float32)
    out = np.lib.stride_tricks.as_strided(memory, x.shape, (8, 4, 4))
    with pytest.raises(ValueError, match="^out overlaps itself$"):
        getattr(cl, name)(x, y, c, out=out)
    assert np.all(memory == 1)


def test_out_of_loss(cl):
    x, y, c = shaped((4, 5), (3,), 6)
    expected = cl.loss(x, y, c, reduction="none")
    for out in (np.ones((4, 5), np.float32), np.ones((4, 10), np.float32)[:, ::2]):
        assert cl.loss(x, y, c, reduction="none", out=out) is out
        assert np.array_equal(out, expected)
    out = np.ones((5, 4), np.float32).T
    with pytest.raises(ValueError, match=UNEVEN):
        cl.loss(x, y, c, reduction="none", out=out)
    assert np.all(out == 1)


# --- bool ---------------------------------------------------------------------------


@every_call
def test_bool_labels_are_zero_and_one(cl, name):
    x, y, c = batch((8, 3), 2)
    function, moved = getattr(cl, name), c.copy()
    expected = bits(function(x, y, moved))
    for labels in (y.astype(bool), y.astype(bool).tolist()):
        centers = c.copy()
        assert bits(function(x, labels, centers)) == expected
        assert bits(centers) == bits(moved)
    ignored = bits(function(x, y, c.copy(), ignore_index=1))
    assert bits(function(x, y.astype(bool), c.copy(), ignore_index=1)) == ignored


@pytest.mark.parametrize("name", MOVES_CENTERS)
def test_bool_labels_outside_the_classes(cl, name):
    x, _, c = batch((3, 3), 1)
    with pytest.raises(IndexError, match=r"^labels\[1\] is True, but there are 1 cla"):
        getattr(cl, name)(x, [False, True, False], c)


# --- errors -------------------------------------------------------------------------


@every_call
def test_bad_values_have_an_index_for_each_axis(cl, name):
    x, y, c = shaped((2, 1, 3), (4,), 5)
    w = np.ones(y.shape)
    w[1, 0, 2] = -1
    with pytest.raises(ValueError, match=r"^sample_weight\[1, 0, 2\] is -1\.0, expec"):
        getattr(cl, name)(x, y, c, sample_weight=w)
    y[1, 0, 1] = 7
    with pytest.raises(IndexError, match=r"^labels\[1, 0, 1\] is 7, but there are 5"):
        getattr(cl, name)(x, y, c)
    with pytest.raises(IndexError, match=r"^labels\[1, 0, 1\] is 7, but there are 5"):
        getattr(cl, name)(x, np.asfortranarray(y.astype(">i2")), c)


def message_of(x_shape, y_shape, c_shape, **options):
    """The error of a call with arrays of these shapes."""
    x, c = np.ones(x_shape, np.float32), np.ones(c_shape, np.float32)
    arguments = {"features": x, "labels": np.zeros(y_shape, int), "centers": c}
    with pytest.raises(ValueError, match="shape") as raised:
        check("loss", {**arguments, **options})
    return str(raised.value)


@pytest.mark.kernels
@pytest.mark.parametrize(
    ("features", "labels", "centers", "message"),
    [
        (
            *((2, 4, 8), (2, 8), (3, 4)),
            "features has shape (2, 4, 8), expected (2, 8, 4) for labels of shape "
            "(2, 8): pass np.moveaxis(features, 1, -1)",
        ),
        (
            *((2, 5, 4), (3, 5), (3, 4)),
            "labels has shape (3, 5), expected (2, 5): one label per row of features",
        ),
        (
            *((2, 5, 4), (2, 5, 1), (3, 4)),
            "labels has shape (2, 5, 1), expected (2, 5): one label per row of "
            "features",
        ),
        (
            *((2, 5, 4), (2, 5, 3), (3, 4)),
            "labels has shape (2, 5, 3), expected (2, 5): one label per row of "
            "features; pass labels.argmax(axis=2)",
        ),
        (  # as many classes as values
            *((4, 6), (4, 6), (6, 6)),
            "labels has shape (4, 6), expected (4,): one label per row of features; "
            "pass labels.argmax(axis=1)",
        ),
        (
            *((4, 6), (4, 6), (3, 6)),
            "labels has shape (4, 6), expected (4,): one label per row of features",
        ),
        (
            *((4, 6), (2, 2), (3, 6)),
            "labels has shape (2, 2), expected (4,): one label per row of features",
        ),
        (
            *((4, 6), (4, 1), (1, 6)),
            "labels has shape (4, 1), expected (4,): one label per row of features; "
            "pass labels.ravel()",
        ),
        (
            *((2, 5, 3, 4), (2, 3, 4), (3, 6)),
            "features has 60 values per row, but centers has 6: shapes (2, 5, 3, 4) "
            "and (3, 6)",
        ),
        (
            *((6,), (), (3, 6)),
            "labels has shape (), expected at least one axis: (rows,)",
        ),
        (
            *((2, 5, 7), (2, 5), (3, 4)),
            "features has 7 values per row, but centers has 4: shapes (2, 5, 7) and "
            "(3, 4)",
        ),
        (
            *((2, 5, 3, 2), (2,), (3, 6)),
            "features has 30 values per row, but centers has 6: shapes (2, 5, 3, 2) "
            "and (3, 6); for rows of length 6, labels needs shape (2, 5)",
        ),
    ],
)
def test_shapes_that_do_not_match(features, labels, centers, message):
    assert message_of(features, labels, centers) == message


@pytest.mark.kernels
def test_weights_have_the_shape_of_the_labels():
    message = "expected (2, 5): one weight per row of features"
    for shape in ((10,), (5, 2), (2, 5, 1), (2,)):
        given = message_of((2, 5, 4), (2, 5), (3, 4), sample_weight=np.ones(shape))
        assert given == f"sample_weight has shape {shape}, {message}"

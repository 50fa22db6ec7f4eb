"""CenterLoss: calls, construction, centers from features."""

import inspect

import ml_dtypes
import numpy as np
import pytest

import centerloss
from centerloss import CenterLoss
from tests.helpers.batches import batch, bits
from tests.helpers.error_cases import read_only

pytestmark = pytest.mark.kernels

SETTINGS = {
    "alpha": 0.25,
    "loss_weight": 3.0,
    "reduction": "sum",
    "normalize": False,
    "ignore_index": 2,
    "skip_nonfinite": False,
}
DEFAULTS = {
    "alpha": 0.5,
    "loss_weight": 1.0,
    "reduction": "mean",
    "normalize": True,
    "ignore_index": None,
    "skip_nonfinite": True,
}
UPDATE_SETTINGS = ("alpha", "normalize", "ignore_index", "skip_nonfinite")
LOSS_SETTINGS = ("reduction", "loss_weight", "ignore_index")
NAN = float("nan")


def settings_of(loss_fn):
    return {name: getattr(loss_fn, name) for name in SETTINGS}


def make():
    """A batch, and an object with a copy of its centers."""
    x, y, c = batch((6, 3), 4)
    return x, y, c, CenterLoss(4, 3, init=c.copy())


# --- calls ------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [None, [0.5, 1.0, 2.0, 0.25, 1.0, 3.0]])
@pytest.mark.parametrize(
    "settings", [DEFAULTS, SETTINGS, SETTINGS | {"reduction": "none"}]
)
@pytest.mark.parametrize(
    ("method", "function", "used"),
    [
        ("__call__", centerloss.loss, LOSS_SETTINGS),
        ("value_and_grad", centerloss.value_and_grad, LOSS_SETTINGS),
        ("update", centerloss.update_centers, UPDATE_SETTINGS),
        ("step", centerloss.step, SETTINGS),
    ],
)
def test_a_call_equals_the_function(method, function, used, settings, weights):
    x, y, c = batch((6, 3, 2, 2), 4)
    x = x.astype(ml_dtypes.bfloat16)
    loss_fn = CenterLoss(4, 12, init=c.copy(), **settings)
    given = {name: settings[name] for name in used}
    expected = function(x, y, c, sample_weight=weights, **given)
    assert bits(getattr(loss_fn, method)(x, y, weights)) == bits(expected)
    assert bits(loss_fn.centers) == bits(c)


@pytest.mark.parametrize("name", ["update", "step"])
def test_bad_rows(name):
    x, c = np.array([[4.0], [np.nan]]), np.zeros((2, 1))
    loss_fn = CenterLoss(2, 1, init=c)
    getattr(loss_fn, name)(x, [0, 1])
    assert c.tolist() == [[1], [0]]
    loss_fn.skip_nonfinite = False
    getattr(loss_fn, name)(x, [0, 1])
    assert np.isnan(c).tolist() == [[False], [True]]


@pytest.mark.parametrize("name", ["value_and_grad", "step"])
def test_out_takes_the_gradient(name):
    x, y, c, loss_fn = make()
    out = np.empty_like(x)
    assert getattr(loss_fn, name)(x, y, out=out)[1] is out
    assert bits(out) == bits(centerloss.gradient(x, y, c))


@pytest.mark.parametrize(
    "name", ["__call__", "value_and_grad", "update", "step", "init_centers"]
)
def test_a_failing_call_changes_nothing(name):
    x, y, c, loss_fn = make()
    y[-1] = 4
    with pytest.raises(IndexError, match=r"labels\[5\] is 4, but there are 4 classes"):
        getattr(loss_fn, name)(x, y)
    assert bits(loss_fn.centers) == bits(c)


def test_settings_may_change_between_calls():
    x, y, c, loss_fn = make()
    loss_fn.alpha, loss_fn.loss_weight = 0.125, 7.0
    expected = centerloss.step(x, y, c, alpha=0.125, loss_weight=7.0)
    assert bits(loss_fn.step(x, y)) == bits(expected)
    assert bits(loss_fn.centers) == bits(c)


@pytest.mark.parametrize("name", ["alpha", "loss_weight"])
def test_a_wrong_setting_is_found_by_the_next_call(name):
    x, y, c, loss_fn = make()
    setattr(loss_fn, name, -1)
    message = f"^{name} is -1, expected a finite number >= 0$"
    with pytest.raises(ValueError, match=message):
        loss_fn.step(x, y)
    assert bits(loss_fn.centers) == bits(c)


def test_writing_to_the_centers_affects_the_next_call():
    x, y, _ = batch((6, 3), 4)
    loss_fn = CenterLoss(4, 3, init="zeros")
    loss_fn.centers[...] = x[0]
    loss_fn.centers -= 1
    assert loss_fn(x[:1], y[:1]) == pytest.approx(1.5, rel=1e-6)


# --- construction -----------------------------------------------------------------


def test_defaults():
    loss_fn = CenterLoss(4, 3)
    assert settings_of(loss_fn) == DEFAULTS
    assert (loss_fn.num_classes, loss_fn.feat_dim) == loss_fn.centers.shape == (4, 3)
    assert loss_fn.centers.dtype == np.float32


def test_num_classes_and_feat_dim_by_name_and_as_numpy_integers():
    assert CenterLoss(num_classes=np.int32(4), feat_dim=3).centers.shape == (4, 3)


def test_the_rest_by_name_only():
    _, _, *others = inspect.signature(CenterLoss).parameters.values()
    assert {other.kind for other in others} == {inspect.Parameter.KEYWORD_ONLY}


def test_no_other_attribute():
    with pytest.raises(AttributeError):
        CenterLoss(4, 3).lambda_ = 0.1


@pytest.mark.parametrize("dtype", ["float32", np.float64, np.dtype("f4")])
def test_normal_centers(dtype):
    expected = np.random.default_rng(5).standard_normal((4, 3), dtype)
    assert bits(CenterLoss(4, 3, dtype=dtype, rng=5).centers) == bits(expected)
    rng = np.random.default_rng(5)
    assert bits(CenterLoss(4, 3, dtype=dtype, rng=rng).centers) == bits(expected)
    assert bits(CenterLoss(4, 3, dtype=dtype, rng=rng).centers) != bits(expected)


def test_normal_centers_differ_without_rng():
    assert bits(CenterLoss(4, 3).centers) != bits(CenterLoss(4, 3).centers)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_zero_centers(dtype):
    centers = CenterLoss(4, 3, init="zeros", dtype=dtype).centers
    assert bits(centers) == bits(np.zeros((4, 3), dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_array_is_used_without_a_copy(dtype):
    centers = np.ones((4, 3), dtype)
    assert CenterLoss(4, 3, init=centers).centers is centers
    assert np.all(centers == 1)


def test_a_row_strided_array_is_used_without_a_copy():
    whole = np.zeros((4, 10), np.float32)
    loss_fn = CenterLoss(4, 3, init=whole[:, 2:5])
    loss_fn.update([[1.0, 1.0, 1.0]], [1])
    expected = np.zeros((4, 10))
    expected[1, 2:5] = 0.25
    assert np.array_equal(whole, expected)


@pytest.mark.parametrize("shape", [(0, 3), (4, 0), (0, 0)])
def test_sizes_of_zero(shape):
    loss_fn = CenterLoss(*shape)
    value, gradient = loss_fn.step(np.zeros((0, shape[1]), np.float32), [])
    assert (value, gradient.shape) == (0.0, (0, shape[1]))


# What follows "NAME is VALUE, expected ".
WRONG = [
    ("num_classes", 4.0, TypeError, "an integer"),
    ("feat_dim", "3", TypeError, "an integer"),
    ("num_classes", -1, ValueError, "an integer >= 0"),
    ("feat_dim", -1, ValueError, "an integer >= 0"),
    ("dtype", "float16", TypeError, "float32 or float64"),
    ("dtype", "float31", TypeError, "float32 or float64"),
    ("dtype", None, TypeError, "float32 or float64"),  # float64 for NumPy
    ("init", "uniform", ValueError, "'normal', 'zeros' or a NumPy array"),
    ("alpha", NAN, ValueError, "a finite number >= 0"),
    ("loss_weight", None, TypeError, "a number"),
    ("reduction", "max", ValueError, "'none', 'sum' or 'mean'"),
    ("normalize", 1, TypeError, "True or False"),
    ("ignore_index", 0.5, TypeError, "an integer or None"),
    ("skip_nonfinite", 0, TypeError, "True or False"),
]
WRONG_INIT = [
    ([[0.0]], TypeError, " is a list, expected 'normal', 'zeros' or a NumPy array"),
    (
        np.zeros((4, 3), np.float16),
        TypeError,
        " has dtype float16, expected float32 or float64: "
        "make it with init.astype(np.float32)",
    ),
    (np.zeros((3, 4)), ValueError, " has shape (3, 4), expected (4, 3)"),
    (read_only(np.zeros((4, 3))), ValueError, " is read-only"),
    (
        np.zeros((3, 4)).T,
        ValueError,
        " has strided rows: each row must be contiguous in memory",
    ),
]


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        *((name, v, e, f" is {v!r}, expected {rest}") for name, v, e, rest in WRONG),
        *(("init", *case) for case in WRONG_INIT),
    ],
)
def test_wrong_arguments(name, value, error, message):
    with pytest.raises(error) as caught:
        CenterLoss(**({"num_classes": 4, "feat_dim": 3} | {name: value}))
    assert type(caught.value) is error
    assert str(caught.value) == name + message


def test_an_error_draws_no_random_number():
    rng = np.random.default_rng(5)
    for wrong in ({"alpha": -1}, {"dtype": "float16"}, {"reduction": "max"}):
        with pytest.raises((TypeError, ValueError)):
            CenterLoss(4, 3, rng=rng, **wrong)
    assert rng.random() == np.random.default_rng(5).random()


# --- centers from features --------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_init_centers_are_class_means(dtype):
    x, y, _ = batch((500, 7), 9, dtype=dtype)
    x += 1000
    y[y == 4] = 3
    loss_fn = CenterLoss(9, 7, init=np.full((9, 7), NAN, dtype))
    assert loss_fn.init_centers(x, y) == 8
    wide = x.astype(np.longdouble)
    for label in set(y.tolist()):
        rows = wide[y == label]
        mean = rows.mean(axis=0)
        # Sum and mean are rounded to the dtype, each addition to float64.
        bound = 1.5 * np.finfo(dtype).eps + len(rows) * np.finfo(np.float64).eps
        assert np.all(np.abs(loss_fn.centers[label] - mean) <= bound * mean)
    assert np.all(np.isnan(loss_fn.centers[4]))


def test_init_centers_ignores_rows():
    loss_fn = CenterLoss(3, 1, init="zeros", ignore_index=-1)
    assert loss_fn.init_centers([[2.0], [4.0], [100.0]], [1, 1, -1]) == 1
    assert loss_fn.centers.ravel().tolist() == [0.0, 3.0, 0.0]


def test_init_centers_from_its_own_centers():
    loss_fn = CenterLoss(4, 3, rng=0)
    before = loss_fn.centers.copy()
    assert loss_fn.init_centers(loss_fn.centers, [3, 2, 1, 0]) == 4
    assert bits(loss_fn.centers) == bits(before[::-1])


def test_init_centers_from_no_features():
    loss_fn = CenterLoss(4, 3, init="zeros")
    assert loss_fn.init_centers(np.zeros((0, 3), np.float32), []) == 0
    assert not np.any(loss_fn.centers)


def test_init_centers_of_features_whose_sum_overflows():
    loss_fn = CenterLoss(2, 1, init="zeros")
    assert loss_fn.init_centers([[3e38], [3e38], [1.0]], [0, 0, 1]) == 2
    assert loss_fn.centers.ravel().tolist() == [np.inf, 1.0]


def test_init_centers_changes_nothing_if_numpy_raises_on_underflow():
    loss_fn = CenterLoss(2, 2, init=np.full((2, 2), 7, np.float32))
    tiny = np.array([[1e-45, 1e-45], [0, 0]], np.float32)
    with np.errstate(all="raise"), pytest.raises(FloatingPointError):
        loss_fn.init_centers(tiny, [0, 0])
    assert (loss_fn.centers == 7).all()

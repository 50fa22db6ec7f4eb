"""CenterLoss: calls, construction, centers from features."""

import inspect

import ml_dtypes
import numpy as np
import pytest

import centerloss
from centerloss import CenterLoss
from tests.helpers.batches import batch, bits

SETTINGS = {
    "alpha": 0.25,
    "loss_weight": 3.0,
    "reduction": "sum",
    "normalize": False,
    "ignore_index": 2,
}
DEFAULTS = {
    "alpha": 0.5,
    "loss_weight": 1.0,
    "reduction": "mean",
    "normalize": True,
    "ignore_index": None,
}
UPDATE_SETTINGS = ("alpha", "normalize", "ignore_index")
LOSS_SETTINGS = ("reduction", "loss_weight", "ignore_index")
NAN = float("nan")


def settings_of(loss_fn):
    return {name: getattr(loss_fn, name) for name in SETTINGS}


@pytest.fixture(params=[DEFAULTS, SETTINGS, SETTINGS | {"reduction": "none"}])
def settings(request):
    return request.param


@pytest.fixture(params=[None, np.array([0.5, 1.0, 2.0, 0.25, 1.0, 3.0])])
def sample_weight(request):
    return request.param


# --- calls ------------------------------------------------------------------------


def test_call_equals_loss(settings, sample_weight):
    x, y, c = batch((6, 3), 4)
    loss_fn = CenterLoss(4, 3, init=c.copy(), **settings)
    given = {name: settings[name] for name in LOSS_SETTINGS}
    expected = centerloss.loss(x, y, c, sample_weight=sample_weight, **given)
    assert bits(loss_fn(x, y, sample_weight)) == bits(expected)
    assert bits(loss_fn.centers) == bits(c)


def test_value_and_grad_equals_the_function(settings, sample_weight):
    x, y, c = batch((6, 3), 4)
    loss_fn = CenterLoss(4, 3, init=c.copy(), **settings)
    given = {name: settings[name] for name in LOSS_SETTINGS}
    expected = centerloss.value_and_grad(x, y, c, sample_weight=sample_weight, **given)
    assert bits(loss_fn.value_and_grad(x, y, sample_weight)) == bits(expected)
    assert bits(loss_fn.centers) == bits(c)


def test_update_equals_update_centers(settings, sample_weight):
    x, y, c = batch((6, 3), 4)
    loss_fn = CenterLoss(4, 3, init=c.copy(), **settings)
    given = {name: settings[name] for name in UPDATE_SETTINGS}
    expected = centerloss.update_centers(x, y, c, sample_weight=sample_weight, **given)
    assert loss_fn.update(x, y, sample_weight) == expected
    assert expected == len(set(y) - {settings["ignore_index"]})
    assert bits(loss_fn.centers) == bits(c)


def test_step_equals_the_function(settings, sample_weight):
    x, y, c = batch((6, 3), 4)
    loss_fn = CenterLoss(4, 3, init=c.copy(), **settings)
    expected = centerloss.step(x, y, c, sample_weight=sample_weight, **settings)
    assert bits(loss_fn.step(x, y, sample_weight)) == bits(expected)
    assert bits(loss_fn.centers) == bits(c)


@pytest.mark.parametrize("name", ["value_and_grad", "step"])
def test_out_takes_the_gradient(name):
    x, y, c = batch((6, 3), 4)
    expected = getattr(CenterLoss(4, 3, init=c.copy()), name)(x, y)[1]
    out = np.empty_like(x)
    gradient = getattr(CenterLoss(4, 3, init=c), name)(x, y, out=out)[1]
    assert gradient is out
    assert bits(out) == bits(expected)


def test_half_precision_and_images():
    x, y, c = batch((6, 3, 2, 2), 4)
    x = x.astype(ml_dtypes.bfloat16)
    value, gradient = CenterLoss(4, 12, init=c.copy()).step(x, y)
    assert bits((value, gradient)) == bits(centerloss.step(x, y, c))
    assert gradient.shape == x.shape


@pytest.mark.parametrize("name", ["__call__", "value_and_grad", "update", "step"])
def test_a_failing_call_changes_nothing(name):
    x, y, c = batch((6, 3), 4)
    y[-1] = 4
    loss_fn = CenterLoss(4, 3, init=c.copy())
    with pytest.raises(IndexError, match=r"labels\[5\] is 4, but there are 4 classes"):
        getattr(loss_fn, name)(x, y)
    assert bits(loss_fn.centers) == bits(c)


def test_settings_may_change_between_calls():
    x, y, c = batch((6, 3), 4)
    loss_fn = CenterLoss(4, 3, init=c.copy())
    loss_fn.alpha, loss_fn.loss_weight = 0.125, 7.0
    expected = centerloss.step(x, y, c, alpha=0.125, loss_weight=7.0)
    assert bits(loss_fn.step(x, y)) == bits(expected)
    assert bits(loss_fn.centers) == bits(c)


@pytest.mark.parametrize("name", ["alpha", "loss_weight"])
def test_a_wrong_setting_is_found_by_the_next_call(name):
    x, y, c = batch((6, 3), 4)
    loss_fn = CenterLoss(4, 3, init=c.copy())
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
    kinds = {
        p.kind for p in list(inspect.signature(CenterLoss).parameters.values())[2:]
    }
    assert kinds == {inspect.Parameter.KEYWORD_ONLY}


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


def test_memory_mapped_centers(tmp_path):
    path = tmp_path / "centers"
    x, y, c = batch((6, 3), 4)
    mapped = np.memmap(path, np.float32, "w+", shape=(4, 3))
    mapped[...] = c
    loss_fn = CenterLoss(4, 3, init=mapped)
    assert loss_fn.centers is mapped
    loss_fn.step(x, y)
    mapped.flush()
    centerloss.step(x, y, c)
    assert path.read_bytes() == c.tobytes()


@pytest.mark.parametrize("shape", [(0, 3), (4, 0), (0, 0)])
def test_sizes_of_zero(shape):
    loss_fn = CenterLoss(*shape)
    value, gradient = loss_fn.step(np.zeros((0, shape[1]), np.float32), [])
    assert (value, gradient.shape) == (0.0, (0, shape[1]))


def read_only():
    centers = np.zeros((4, 3))
    centers.flags.writeable = False
    return centers


WRONG = [
    ({"num_classes": 4.0}, TypeError, "num_classes is 4.0, expected an integer"),
    ({"feat_dim": "3"}, TypeError, "feat_dim is '3', expected an integer"),
    (
        {"init": [[0.0] * 3] * 4},
        TypeError,
        "init is a list, expected 'normal', 'zeros' or a NumPy array",
    ),
    (
        {"init": np.zeros((4, 3), np.float16)},
        TypeError,
        "init has dtype float16, expected float32 or float64: "
        "make it with init.astype(np.float32)",
    ),
    (
        {"init": np.zeros((4, 3), np.dtype("f4").newbyteorder())},
        TypeError,
        f"init has dtype {np.dtype('f4').newbyteorder()}, expected native byte "
        "order: make it with init.astype(np.float32)",
    ),
    (
        {"dtype": "float16"},
        TypeError,
        "dtype is 'float16', expected float32 or float64",
    ),
    (
        {"dtype": "float31"},
        TypeError,
        "dtype is 'float31', expected float32 or float64",
    ),
    # NumPy would take it as float64.
    ({"dtype": None}, TypeError, "dtype is None, expected float32 or float64"),
    ({"alpha": "x"}, TypeError, "alpha is 'x', expected a number"),
    ({"normalize": 1}, TypeError, "normalize is 1, expected True or False"),
    (
        {"reduction": None},
        TypeError,
        "reduction is None, expected 'none', 'sum' or 'mean'",
    ),
    ({"loss_weight": None}, TypeError, "loss_weight is None, expected a number"),
    (
        {"ignore_index": 0.5},
        TypeError,
        "ignore_index is 0.5, expected an integer or None",
    ),
    ({"num_classes": -1}, ValueError, "num_classes is -1, expected an integer >= 0"),
    ({"feat_dim": -1}, ValueError, "feat_dim is -1, expected an integer >= 0"),
    (
        {"init": "uniform"},
        ValueError,
        "init is 'uniform', expected 'normal', 'zeros' or a NumPy array",
    ),
    (
        {"init": np.zeros((3, 4))},
        ValueError,
        "init has shape (3, 4), expected (4, 3)",
    ),
    ({"init": read_only()}, ValueError, "init is read-only"),
    (
        {"init": np.zeros((3, 4)).T},
        ValueError,
        "init has strided rows: each row must be contiguous in memory",
    ),
    ({"alpha": -1}, ValueError, "alpha is -1, expected a finite number >= 0"),
    ({"alpha": NAN}, ValueError, "alpha is nan, expected a finite number >= 0"),
    (
        {"loss_weight": float("inf")},
        ValueError,
        "loss_weight is inf, expected a finite number >= 0",
    ),
    (
        {"reduction": "max"},
        ValueError,
        "reduction is 'max', expected 'none', 'sum' or 'mean'",
    ),
    (
        {"ignore_index": 2**63},
        ValueError,
        "ignore_index is 9223372036854775808, expected an integer of 64 bits",
    ),
]


@pytest.mark.parametrize(
    ("given", "error", "message"), WRONG, ids=lambda x: str(x)[:30]
)
def test_wrong_arguments(given, error, message):
    with pytest.raises(error) as caught:
        CenterLoss(**({"num_classes": 4, "feat_dim": 3} | given))
    assert type(caught.value) is error
    assert str(caught.value) == message


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


def test_init_centers_with_a_bad_label_changes_nothing():
    x, y, c = batch((6, 3), 4)
    y[-1] = -1
    loss_fn = CenterLoss(4, 3, init=c.copy())
    with pytest.raises(IndexError, match=r"labels\[5\] is -1, but there are 4 classes"):
        loss_fn.init_centers(x, y)
    assert bits(loss_fn.centers) == bits(c)

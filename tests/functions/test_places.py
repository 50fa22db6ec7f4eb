"""The private functions for a part of a batch: places, terms, and sums in order."""

import contextlib
import functools
import re
import threading
from fractions import Fraction

import numpy as np
import pytest

import centerloss
from centerloss import _core
from tests.helpers.batches import DTYPES, batch, bits, dtypes
from tests.helpers.error_cases import B, D, K, faulty_calls, good_call

pytestmark = pytest.mark.kernels
RUN = 1024
OPTIONS = ("alpha", "normalize", "skip_nonfinite")


@functools.cache
def large(rows, classes, dtype, centers_dtype):
    """A batch with weights, ignored rows, and rows that are not finite."""
    x, y, c = batch((rows, 5), classes, dtype=dtype, centers_dtype=centers_dtype)
    rng = np.random.default_rng([rows, classes])
    x[rng.random(rows) < 0.01, 2] = np.nan
    y[rng.random(rows) < 0.05] = -100
    return x, y, c, rng.random(rows)


def parts(labels, classes):
    """The rows of each of four owners of classes; any owner has the ignored rows."""
    rng = np.random.default_rng(len(labels))
    owners = rng.integers(0, 4, classes)[np.maximum(labels, 0)]
    owners[labels < 0] = rng.integers(0, 4, np.sum(labels < 0))
    return [np.flatnonzero(owners == owner) for owner in range(4)]


@pytest.fixture(params=[1, 3])
def _threads(request):
    before = centerloss.get_num_threads()
    centerloss.set_num_threads(request.param)
    yield
    centerloss.set_num_threads(before)


@pytest.mark.thread_unsafe(reason="sets the number of threads")
@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("rows", "classes"), [(100_000, 30), (40_000, 9000), (600, 7), (0, 2)]
)
@dtypes
def test_parts_give_the_bits_of_the_batch(
    rows, classes, dtype, centers_dtype, weighted
):
    x, y, c, w = large(rows, classes, dtype, centers_dtype)
    w = w if weighted else None
    expected, moved = c.copy(), c.copy()
    options = {"alpha": 0.3, "ignore_index": -100}
    updated = centerloss.update_centers(x, y, expected, sample_weight=w, **options)
    found = centerloss.class_sums(x, y, c, sample_weight=w, ignore_index=-100)
    sums = []
    for places in parts(y, classes):
        mine = None if w is None else w[places]
        part = {"features": x[places], "labels": y[places], "sample_weight": mine}
        part["places"] = places
        updated -= _core.update_centers_at(centers=moved, **part, **options)
        sums.append(_core.class_sums_at(centers=c, ignore_index=-100, **part))
    assert updated == 0
    assert bits(moved) == bits(expected)
    joined = [np.concatenate(arrays) for arrays in zip(*sums, strict=True)]
    order = np.argsort(joined[0])
    assert bits(tuple(array[order] for array in joined)) == bits(found)


def test_parts_without_places_have_other_sums():
    """In float64, if the batch has several segments: so the test above can fail."""
    x, y, c, _ = large(100_000, 30, *DTYPES[1])
    expected, moved = c.copy(), c.copy()
    centerloss.update_centers(x, y, expected, ignore_index=-100)
    for places in parts(y, 30):
        centerloss.update_centers(x[places], y[places], moved, ignore_index=-100)
    np.testing.assert_allclose(moved, expected, rtol=1e-12, atol=1e-12)
    assert np.mean(moved != expected) > 0.1


def sum_of_run(values):
    """The sum of up to 1024 floats, as csrc/kernels/centerloss.h describes it."""
    grouped = len(values) // 8 * 8
    lanes, others = [0.0] * 8, 0.0
    for i, value in enumerate(values[:grouped]):
        lanes[i % 8] += value
    for value in values[grouped:]:
        others += value
    a, b, c, d, e, f, g, h = lanes
    return (((a + e) + (c + g)) + ((b + f) + (d + h))) + others


def sum_in_order(values):
    if len(values) <= RUN:
        return sum_of_run(values)
    half = -(-(len(values) // 2) // RUN) * RUN
    return sum_in_order(values[:half]) + sum_in_order(values[half:])


@pytest.mark.parametrize(
    "n", [0, 1, 7, 8, 9, 1023, 1024, 1025, 2047, 2048, 2049, 3072, 5121, 20_000]
)
def test_sums_in_order(n):
    values = np.random.default_rng(n).lognormal(0, 5, n)
    expected = sum_in_order(values.tolist())
    assert _core.ordered_sum(values) == expected
    runs = [sum_of_run(values[i : i + RUN].tolist()) for i in range(0, n, RUN)]
    assert _core.ordered_sum_of_runs(np.array(runs), n) == expected
    assert type(_core.ordered_sum(values)) is float


@pytest.mark.parametrize("total", [None, 3, 1234.5])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
@dtypes
def test_terms_and_gradient(reduction, total, dtype, centers_dtype):
    x, y, c = batch((3000, 5), 40, dtype=dtype, centers_dtype=centers_dtype)
    y[::7] = 99
    w = np.random.default_rng(0).random(3000)
    rows = {"sample_weight": w, "ignore_index": 99}
    terms, gradient = _core.terms_and_grad(
        x, y, c, reduction=reduction, loss_weight=0.7, total_weight=total, **rows
    )
    own = _core.ordered_sum(np.where(y == 99, 0, w))
    factor = 0.7 / (total or own) if reduction == "mean" else 0.7
    same = {"reduction": "sum", "loss_weight": factor} | rows
    value, expected = centerloss.value_and_grad(x, y, c, **same)
    assert bits(gradient) == bits(expected)
    assert factor * _core.ordered_sum(terms) == value
    if total is None:
        same |= {"reduction": reduction, "loss_weight": 0.7}
        assert bits((value, gradient)) == bits(
            centerloss.value_and_grad(x, y, c, **same)
        )


@dtypes
def test_terms_are_exact_but_for_rounding(dtype, centers_dtype):
    x, y, c = batch((12, 5), 4, dtype=dtype, centers_dtype=centers_dtype)
    y[3] = 9
    w = np.linspace(0, 2, 12)
    terms, _ = _core.terms_and_grad(x, y, c, sample_weight=w, ignore_index=9)
    assert terms.dtype == np.float64
    assert terms[3] == 0
    for i in np.flatnonzero(y != 9):
        d = x[i].astype(centers_dtype) - c[y[i]]
        squares = sum(Fraction(float(value)) ** 2 for value in d)
        exact = Fraction(w[i]) / 2 * squares
        assert abs(Fraction(terms[i]) - exact) <= exact * Fraction(1, 2**50)


def test_shape_of_the_terms_is_that_of_the_labels():
    x, y, c = batch((12, 5), 4)
    expected = _core.terms_and_grad(x, y, c)
    out = np.empty((3, 4, 5), np.float32)
    terms, gradient = _core.terms_and_grad(
        x.reshape(3, 4, 5), y.reshape(4, 3).T.copy().T.reshape(3, 4), c, out=out
    )
    assert gradient is out
    assert terms.shape == (3, 4)
    assert bits((terms.ravel(), out.reshape(12, 5))) == bits(expected)


def test_total_weights_at_the_limits():
    x, y, c = batch((12, 5), 4)
    terms, zeros = _core.terms_and_grad(x, y, c, total_weight=0)
    assert np.all(terms > 0)
    assert not zeros.any()
    _, infinite = _core.terms_and_grad(x, y, c, total_weight=5e-324)
    assert np.isinf(infinite).all()


@pytest.mark.parametrize("kind", ["strided", "misaligned", "read-only", "subclass"])
def test_kinds_of_places(kind):
    x, y, c = batch((40_000, 3), 5, dtype=np.float64)
    places = np.arange(len(y)) * 3
    if kind == "strided":
        given = np.repeat(places, 2)[::2]
    elif kind == "misaligned":
        memory = bytearray(places.nbytes + 1)
        given = np.frombuffer(memory, np.int64, len(places), offset=1)
        given[:] = places
    elif kind == "read-only":
        given = places.copy()
        given.flags.writeable = False
    else:
        given = places.view(type("Subclass", (np.ndarray,), {}))
    expected = _core.class_sums_at(x, y, c, places=places)
    assert bits(_core.class_sums_at(x, y, c, places=given)) == bits(expected)
    assert bits(centerloss.class_sums(x, y, c)) != bits(expected)


def test_longlong_is_int64_too():
    x, y, c = batch((3, 2), 5)
    for dtype in (np.longlong, np.dtype("q"), np.int64):
        assert _core.update_centers_at(x, y, c, places=np.arange(3, dtype=dtype)) > 0


def test_rows_of_two_axes_have_places_of_one():
    x, y, c = batch((12, 5), 4)
    places = np.arange(12) * 10_000
    expected = _core.class_sums_at(x, y, c, places=places)
    found = _core.class_sums_at(x.reshape(3, 4, 5), y.reshape(3, 4), c, places=places)
    assert bits(found) == bits(expected)


def test_places_that_another_thread_changes():
    """The sums may have other bits; the next call has the right ones."""
    x, y, c, _ = large(40_000, 9000, *DTYPES[1])
    places = np.arange(len(y))
    garbage = np.random.default_rng(0).integers(-(2**63), 2**63 - 1, len(y))
    done = threading.Event()

    def change():
        while not done.is_set():
            places[:] = garbage
            places[:] = np.arange(len(y))

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(30):
            with contextlib.suppress(ValueError):  # they may not be ascending just now
                _core.class_sums_at(x, y, c, ignore_index=-100, places=places)
    finally:
        done.set()
        thread.join()
    expected = centerloss.class_sums(x, y, c, ignore_index=-100)
    found = _core.class_sums_at(x, y, c, ignore_index=-100, places=np.arange(len(y)))
    assert bits(found) == bits(expected)


AT = {"update_centers_at": "update_centers", "class_sums_at": "class_sums"}


@pytest.mark.parametrize("name", [*AT, "terms_and_grad"])
def test_errors_of_the_function_without_places(name):
    """The messages are the same, also from `_core.check`."""
    function = getattr(_core, name)
    more = {"places": np.arange(B)} if name in AT else {}
    for fault, call in faulty_calls(AT.get(name, "value_and_grad")):
        message = fault.message
        if name == "terms_and_grad":
            message = message.replace("expected 'none', ", "expected ")
            call |= {} if call["reduction"] != "none" else {"reduction": "sum"}
        for run in (function, lambda **call: _core.check(name, call)):
            with pytest.raises(fault.error) as raised:
                run(**call, **more)
            assert str(raised.value) == message


def at_call(name):
    return good_call(AT[name]) | {"places": np.arange(B)}


@pytest.mark.parametrize("name", AT)
@pytest.mark.parametrize(
    ("places", "error", "message"),
    [
        ([0, 1, 2, 3], TypeError, "is a list, expected a NumPy array of int64"),
        (None, TypeError, "is a NoneType, expected a NumPy array of int64"),
        *(
            (np.zeros(B, dtype), TypeError, f"has dtype {dtype}, expected int64")
            for dtype in ("int32", "uint64", "float64", "timedelta64[s]", ">i8", "bool")
        ),
        *(
            (
                np.zeros(shape, np.int64),
                ValueError,
                f"has shape {shape}, expected ({B},): one place per row of features",
            )
            for shape in ((), (B, 1), (B - 1,), (0,))
        ),
        (np.arange(-1, B - 1), ValueError, "[0] is -1, expected an integer >= 0"),
        (
            np.array([0, 3, 5, 2]),
            ValueError,
            "[3] is 2, but places[2] is 5: expected ascending places",
        ),
        (
            np.array([0, 3, 3, 2]),
            ValueError,
            "[2] is 3, but places[1] is 3: expected ascending places",
        ),
    ],
)
def test_errors_of_places(name, places, error, message):
    call = at_call(name) | {"places": places}
    before = call["centers"].copy()
    space = "" if message.startswith("[") else " "
    for run, word in (
        (getattr(_core, name), "places"),
        (lambda **call: _core.check(name, call, {"places": "rows"}), "rows"),
    ):
        with pytest.raises(error) as raised:
            run(**call)
        expected = message.replace("places[", f"{word}[")
        assert str(raised.value) == f"{word}{space}{expected}"
    assert bits(call["centers"]) == bits(before)


def test_centers_may_not_overlap_places():
    memory = np.zeros(K * D // 2, np.int64)
    call = at_call("update_centers_at")
    call |= {"centers": memory.view(np.float32).reshape(K, D), "places": memory[:B]}
    with pytest.raises(ValueError, match="^centers overlaps places in memory$"):
        _core.update_centers_at(**call)


@pytest.mark.parametrize(
    ("value", "error", "expected"),
    [
        ("1", TypeError, "a number"),
        (1j, TypeError, "a number"),
        (-1, ValueError, "a finite number >= 0"),
        (float("inf"), ValueError, "a finite number >= 0"),
        (float("nan"), ValueError, "a finite number >= 0"),
    ],
)
def test_errors_of_total_weight(value, error, expected):
    x, y, c = batch((3, 2), 5)
    with pytest.raises(error) as raised:
        _core.terms_and_grad(x, y, c, total_weight=value)
    assert str(raised.value) == f"total_weight is {value!r}, expected {expected}"


@pytest.mark.parametrize("value", ["none", "median"])
def test_errors_of_the_reduction_of_terms(value):
    x, y, c = batch((3, 2), 5)
    message = f"^reduction is {value!r}, expected 'sum' or 'mean'$"
    with pytest.raises(ValueError, match=message):
        _core.terms_and_grad(x, y, c, reduction=value)


def test_which_functions_take_the_arguments():
    x, y, c = batch((3, 2), 5)
    places = np.arange(3)
    for name in AT:
        with pytest.raises(TypeError, match=f"^{name}.. missing .* argument 'places'$"):
            getattr(_core, name)(x, y, c)
        unexpected = rf"^{name}\(\) got an unexpected keyword argument 'total_weight'$"
        with pytest.raises(TypeError, match=unexpected):
            getattr(_core, name)(x, y, c, places=places, total_weight=1.0)
    for name in (*AT.values(), "step", "loss"):
        for argument, value in (("places", places), ("total_weight", 1.0)):
            unexpected = (
                rf"^{name}\(\) got an unexpected keyword argument '{argument}'$"
            )
            with pytest.raises(TypeError, match=unexpected):
                getattr(_core, name)(x, y, c, **{argument: value})


def test_checked_arguments():
    """Those of the public functions."""
    x, y, c = batch((3, 2), 5)
    call = {"features": x, "labels": y, "centers": c}
    public = list(_core.check("step", call))
    for name in AT:
        assert list(_core.check(name, call | {"places": np.arange(3)})) == public
    assert list(_core.check("terms_and_grad", call | {"total_weight": 2.0})) == public


def test_arrays_that_change_while_arguments_are_read():
    """Places are checked as they are when everything else has been read."""
    x, y, c = batch((3, 2), 5)
    places = np.arange(3)

    class Hostile:
        def __float__(self):
            places[1] = 7
            return 0.5

    with pytest.raises(ValueError, match=r"^places\[2\] is 2, but places\[1\] is 7"):
        _core.update_centers_at(x, y, c, places=places, alpha=Hostile())


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ([1.0], TypeError, "is a list, expected a NumPy array of float64"),
        (np.ones(2, np.float32), TypeError, "has dtype float32, expected float64"),
        (np.ones(2, ">f8"), TypeError, "has dtype >f8, expected float64"),
        (np.ones(()), ValueError, "has shape (), expected one axis"),
        (np.ones((2, 1)), ValueError, "has shape (2, 1), expected one axis"),
        (np.ones(4)[::2], ValueError, "is not contiguous and aligned"),
    ],
)
def test_errors_of_sums(values, error, message):
    with pytest.raises(error) as raised:
        _core.ordered_sum(values)
    assert str(raised.value) == f"values {message}"
    with pytest.raises(error) as raised:
        _core.ordered_sum_of_runs(values, 1)
    assert str(raised.value) == f"sums {message}"


def test_errors_of_the_number_of_values():
    for n, expected in ((0, 0), (1024, 1), (1025, 2), (2**62, 2**52)):
        message = (
            f"sums has shape (3,), expected ({expected},): "
            f"one sum per 1024 of {n} values"
        )
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            _core.ordered_sum_of_runs(np.ones(3), n)
    with pytest.raises(ValueError, match="^n is -1, expected an integer >= 0$"):
        _core.ordered_sum_of_runs(np.ones(0), -1)
    with pytest.raises(TypeError):
        _core.ordered_sum_of_runs(np.ones(1), 1.0)

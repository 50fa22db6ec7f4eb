"""Errors of the functions: types, exact messages and their order."""

import inspect

import ml_dtypes
import numpy as np
import pytest

import centerloss
from centerloss import reference
from tests.helpers.batches import CALLS, batch
from tests.helpers.error_cases import FAULTS, B, D, K, faulty_calls, good_call, run

pytestmark = pytest.mark.kernels
as_strided = np.lib.stride_tricks.as_strided


def error_of(module, name, call):
    """The error of a call, or None."""
    try:
        run(module, name, call)
    except Exception as error:
        return error
    return None


@pytest.mark.parametrize("name", CALLS)
def test_messages(cl, name):
    for fault, call in faulty_calls(name):
        error = error_of(cl, name, call)
        assert (type(error), str(error)) == (fault.error, fault.message)


@pytest.mark.parametrize("name", CALLS)
def test_names_and_places_of_arguments(name):
    x, y, c = batch((2, D), K)
    before, function = c.copy(), getattr(centerloss, name)
    parameters = {
        call: set(inspect.signature(getattr(reference, call)).parameters)
        for call in CALLS
    }
    others = set().union(*parameters.values()) - parameters[name]
    unexpected = "got an unexpected keyword argument"
    for arguments, options, message in (
        *(((x, y, c), {key: 1}, f"{unexpected} '{key}'") for key in sorted(others)),
        ((x, y, c), {"Features": x}, f"{unexpected} 'Features'"),
        ((x, y, c), {"": x}, f"{unexpected} ''"),
        ((x, y, c, "mean"), {}, "takes 3 positional arguments but 4 were given"),
        ((x, y, c), {"labels": y}, "got multiple values for argument 'labels'"),
        ((), {}, "missing .* argument.* 'features'"),
        ((x, y), {}, "missing .* argument.* 'centers'"),
    ):
        with pytest.raises(TypeError, match=rf"^{name}\(\) {message}$"):
            function(*arguments, **options)
    assert np.array_equal(c, before)


def earlier_and_later(name):
    """Pairs of faults in different arguments, one fault of each kind."""
    kinds = {}
    for fault in FAULTS:
        if fault.applies_to(name):
            kinds.setdefault((fault.kind, fault.error), fault)
    faults = list(kinds.values())
    for i, earlier in enumerate(faults):
        for later in faults[i + 1 :]:
            if not set(earlier.arguments) & set(later.arguments):
                yield earlier, later


@pytest.mark.parametrize("name", CALLS)
def test_order(name):
    for earlier, later in earlier_and_later(name):
        call = good_call(name)
        later.break_(call)
        earlier.break_(call)
        error = error_of(centerloss, name, call)
        expected = earlier.error, earlier.message
        assert (type(error), str(error)) == expected, f"{earlier} before {later}"


def test_labels_that_cannot_be_read_as_float64():
    """Then nothing is known about their values."""
    labels = np.full(4, 0x7FA00000, np.uint32).view(np.float32)  # signalling NaN
    call = good_call("loss") | {"labels": labels}
    with (
        np.errstate(invalid="raise"),
        pytest.raises(TypeError, match="^labels has dtype float32, expected an integ"),
    ):
        centerloss.loss(**call)


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2"])
def test_no_hint_to_cast_one_hot_labels_beside_another_fault(dtype):
    """The features have the wrong length too, so the expected shape is not known."""
    labels = np.eye(K, dtype=dtype)[[4, 0, 2, 0]]
    call = good_call("loss") | {"labels": labels}
    call["features"] = call["features"][:, 1:]
    message = f"^labels has dtype {labels.dtype}, expected an integer dtype$"
    with pytest.raises(TypeError, match=message):
        centerloss.loss(**call)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_swapped_lists_and_columns(dtype):
    """Lists of integers become features of the centers' dtype."""
    c = np.zeros((3, 2), dtype)
    with pytest.raises(TypeError, match=": they look swapped$"):
        centerloss.loss([0, 1], np.ones((2, 2), dtype), c)
    with pytest.raises(TypeError, match=": they look swapped$"):
        centerloss.loss(np.array([0, 1]), np.ones((2, 1), dtype), c[:, :1].copy())
    with pytest.raises(TypeError, match=r"pass labels\.astype\(np\.int64\)$"):
        centerloss.loss([0, 1], np.ones((2, 1), dtype), c[:, :1].copy())


FLOATS = np.ones((B, D), np.float32)
CAST = "features has dtype int64, but centers has float32: pass features.astype"
NO_INTEGERS = "labels has dtype float64, expected an integer dtype"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": np.zeros((B, D), int), "labels": np.array(1.5)}, CAST),
        ({"features": np.array(1), "labels": FLOATS}, CAST),
        ({"features": np.zeros(B, int), "labels": FLOATS, "centers": FLOATS[0]}, CAST),
        ({"features": np.zeros(B, bool), "labels": FLOATS}, "they look swapped$"),
        ({"labels": np.zeros((B, 2)), "centers": np.float32(1)[()]}, "centers is a"),
        ({"labels": np.zeros((B, 2)), "centers": np.array(1, "f4")}, NO_INTEGERS),
        ({"labels": np.broadcast_to(0.0, 2**24 + 1)}, NO_INTEGERS + "$"),
        ({"labels": np.array(["a"] * B, np.dtypes.StringDType())}, "np.unique"),
    ],
)
def test_hints_with_two_faults(change, message):
    with pytest.raises(TypeError, match=message):
        centerloss.loss(**good_call("loss") | change)


READ_ONLY = np.broadcast_to(np.float32(1), (K, D))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"centers": np.ones(3, np.int8)}, "centers has dtype int8"),
        ({"features": np.ones((9, 9), np.int8)}, "features has dtype int8"),
        ({"labels": np.ones((2, 9))}, "labels has dtype float64"),
        ({"labels": np.array([K, 0])}, "labels has shape"),
        ({"sample_weight": [[-1j]]}, "sample_weight has dtype complex128"),
        ({"sample_weight": [-1.0]}, "sample_weight has shape"),
        ({"out": np.ones((9, 9))}, "out has dtype float64"),
        ({"out": READ_ONLY[:2]}, "out has shape"),
        ({"centers": READ_ONLY}, "centers is read-only"),
    ],
)
def test_order_in_one_argument(change, message):
    """Dtype, shape, memory, values: the first of two faults is named."""
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        centerloss.step(**good_call("step") | change)


@pytest.mark.parametrize("name", ["gradient", "value_and_grad", "step"])
def test_an_overlap_of_one_element(name):
    """The last element of one array is the first of the other."""
    memory = np.zeros(2 * K * D - 1, np.float32)
    low, high = memory[: K * D].reshape(K, D), memory[K * D - 1 :].reshape(K, D)
    for x, out in ((low, high), (high, low)):
        with pytest.raises(ValueError, match="^out overlaps features in memory$"):
            getattr(centerloss, name)(
                x, np.arange(K), np.ones((K, D), np.float32), out=out
            )
    assert not memory.any()


@pytest.mark.parametrize("labels_first", [True, False])
def test_an_overlap_of_one_byte(labels_first):
    memory = np.zeros(K * D * 4 + 64, np.uint8)
    start = 32 - memory.ctypes.data % 16
    out = memory[start : start + K * D * 4].view(np.float32).reshape(K, D)
    first = start - K + 1 if labels_first else start + K * D * 4 - 1
    labels = memory[first : first + K]
    with pytest.raises(ValueError, match="^out overlaps labels in memory$"):
        centerloss.gradient(np.ones((K, D), np.float32), labels, out.copy(), out=out)


@pytest.mark.parametrize("dtype", ["<f2", ">f2", ml_dtypes.bfloat16])
def test_half_features_need_float32_centers(dtype):
    dtype = np.dtype(dtype)
    x, y, c = batch((3, D), K, dtype=dtype, centers_dtype=np.float64)
    message = f"features has dtype {dtype}, but centers has float64"
    if dtype != ml_dtypes.bfloat16:
        message += ": pass features.astype(np.float64)"
    with pytest.raises(TypeError) as raised:
        centerloss.loss(x, y, c)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("name", "expected"),
    [("gradient", "float16"), ("step", "float16"), ("center_delta", "float32")],
)
def test_out_has_the_dtype_of_what_it_holds(name, expected):
    """A gradient has the dtype of the features, deltas that of the centers."""
    x, y, c = batch((K, D), K, dtype=np.float16, centers_dtype=np.float32)
    out = np.zeros((K, D), np.float64)
    with pytest.raises(TypeError) as raised:
        getattr(centerloss, name)(x, y, c, out=out)
    assert str(raised.value) == f"out has dtype float64, expected {expected}"


def test_two_rows_are_enough_to_overlap():
    x = np.ones((2, D), np.float32)
    rows = as_strided(np.ones(2 * D, np.float32), (2, D), (0, 4))
    with pytest.raises(ValueError, match=r"^centers overlaps itself$"):
        centerloss.update_centers(x, [0, 1], rows)
    with pytest.raises(ValueError, match=r"^out overlaps itself$"):
        centerloss.gradient(x, [0, 1], x.copy(), out=rows)


def test_a_view_of_one_row_may_have_any_row_stride():
    """A single row cannot overlap another."""
    c = as_strided(np.ones(D, np.float32), (1, D), (0, 4))
    assert centerloss.update_centers(np.zeros((1, D), np.float32), [0], c) == 1
    assert c.tolist() == [[0.75] * D]


@pytest.mark.parametrize("shape", [(0, D), (K, 0)])
def test_memory_of_no_elements_is_never_wrong(shape):
    c = as_strided(np.ones(1, np.float32), shape, (0, 0))
    assert centerloss.update_centers(np.zeros((0, shape[1]), np.float32), [], c) == 0


def test_no_rows_from_the_middle_of_the_centers():
    """Arrays without elements overlap nothing, wherever they are."""
    c = np.ones((K, D), np.float32)
    assert centerloss.update_centers(c[1:3][:0], [], c) == 0


def test_centers_that_are_only_read_may_overlap():
    """They may overlap themselves and other arguments, and be read-only."""
    c = np.broadcast_to(np.ones(D, np.float32), (K, D))
    assert centerloss.loss(c, np.arange(K), c) == 0.0
    assert not centerloss.gradient(c, np.arange(K), c).any()
    assert not centerloss.center_delta(c, np.arange(K), c).any()
    assert not centerloss.class_sums(c, np.arange(K), c)[1].any()


def test_overlap_is_exact():
    """Arrays that alternate in memory without sharing a byte do not overlap."""
    memory = np.ones((2 * K, 2 * D), np.float32)
    x, c = memory[::2, :D], memory[1::2, :D]
    out = memory[::2, D:]
    value, gradient = centerloss.step(x, np.arange(K), c, out=out)
    assert value == 0.0
    assert gradient is out
    assert not out.any()


def test_overlap_that_is_too_hard_to_tell():
    """With strides that do not nest, an exact answer may take hours."""
    axes, width = 12, 2**12
    row = 16 * width
    rng = np.random.default_rng(1)
    strides = row * rng.integers(100, size=axes) + 4 * rng.integers(
        1, width // axes, size=axes
    )
    memory = np.zeros((strides.sum() + 300 * row) // 4 + 2 * width, np.float32)
    c = as_strided(memory, (300, width), (row, 4))
    x = as_strided(memory[width:], (1, *[2] * axes), (0, *strides))
    match = r"^whether centers overlaps features .*: pass features\.copy\(\)$"
    with pytest.raises(ValueError, match=match):
        centerloss.update_centers(x, [0], c)
    assert not memory.any()
    assert centerloss.update_centers(x.copy(), [0], c) == 1


@pytest.fixture(params=[RuntimeError, RecursionError, LookupError])
def error_of_shares_memory(request, monkeypatch):
    """An error that numpy.shares_memory raises while the test runs."""
    error = request.param("from NumPy")

    def shares_memory(*_):
        raise error

    monkeypatch.setattr(np, "shares_memory", shares_memory)
    return error


def test_errors_of_numpy_over_an_overlap(error_of_shares_memory):
    """NumPy raises a RuntimeError if it has no memory; others pass through."""
    memory = np.ones((2 * K, D), np.float32)
    with pytest.raises((MemoryError, RecursionError, LookupError)) as raised:
        centerloss.update_centers(memory[::2], np.arange(K), memory[1::2])
    if type(error_of_shares_memory) is RuntimeError:
        assert type(raised.value) is MemoryError
        assert raised.value.__cause__ is error_of_shares_memory
    else:
        assert raised.value is error_of_shares_memory
        assert raised.value.__cause__ is None
    assert memory.all()


@pytest.mark.parametrize("stride", [2**62, -(2**62), 2**63 - 8, -(2**63)])
@pytest.mark.parametrize("rows", [2, 3, 5])
def test_views_beyond_the_address_space(stride, rows):
    """Only the first row is valid memory. The others belong to classes not in use."""
    memory = np.ones(3 * D, np.float32)
    first = memory[D : 2 * D]
    c = as_strided(first, (rows, D), (stride, 4))
    assert centerloss.loss(np.zeros((1, D), np.float32), [0], c) == D / 2
    for start in (1, D - 1, D, D + 1, 2 * D - 1):
        x = memory[start : start + D].reshape(1, D)
        match = "^(whether )?centers overlaps features in memory"
        with pytest.raises(ValueError, match=match):
            centerloss.update_centers(x, [0], c)
    assert np.all(memory == 1)


@pytest.mark.parametrize("stride", [2**20, -(2**20)])
def test_a_large_stride_is_no_overlap(stride):
    """NumPy is asked, as the features are between the two rows of the centers."""
    memory = np.zeros(3 * D, np.float32)
    memory[D : 2 * D] = 4
    c = as_strided(memory[D : 2 * D], (2, D), (stride, 4))
    x = (memory[2 * D :] if stride > 0 else memory[:D]).reshape(1, D)
    assert centerloss.update_centers(x, np.array([0]), c, alpha=1) == 1
    assert memory.tolist() == [0] * D + [2] * D + [0] * D


@pytest.mark.parametrize("name", CALLS)
def test_keywords_are_compared_by_value(name):
    """Python interns the keywords in a program, but not every other string."""
    call = {"".join(list(key)): value for key, value in good_call(name).items()}
    assert not any(a is b for a, b in zip(call, good_call(name), strict=True))
    assert error_of(centerloss, name, call) is None


def test_no_classes():
    x, c = np.zeros((1, D), np.float32), np.zeros((0, D), np.float32)
    with pytest.raises(
        IndexError, match=r"^labels\[0\] is 0, but there are 0 classes$"
    ):
        centerloss.loss(x, [0], c)


def test_weights_are_checked_in_ignored_rows_too():
    x, _, c = batch((2, D), K)
    with pytest.raises(ValueError, match=r"^sample_weight\[1\] is -1\.0, expected"):
        centerloss.loss(x, [0, 9], c, sample_weight=[1, -1], ignore_index=9)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("rows", [1 << 40, 1 << 51], ids=["labels", "any-array"])
def test_more_rows_than_memory(name, rows):
    """Such arrays exist: every row is in the same memory."""
    x = as_strided(np.ones(D, np.float32), (rows, D), (0, 4))
    y, c = np.broadcast_to(np.int64(0), rows), np.zeros((1, D), np.float32)
    with pytest.raises(MemoryError):
        getattr(centerloss, name)(x, y, c)
    assert not c.any()

"""Every error has its exact message, and the order of the errors is fixed."""

import inspect

import ml_dtypes
import numpy as np
import pytest

import centerloss
from centerloss import reference
from tests.helpers.batches import CALLS, MOVES_CENTERS, batch
from tests.helpers.error_cases import FAULTS, D, K, faulty_calls, good_call, run


def error_of(cl, name, call):
    """The error of a call, or None."""
    try:
        run(cl, name, call)
    except Exception as error:
        return error
    return None


@pytest.mark.parametrize("name", CALLS)
def test_a_good_call_is_none_of_them(cl, name):
    assert error_of(cl, name, good_call(name)) is None


@pytest.mark.parametrize("name", CALLS)
def test_messages(cl, name):
    wrong = []
    for fault, call in faulty_calls(name):
        error = error_of(cl, name, call)
        if type(error) is not fault.error or str(error) != fault.message:
            wrong.append(f"{fault.error.__name__}: {fault.message}\n  got {error!r}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", CALLS)
def test_names_and_places_of_arguments(cl, name):
    call, function = good_call(name), getattr(cl, name)
    features, labels, centers = (
        call[part] for part in ("features", "labels", "centers")
    )
    before = centers.copy()
    known = inspect.signature(getattr(reference, name)).parameters
    everything = set().union(
        *(inspect.signature(getattr(reference, c)).parameters for c in CALLS)
    )
    for wrong in (*sorted(everything - set(known)), "lambda_c", "Features"):
        with pytest.raises(TypeError) as raised:
            function(features, labels, centers, **{wrong: None})
        message = f"{name}() got an unexpected keyword argument '{wrong}'"
        assert str(raised.value) == message
    with pytest.raises(TypeError) as raised:
        function(features, labels, centers, 0.5)
    assert str(raised.value) == (
        f"{name}() takes 3 positional arguments but 4 were given"
    )
    with pytest.raises(TypeError) as raised:
        function(features, labels, centers, labels=labels)
    assert str(raised.value) == f"{name}() got multiple values for argument 'labels'"
    with pytest.raises(
        TypeError, match=rf"^{name}\(\) missing .* argument.* 'centers'"
    ):
        function(features, labels)
    assert np.array_equal(centers, before)


def earlier_and_later(name):
    """Pairs of faults in arguments of their own, one fault of each kind."""
    kinds = {}
    for fault in FAULTS:
        if fault.applies_to(name):
            kinds.setdefault((fault.kind, fault.error), fault)
    faults = list(kinds.values())
    for i, earlier in enumerate(faults):
        for later in faults[i + 1 :]:
            if not set(earlier.spoils) & set(later.spoils):
                yield earlier, later


@pytest.mark.parametrize("name", CALLS)
def test_order(cl, name):
    wrong = []
    for earlier, later in earlier_and_later(name):
        call = good_call(name)
        later.spoil(call)
        earlier.spoil(call)
        error = error_of(cl, name, call)
        if type(error) is not earlier.error or str(error) != earlier.message:
            wrong.append(f"{earlier} before {later}: got {error!r}")
    assert not wrong, "\n".join(wrong)


def test_every_kind_of_error_is_tried():
    assert len({(fault.kind, fault.error) for fault in FAULTS}) == 41
    assert sum(1 for _ in earlier_and_later("step")) > 500


@pytest.mark.parametrize("name", ["gradient", "value_and_grad", "step"])
def test_an_overlap_of_one_element(cl, name):
    """The last of one array is the first of the other."""
    memory = np.zeros(2 * K * D - 1, np.float32)
    low, high = memory[: K * D].reshape(K, D), memory[K * D - 1 :].reshape(K, D)
    for x, out in ((low, high), (high, low)):
        with pytest.raises(ValueError, match="^out overlaps features in memory$"):
            getattr(cl, name)(x, np.arange(K), np.ones((K, D), np.float32), out=out)
    assert not memory.any()


@pytest.mark.parametrize("name", CALLS)
def test_bfloat16_features_need_float32_centers(cl, name):
    x, y, c = batch((3, D), K, centers_dtype=np.float64)
    with pytest.raises(
        TypeError, match="^features has dtype bfloat16, but centers has"
    ):
        getattr(cl, name)(x.astype(ml_dtypes.bfloat16), y, c)


@pytest.mark.parametrize("dtype", [np.float16, np.dtype(np.float16).newbyteorder()])
def test_half_features_need_float32_centers(cl, dtype):
    x, y, c = batch((3, D), K, dtype=dtype, centers_dtype=np.float64)
    message = (
        f"features has dtype {np.dtype(dtype)}, but centers has float64: "
        "pass features.astype(np.float64)"
    )
    with pytest.raises(TypeError) as raised:
        cl.loss(x, y, c)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("name", "expected"),
    [("gradient", "float16"), ("step", "float16"), ("center_delta", "float32")],
)
def test_out_has_the_dtype_of_what_it_holds(cl, name, expected):
    """The gradient that of the features, everything else that of the centers."""
    x, y, c = batch((K, D), K, dtype=np.float16, centers_dtype=np.float32)
    out = np.zeros((K, D), np.float64)
    with pytest.raises(TypeError) as raised:
        getattr(cl, name)(x, y, c, out=out)
    assert str(raised.value) == f"out has dtype float64, expected {expected}"


def test_two_rows_are_enough_to_overlap(cl):
    x = np.ones((2, D), np.float32)
    rows = np.lib.stride_tricks.as_strided(np.ones(2 * D, np.float32), (2, D), (0, 4))
    with pytest.raises(ValueError, match=r"^centers overlaps itself$"):
        cl.update_centers(x, [0, 1], rows)
    with pytest.raises(ValueError, match=r"^out overlaps itself$"):
        cl.gradient(x, [0, 1], x.copy(), out=rows)


def test_a_view_of_one_row_may_have_any_row_stride(cl):
    """Rows can only lie on each other if there are two."""
    c = np.lib.stride_tricks.as_strided(np.ones(D, np.float32), (1, D), (0, 4))
    assert cl.update_centers(np.zeros((1, D), np.float32), [0], c) == 1
    assert c.tolist() == [[0.75] * D]


@pytest.mark.parametrize("shape", [(0, D), (K, 0)])
def test_memory_of_no_elements_is_never_wrong(cl, shape):
    c = np.lib.stride_tricks.as_strided(np.ones(1, np.float32), shape, (0, 0))
    assert cl.update_centers(np.zeros((0, shape[1]), np.float32), [], c) == 0


def test_centers_that_are_only_read_may_overlap(cl):
    """Themselves and other arguments; they may be read-only as well."""
    c = np.broadcast_to(np.ones(D, np.float32), (K, D))
    assert cl.loss(c, np.arange(K), c) == 0.0
    assert not cl.gradient(c, np.arange(K), c).any()
    assert not cl.center_delta(c, np.arange(K), c).any()
    assert not cl.class_sums(c, np.arange(K), c)[1].any()


def test_overlap_is_exact(cl):
    """Arrays that alternate in memory without sharing a byte do not overlap."""
    memory = np.ones((2 * K, 2 * D), np.float32)
    x, c = memory[::2, :D], memory[1::2, :D]
    out = memory[::2, D:]
    value, gradient = cl.step(x, np.arange(K), c, out=out)
    assert value == 0.0
    assert gradient is out
    assert not out.any()


def test_overlap_that_is_too_hard_to_tell(cl):
    """Strides that do not nest make a puzzle of it that may take hours."""
    axes, width = 12, 2**12
    row = 16 * width
    rng = np.random.default_rng(1)
    strides = row * rng.integers(100, size=axes) + 4 * rng.integers(
        1, width // axes, size=axes
    )
    memory = np.zeros((strides.sum() + 300 * row) // 4 + 2 * width, np.float32)
    as_strided = np.lib.stride_tricks.as_strided
    c = as_strided(memory, (300, width), (row, 4))
    x = as_strided(memory[width:], (1, *[2] * axes), (0, *strides))
    match = r"^whether centers overlaps features .*: pass features\.copy\(\)$"
    with pytest.raises(ValueError, match=match):
        cl.update_centers(x, [0], c)
    assert not memory.any()
    assert cl.update_centers(x.copy(), [0], c) == 1


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError, MemoryError),
        (RecursionError, RecursionError),
        (LookupError, LookupError),
    ],
)
def test_errors_of_numpy_over_an_overlap(monkeypatch, error, expected):
    """It says RuntimeError where memory runs out."""

    def shares_memory(*_):
        raise error

    memory = np.ones((2 * K, D), np.float32)
    monkeypatch.setattr(np, "shares_memory", shares_memory)
    with pytest.raises(expected):
        centerloss.update_centers(memory[::2], np.arange(K), memory[1::2])
    assert memory.all()


@pytest.mark.parametrize("name", CALLS)
def test_keywords_are_compared_by_value(cl, name):
    """Python makes one string of all that stand in a program, but not of others."""
    call = {"".join(list(key)): value for key, value in good_call(name).items()}
    assert not any(a is b for a, b in zip(call, good_call(name), strict=True))
    assert error_of(cl, name, call) is None


@pytest.mark.parametrize("name", CALLS)
def test_wrong_arguments(cl, name):
    x, y, c = batch((2, D), K)
    before = c.tobytes()
    function = getattr(cl, name)
    for arguments, options in (
        ((), {}),
        ((x,), {}),
        ((x, y), {}),
        ((x, y, c, "mean"), {}),
        ((x, y, c), {"weight": 1.0}),
        ((x, y, c), {"features": x}),
        ((x, y, c), {"": x}),
    ):
        with pytest.raises(TypeError):
            function(*arguments, **options)
    assert c.tobytes() == before


@pytest.mark.parametrize("name", CALLS)
def test_options_are_those_documented(cl, name):
    options = [option for option in good_call(name) if option in OPTIONS]
    ordered = sorted(options, key=list(OPTIONS).index)
    parameters = inspect.signature(getattr(cl, name)).parameters.values()
    assert [p.name for p in parameters] == ["features", "labels", "centers", *ordered]
    keywords = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert keywords == {option: OPTIONS[option] for option in ordered}


OPTIONS = {
    "alpha": 0.5,
    "normalize": True,
    "reduction": "mean",
    "loss_weight": 1.0,
    "sample_weight": None,
    "ignore_index": None,
    "out": None,
}


def test_out_of_a_wrong_type_is_found_before_its_use(cl):
    """Although a float loss has no use for `out` at all."""
    x, y, c = batch((2, D), K)
    with pytest.raises(TypeError, match=r"^out is a list, expected a NumPy array$"):
        cl.loss(x, y, c, out=[0.0, 0.0])


def test_no_classes(cl):
    x, c = np.zeros((1, D), np.float32), np.zeros((0, D), np.float32)
    with pytest.raises(IndexError, match=r"^labels\[0\] is 0, but there are 0 classes"):
        cl.loss(x, [0], c)


def test_weights_are_checked_in_ignored_rows_too(cl):
    x, _, c = batch((2, D), K)
    with pytest.raises(ValueError, match=r"^sample_weight\[1\] is -1\.0, expected"):
        cl.loss(x, [0, 9], c, sample_weight=[1, -1], ignore_index=9)


@pytest.mark.parametrize("name", MOVES_CENTERS)
def test_errors_of_numpy_pass_through(cl, name):
    x, y, c = batch((2, D), K)
    before = c.tobytes()
    with pytest.raises(ValueError, match="inhomogeneous"):
        getattr(cl, name)([[1.0], [1.0, 2.0]], y, c)
    with pytest.raises(ValueError, match="inhomogeneous"):
        getattr(cl, name)(x, [[0], [0, 1]], c)
    with pytest.raises(ValueError, match="inhomogeneous"):
        getattr(cl, name)(x, y, c, sample_weight=[[0], [0, 1]])
    assert c.tobytes() == before


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("rows", [1 << 40, 1 << 51], ids=["labels", "any-array"])
def test_more_rows_than_memory(cl, name, rows):
    """They can be had: each is the same row of memory."""
    x = np.lib.stride_tricks.as_strided(np.ones(D, np.float32), (rows, D), (0, 4))
    y, c = np.broadcast_to(np.int64(0), rows), np.zeros((1, D), np.float32)
    with pytest.raises(MemoryError):
        getattr(cl, name)(x, y, c)
    assert not c.any()

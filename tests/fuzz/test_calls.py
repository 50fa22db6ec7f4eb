"""Random calls, right and wrong, of the functions in C and in the reference.

Both return the same within rounding, or raise the same error. A call that raises
changes no byte, and any other only its results. `make fuzz` runs many more examples.
"""

import inspect
import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided

import centerloss
from centerloss import reference
from tests.fuzz import hostile_objects
from tests.helpers.batches import CALLS, DTYPES, MOVES_CENTERS, OUT_HOLDS
from tests.helpers.cases import snapshot
from tests.helpers.layouts import in_memory

pytestmark = [pytest.mark.kernels, pytest.mark.filterwarnings("ignore")]

INTEGERS = [np.dtype(code) for code in "bBhHiIlLqQ"]
OTHER_DTYPES = [
    np.dtype(code) for code in ("f4", "f8", "f2", "i8", "?", "c8", "O", "g")
]
SPECIAL = [math.nan, math.inf, -math.inf, -0.0, 1e-40, 6e4]
GOOD_NUMBERS = [0.5, 1, 0, 2.5, 1e-3, np.float32(0.3), True]
JUNK = [
    *(None, 3, -1, 2.5, "mean", "", "\ud800", b"x", (), {}, [], [[]], [1.0, 2.0], 1j),
    *([[1.0], [2.0, 3.0]], math.nan, math.inf, 5e-324, 1e308, 10**400, 2**63, True),
    *(np.float32(1), np.zeros(0), np.array(1.0), np.array([0.5]), np.str_("sum")),
]


def small_arrays(call):
    """The arrays, without those that have more elements than any memory."""
    arrays = {k: v for k, v in call.items() if isinstance(v, np.ndarray)}
    return {k: v for k, v in arrays.items() if v.nbytes < 1 << 20}


# --- faults: each changes a good call, which may stay good --------------------------


def replace(draw, call):
    name = draw(st.sampled_from(sorted(call)))
    call[name] = draw(st.sampled_from(JUNK))


def lie(draw, call):
    name = draw(st.sampled_from(sorted(call)))
    cls = draw(st.sampled_from(hostile_objects.CLASSES))
    answer = draw(st.sampled_from([call[name], *JUNK]))
    call[name] = cls(draw(st.sampled_from(hostile_objects.KINDS)), answer)


def with_array(change):
    """A fault of one of the arrays."""

    def fault(draw, call):
        names = [name for name, array in small_arrays(call).items() if array.ndim]
        if names:
            name = draw(st.sampled_from(names))
            call[name] = change(draw, np.asarray(call[name]))

    return fault


@with_array
def reshape(draw, array):
    shapes = [array[1:], array[..., None], array[None], array.ravel(), array[..., 1:]]
    return draw(st.sampled_from(shapes))


@with_array
def cast(draw, array):
    with np.errstate(all="ignore"):
        dtype = draw(st.sampled_from([*OTHER_DTYPES, array.dtype.newbyteorder()]))
        return array if array.dtype.kind == "V" else array.astype(dtype)


@with_array
def move(draw, array):
    return array if array.dtype.hasobject else draw(in_memory(array))


@with_array
def broadcast(_draw, array):
    return np.broadcast_to(array[:1], array.shape)


@with_array
def enlarge(draw, array):
    """More rows or columns than any memory has."""
    shape = draw(st.sampled_from([(1 << 40, *array.shape[1:]), (1, 1 << 40)]))
    return as_strided(np.ones(1, array.dtype), shape, (0,) * len(shape))


@with_array
def dress(draw, array):
    names = ("Subclass", "OverridingSubclass")
    classes = [np.ma.MaskedArray, *(getattr(hostile_objects, name) for name in names)]
    return array.view(draw(st.sampled_from(classes)))


@with_array
def freeze(_draw, array):
    view = array.view()
    view.flags.writeable = False
    return view


def bad_value(draw, call):
    """A label out of range, or a weight that is none."""
    name = draw(st.sampled_from(["labels", "sample_weight"]))
    array = call.get(name)
    if not isinstance(array, np.ndarray) or not array.size or array.nbytes >= 1 << 20:
        return
    array = np.asarray(array)  # not a subclass that overrides assignment
    row = np.unravel_index(draw(st.integers(0, array.size - 1)), array.shape)
    if array.dtype.kind in "iu" and array.flags.writeable:
        info = np.iinfo(array.dtype)
        array[row] = draw(st.sampled_from([info.min, info.max, len(array)]))
    elif array.dtype.kind == "f" and array.flags.writeable:
        array[row] = draw(st.sampled_from([math.nan, math.inf, -1.0, -1e-5]))


def overlap(draw, call):
    """Two arguments in one memory: the same, or one somewhat behind the other."""
    names = [k for k, v in small_arrays(call).items() if v.size]
    if len(names) < 2 or any(call[name].dtype.char in "Og" for name in names):
        return
    one, two = draw(st.permutations(names))[:2]
    a, b = np.asarray(call[one]), np.asarray(call[two])
    if draw(st.booleans()):
        call[one] = b
        return
    unit = max(a.itemsize, b.itemsize)
    gap = unit * draw(st.integers(0, b.nbytes // unit + 1))
    memory = np.zeros(gap + a.nbytes + b.nbytes, np.uint8)
    call[two] = np.ndarray(b.shape, b.dtype, memory)
    call[one] = np.ndarray(a.shape, a.dtype, memory, gap)
    call[two][...], call[one][...] = b, a


def misname(draw, call):
    del call[draw(st.sampled_from(sorted(call)))]
    if draw(st.booleans()):
        call["bogus"] = 1


FAULTS = [
    *(replace, lie, reshape, cast, move, broadcast, enlarge, dress, freeze),
    *(bad_value, overlap, misname),
]


# --- calls --------------------------------------------------------------------------


@st.composite
def calls(draw):
    """The name of a function, and its arguments with up to three faults."""
    name = draw(st.sampled_from(CALLS))
    B, D, K = (draw(st.integers(0, n)) for n in (40, 20, 12))
    if K == 0:
        B = 0
    rows = (B,)
    if draw(st.integers(0, 3)) == 0:  # labels of two axes
        rows = (B // 3, 3)
    dtype, centers_dtype = draw(st.sampled_from(DTYPES))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    features = rng.standard_normal((*rows, D))
    if features.size:
        for special in draw(st.lists(st.sampled_from(SPECIAL), max_size=4)):
            features.flat[rng.integers(features.size)] = special
    with np.errstate(all="ignore"):
        features = features.astype(dtype)
    labels = rng.integers(0, max(K, 1), rows)
    labels = labels.astype(draw(st.sampled_from([*INTEGERS, np.dtype(bool)])))
    centers = rng.standard_normal((K, D)).astype(centers_dtype)
    ignored = draw(st.sampled_from([None, 0, 1, -1, -100, 2**63 - 1, np.int64(2)]))
    weights = rng.uniform(0, 2, rows).astype(draw(st.sampled_from(["f8", "f4", "f2"])))
    reduction = draw(st.sampled_from(["none", "sum", "mean"]))
    values = {
        "features": draw(in_memory(features)),
        "labels": draw(st.sampled_from([labels, labels.tolist()])),
        "centers": draw(in_memory(centers, contiguous_rows=True)),
        "alpha": draw(st.sampled_from(GOOD_NUMBERS)),
        "normalize": draw(st.sampled_from([True, False, np.True_])),
        "skip_nonfinite": draw(st.sampled_from([True, True, False, np.True_])),
        "reduction": reduction,
        "loss_weight": draw(st.sampled_from(GOOD_NUMBERS)),
        "sample_weight": draw(st.sampled_from([None, weights])),
        "ignore_index": ignored,
    }
    out = {
        "loss": np.ones(rows, centers_dtype) if reduction == "none" else None,
        "gradient": np.ones_like(features),
        "delta": np.ones_like(centers),
    }
    values["out"] = draw(st.sampled_from([None, out.get(OUT_HOLDS.get(name))]))
    parameters = inspect.signature(getattr(reference, name)).parameters
    call = {key: values[key] for key in parameters}
    for fault in draw(st.lists(st.sampled_from(FAULTS), max_size=3)):
        fault(draw, call)
    return name, call


def outcome(module, name, call):
    """Return the error or the results of a call; restore the arrays."""
    for value in call.values():
        if isinstance(value, hostile_objects.InconsistentObject):
            value.asked = 0
    small = small_arrays(call)
    written = [small.get("centers")] * (name in MOVES_CENTERS) + [small.get("out")]
    written = [np.asarray(array) for array in written if array is not None]
    before, old = snapshot(small), [array.copy() for array in written]
    try:
        with np.errstate(all="ignore"):
            result = getattr(module, name)(**call)
    except Exception as error:
        result = error
    if isinstance(result, Exception):
        assert snapshot(small) == before, f"changed by {module}: {result!r}"
        return result
    parts = result if isinstance(result, tuple) else (result,)
    values = [np.array(value) for value in (*parts, *written)]
    for array, content in zip(written, old, strict=True):
        array[...] = content
    assert snapshot(small) == before, f"more than the results changed by {module}"
    return values


def largest(value):
    """The largest finite magnitude of an argument, at least 1."""
    if getattr(value, "nbytes", 0) > 1 << 20:  # a single number, repeated
        value = value.flat[0]
    try:
        with np.errstate(all="ignore"):
            values = np.abs(np.asarray(value).astype(np.float64))
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return 1.0
    return float(np.max(values[np.isfinite(values)], initial=1.0))


def scale_of(call):
    """An upper bound of the magnitudes that are added up."""
    scale = 100 * (largest(call.get("features")) + largest(call.get("centers"))) ** 2
    for name in ("sample_weight", "alpha", "loss_weight"):
        scale *= largest(call.get(name))
    return scale


def check_close(got, expected, scale):
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
    if got.dtype.kind not in "fV":
        assert np.array_equal(got, expected)
        return
    info = ml_dtypes.finfo(got.dtype)
    with np.errstate(all="ignore"):
        a, b = got.astype(np.float64), expected.astype(np.float64)
        error = np.abs(a - b)
        close = error <= 4 * float(info.eps) * np.abs(b) + 1e-13 * scale
        edge = 0.99 * float(info.max)  # one may overflow and the other not
        close |= (np.minimum(np.abs(a), np.abs(b)) > edge) & (a * b > 0)
    assert np.all(close | (a == b) | (np.isnan(a) & np.isnan(b)))


@settings(max_examples=5 * settings.default.max_examples)
@given(calls())
def test_c_and_reference_agree(call):
    name, arguments = call
    got, expected = (outcome(m, name, arguments) for m in (centerloss, reference))
    if not isinstance(got, list) or not isinstance(expected, list):
        if isinstance(got, MemoryError) and isinstance(expected, MemoryError):
            return  # NumPy's has a message and a type of its own
        assert type(got) is type(expected), (got, expected)
        signature = isinstance(got, TypeError) and "argument" in str(got)
        assert signature or str(got) == str(expected)
        return
    scale = scale_of(arguments)
    for one, other in zip(got, expected, strict=True):
        check_close(one, other, scale)

"""`_core.check` raises the errors of a function and returns its checked arguments.

test_errors.py compares the functions with the same table of errors.
"""

import re

import ml_dtypes
import numpy as np
import pytest

from centerloss._core import check
from tests.helpers.batches import CALLS, MOVES_CENTERS, batch
from tests.helpers.cases import snapshot
from tests.helpers.error_cases import B, D, K, faults, faulty_calls, good_call

pytestmark = pytest.mark.kernels

NAMES = {
    "features": "embeddings",
    "labels": "targets",
    "centers": "init",
    "alpha": "rate",
    "normalize": "divide",
    "skip_nonfinite": "robust",
    "reduction": "kind",
    "loss_weight": "factor",
    "sample_weight": "weights",
    "ignore_index": "padding \N{GREEK SMALL LETTER ALPHA} %s",
    "out": "result",
}


def three(**more):
    """The arguments without a default, and others."""
    x, y, c = batch((B, D), K)
    return {"features": x, "labels": y, "centers": c, **more}


@pytest.mark.parametrize("tensors", [False, True], ids=["arrays", "tensors"])
@pytest.mark.parametrize("names", [None, NAMES], ids=["own-names", "other-names"])
@pytest.mark.parametrize("name", CALLS)
def test_errors(name, names, tensors):
    for fault, call in faulty_calls(name, faults(names, tensors=tensors)):
        before = snapshot(call)
        with pytest.raises(fault.error) as raised:
            check(name, call, names, tensors)
        assert (type(raised.value), str(raised.value)) == (fault.error, fault.message)
        assert snapshot(call) == before


@pytest.mark.parametrize("tensors", [False, True])
def test_hint_to_copy(tensors):
    """For features that span the whole address space."""
    call = three()
    strides = (-(2**63), 4)
    call["features"] = np.lib.stride_tricks.as_strided(
        call["features"], (B, D), strides
    )
    hint = "clone" if tensors else "copy"
    message = (
        f"whether init overlaps x in memory is too hard to tell: pass x\\.{hint}\\(\\)"
    )
    names = {"centers": "init", "features": "x"}
    with pytest.raises(ValueError, match=f"^{message}$"):
        check("step", call, names=names, tensors=tensors)


@pytest.mark.parametrize("name", CALLS)
def test_names_of_arguments_are_those_of_the_function(name):
    for wrong in {"lambda_c", "alpha", "reduction", "out"} - set(good_call(name)):
        message = rf"^{name}\(\) got an unexpected keyword argument '{wrong}'$"
        with pytest.raises(TypeError, match=message):
            check(name, three(**{wrong: None}), NAMES)
    for missing in ("features", "labels", "centers"):
        call = three()
        del call[missing]
        message = rf"^{name}\(\) missing required argument '{missing}'$"
        with pytest.raises(TypeError, match=message):
            check(name, call, NAMES)


@pytest.mark.parametrize("value", ["features", ".astype(np.float32)", "x.copy()", "%s"])
def test_values_in_messages_are_never_edited(value):
    names = {"features": "embeddings"}
    message = f"reduction is {value!r}, expected 'none', 'sum' or 'mean'"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check("loss", three(reduction=value), names, tensors=True)


@pytest.mark.parametrize("name", CALLS)
def test_result(name):
    call = good_call(name)
    before = snapshot(call)
    checked = check(name, call)
    assert snapshot(call) == before
    assert call.keys() == good_call(name).keys()
    assert list(checked) == list(NAMES)
    for part in ("features", "labels", "centers", "sample_weight"):
        assert np.shares_memory(checked[part], call[part])
        assert np.array_equal(checked[part], call[part])
    for part in set(call) - {"features", "labels", "centers", "sample_weight", "out"}:
        assert type(checked[part]) is type(call[part])
        assert checked[part] == call[part]
    assert checked["out"] is call.get("out")


def test_options_become_plain_python_values():
    class Text(str):
        __slots__ = ()

    call = three(
        alpha=np.float32(0.25),
        normalize=np.False_,
        skip_nonfinite=np.False_,
        reduction=Text("sum"),
        loss_weight=np.int8(3),
        ignore_index=np.uint8(7),
        sample_weight=[1, 2, 3, True],
    )
    checked = check("step", call)
    for part, expected in (
        ("alpha", 0.25),
        ("normalize", False),
        ("skip_nonfinite", False),
        ("reduction", "sum"),
        ("loss_weight", 3.0),
        ("ignore_index", 7),
    ):
        assert type(checked[part]) is type(expected)
        assert checked[part] == expected
    assert checked["sample_weight"].dtype == np.float64
    assert checked["sample_weight"].tolist() == [1, 2, 3, 1]
    assert checked["out"] is None


@pytest.mark.parametrize("dtype", [">f4", "<f4", "f2", ml_dtypes.bfloat16])
@pytest.mark.parametrize("order", ["C", "F"])
def test_features_become_readable_in_their_own_dtype(dtype, order):
    call = three()
    call["features"] = call["features"].astype(dtype, order=order)
    features = check("loss", call)["features"]
    assert features.dtype == np.dtype(dtype).newbyteorder("=")
    assert features.dtype.isnative
    assert features[0].flags.c_contiguous
    assert np.array_equal(features, call["features"])


def test_sequences_become_arrays():
    x, y, c = batch((B, D), K)
    checked = check("loss", {"features": x.tolist(), "labels": list(y), "centers": c})
    assert checked["features"].dtype == np.float32
    assert checked["labels"].dtype == np.int64
    assert np.array_equal(checked["features"], x)
    assert np.array_equal(checked["labels"], y)
    swapped = check("loss", three(labels=y.astype(">i2")))["labels"]
    assert swapped.dtype == np.int16
    assert np.array_equal(swapped, y)


@pytest.mark.parametrize("name", MOVES_CENTERS)
def test_centers_are_a_plain_view(name):
    class Subclass(np.ndarray):
        pass

    call = three()
    call["centers"] = call["centers"].view(Subclass)
    centers = check(name, call)["centers"]
    assert type(centers) is np.ndarray
    centers[0] = 9
    assert np.all(call["centers"][0] == 9)


def test_objects_that_change_the_dicts():
    """The arguments are those at the time of the call."""

    class Hostile:
        def __float__(self):
            call.clear()
            names.clear()
            return -1.0

        def __repr__(self):
            return "Hostile()"

    call, names = three(alpha=Hostile()), {"alpha": "".join(["ra", "te"])}
    message = r"^rate is Hostile\(\), expected a finite number >= 0$"
    with pytest.raises(ValueError, match=message):
        check("step", call, names)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("steps", {}), ValueError, "no function 'steps'"),
        (("step", [1]), TypeError, r"check\(\) argument 2 must be dict, not list"),
        (("step", {1: 1}), TypeError, "names of arguments must be strings"),
        (("step", {}, [1]), TypeError, "names must be a dict of str to str"),
        (("step", {}, {"out": 1}), TypeError, "names must be a dict of str to str"),
        (("step", {}, {1: "out"}), TypeError, "names must be a dict of str to str"),
        (("step", {}, {"weight": "w"}), ValueError, "no argument 'weight'"),
        (("step", {}, {"out": "\ud800"}), UnicodeEncodeError, ".*surrogates.*"),
    ],
)
def test_wrong_calls_of_check_itself(arguments, error, message):
    with pytest.raises(error, match=f"^{message}$"):
        check(*arguments)

"""What a call does, in C and in the reference, and whether that is the same."""

from dataclasses import dataclass

import ml_dtypes
import numpy as np

import centerloss
from centerloss import center_loss
from tests.fuzz.generate import SETTINGS, TAKES


def invoke(call, module):
    """Call the function, or the method with the functions of that module behind it."""
    arguments = dict(call.arguments)
    kind, _, method = call.name.rpartition(".")
    if not kind:
        return getattr(module, method)(**arguments)
    names = ("class_sums", "loss", "step", "update_centers", "value_and_grad")
    before = {name: getattr(center_loss, name) for name in names}
    try:
        for name in names:
            setattr(center_loss, name, getattr(module, name))
        return invoke_method(method, arguments)
    finally:
        for name in names:
            setattr(center_loss, name, before[name])


def invoke_method(method, arguments):
    centers = arguments.pop("centers", None)
    shape = centers.shape if isinstance(centers, np.ndarray) else (2, 2)
    settings = {n: arguments.pop(n) for n in SETTINGS if n in arguments}
    features, labels = arguments.pop("features", None), arguments.pop("labels", None)
    if method == "load":
        state = {"centers": centers, **settings}
        loss_fn = centerloss.CenterLoss(*(*shape, 2, 2)[:2], init="zeros")
        before = repr(loss_fn.state_dict())
        try:
            loss_fn.load_state_dict(state)
        except Exception:
            if repr(loss_fn.state_dict()) != before:
                raise AssertionError("a state was taken over by halves") from None
            raise
        return loss_fn.centers
    loss_fn = centerloss.CenterLoss(*(*shape, 2, 2)[:2], init=centers, **settings)
    if method in ("init_centers",):
        arguments = {}
    elif method in ("__call__", "update"):
        arguments.pop("out", None)
    return getattr(loss_fn, method)(features, labels, **arguments)


def written(call):
    """The arrays that a call that succeeds writes."""
    name, arguments = call.name, call.arguments
    arrays = []
    if name.endswith(("step", "update_centers", "update", "init_centers")):
        arrays.append(arguments["centers"])
    takes_out = "out" in TAKES.get(name, ()) or name.endswith(
        (".value_and_grad", ".step")
    )
    if takes_out and arguments.get("out") is not None:
        arrays.append(arguments["out"])
    return [np.asarray(array) for array in arrays]


@dataclass
class Outcome:
    error: Exception | None
    values: list
    changed: bool


def outcome(call, module):
    before = [memory.tobytes() for memory in call.memories]
    olds = [
        a.copy() if isinstance(a, np.ndarray) and a.size < 1 << 20 else None
        for a in (call.arguments.get("centers"), call.arguments.get("out"))
    ]
    try:
        # Warnings of casts are for the errstate of the caller to say.
        with np.errstate(all="ignore"):
            result = invoke(call, module)
    except Exception as error:
        changed = [memory.tobytes() for memory in call.memories] != before
        return Outcome(error, [], changed)
    values = list(result) if isinstance(result, tuple) else [result]
    arrays = written(call)
    values = [np.array(value) for value in (*values, *arrays)]
    for name, old in zip(("centers", "out"), olds, strict=True):
        array = call.arguments.get(name)
        if isinstance(array, np.ndarray) and any(
            np.shares_memory(np.asarray(array), a) for a in arrays
        ):
            np.asarray(array)[...] = old
    changed = [memory.tobytes() for memory in call.memories] != before
    return Outcome(None, values, changed)


def finite_size(array):
    if not isinstance(array, np.ndarray) or array.size > 1 << 20:
        return 1.0 if not isinstance(array, (list, tuple)) else 10.0
    if array.dtype.kind not in "fViub" or not array.size:
        return 1.0
    with np.errstate(all="ignore"):
        values = np.abs(np.asarray(array).astype(np.float64))
    return float(np.max(values[np.isfinite(values)], initial=1.0))


def magnitude(call):
    """How large what is added up may be."""
    a = call.arguments
    size = finite_size(a.get("features")) + finite_size(a.get("centers"))
    size = 200 * size * size * finite_size(a.get("sample_weight"))
    for name in ("alpha", "loss_weight"):
        try:
            size *= max(1.0, abs(float(a.get(name, 1.0))))
        except (TypeError, ValueError, RuntimeError, OverflowError):
            size *= 1.0
    return size


def close(got, expected, size):
    """The same but for rounding: NaN where there is NaN, infinite where infinite."""
    if got.dtype != expected.dtype or got.shape != expected.shape:
        return False
    if got.dtype.kind not in "fV":
        return bool(np.array_equal(got, expected))
    info = ml_dtypes.finfo(got.dtype)
    with np.errstate(all="ignore"):  # a signaling NaN warns even when it is cast
        a, b = got.astype(np.float64), expected.astype(np.float64)
        slack = 4 * float(info.eps) * np.abs(b) + 1e-13 * size
        slack += 4 * float(info.smallest_subnormal)
        edge = float(info.max) * 0.99
        huge = (np.abs(a) > edge) & (np.abs(b) > edge) & (np.sign(a) == np.sign(b))
        good = (np.abs(a - b) <= slack) | (a == b) | huge
        good |= np.isnan(a) & np.isnan(b)
    return bool(good.all())


def difference(call, got, expected):
    """What is wrong, or None."""
    if got.changed or expected.changed:
        who = "C" if got.changed else "the reference"
        return f"{who} changed memory ({got.error!r})"
    if (got.error is None) != (expected.error is None):
        return f"C: {got.error!r}, reference: {expected.error!r}"
    if got.error is not None:
        if type(got.error) is not type(expected.error):
            return f"C: {got.error!r}, reference: {expected.error!r}"
        signature = isinstance(got.error, TypeError) and "argument" in str(got.error)
        if str(got.error) != str(expected.error) and not signature:
            return f"C: {got.error!r}, reference: {expected.error!r}"
        return None
    size = magnitude(call)
    for a, b in zip(got.values, expected.values, strict=True):
        if not close(a, b, size):
            return f"C: {a!r}, reference: {b!r}"
    return None

"""Every wrong call of the module raises its error and changes nothing."""

import itertools
import sys

import numpy as np
import pytest
import torch

from centerloss.torch import CenterLoss
from tests.helpers.error_cases import faults, good_call
from tests.torch.batches import assert_same_bits, batch, copied, module, same_bits

TENSORS = ("features", "labels", "sample_weight")
NAMES = ("embeddings", "labels", "sample_weight")
SETTINGS = (
    *("alpha", "normalize", "skip_nonfinite", "reduction", "loss_weight"),
    "ignore_index",
)
FAULTS = faults({"features": "embeddings"}, tensors=True)


def as_tensor(value):
    """A tensor with these values and this dtype, or None if there is no such tensor."""
    if isinstance(value, list):
        value = np.asarray(value)
    native = isinstance(value, np.ndarray) and value.dtype.isnative
    if not native or value.dtype.kind not in "biufc" or value.dtype.char in "gG":
        return None
    return torch.from_numpy(value.copy())


def faults_of_tensors(name):
    """Faults of a function that settings and tensors can have."""
    return [
        fault
        for fault in FAULTS
        if fault.applies_to(name)
        and not {"centers", "out"} & set(fault.arguments)
        and all(as_tensor(call_with(name, fault)[x]) is not None for x in TENSORS)
    ]


def one_per_kind(faults):
    return list({str(fault): fault for fault in faults}.values())


def call_with(name, fault):
    """The arguments of a call with this fault, or of a good call."""
    call = good_call(name)
    if fault is not None:
        fault.break_(call)
    return call


def prepared(name, fault=None):
    """A module with the settings of the call, and the tensors."""
    call = call_with(name, fault)
    loss_fn = CenterLoss(5, 6, init=torch.from_numpy(call["centers"]))
    for setting in SETTINGS:
        if setting in call:
            setattr(loss_fn, setting, call[setting])
    tensors = [as_tensor(call[part]) for part in TENSORS]
    if tensors[0].is_floating_point():
        tensors[0].requires_grad_()
    return loss_fn, tensors


# Embeddings of integers have no gradient, so they update no centers: see eval mode.
IN_TRAINING = [
    fault
    for fault in faults_of_tensors("step")
    if prepared("step", fault)[1][0].requires_grad
]
WRONG_CALLS = [
    *(("step", fault) for fault in IN_TRAINING),
    *(("value_and_grad", x) for x in one_per_kind(faults_of_tensors("value_and_grad"))),
    *(("update_centers", x) for x in one_per_kind(faults_of_tensors("update_centers"))),
]


@pytest.mark.parametrize(("name", "fault"), WRONG_CALLS, ids=str)
@pytest.mark.usefixtures("path")
def test_wrong_calls(name, fault):
    """A call in training mode, a call in eval mode, or a call of update()."""
    loss_fn, tensors = prepared(name, fault)
    loss_fn.train(name == "step")
    before = [t.detach().clone() for t in (loss_fn.centers, *tensors)]
    with pytest.raises(fault.error) as raised:
        (loss_fn.update if name == "update_centers" else loss_fn)(*tensors)
    assert type(raised.value) is fault.error
    assert str(raised.value) == fault.message
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__ == (raised.value.__context__ is not None)
    assert_same_bits((loss_fn.centers, *tensors), before)
    assert tensors[0].grad is None
    assert loss_fn.num_updated == 0


@pytest.mark.usefixtures("path")
def test_the_good_call_is_accepted():
    """Otherwise the errors above could come from elsewhere."""
    loss_fn, tensors = prepared("step")
    before = loss_fn.centers.clone()
    loss_fn(*tensors).sum().backward()
    assert tensors[0].grad.any()
    assert not torch.equal(loss_fn.centers, before)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("name", ["features", "centers", "embeddings.copy()"])
def test_a_value_that_looks_like_a_name_is_quoted_as_it_is(name):
    loss_fn = module()
    loss_fn.reduction = name
    with pytest.raises(ValueError, match="^reduction is ") as raised:
        loss_fn(*batch())
    message = f"reduction is {name!r}, expected 'none', 'sum' or 'mean'"
    assert str(raised.value) == message


def test_an_error_that_the_check_does_not_find_is_raised_as_it_is(monkeypatch):
    """The check may pass if the arguments have changed in the meantime."""
    monkeypatch.setattr("centerloss._core.check", lambda *_, **__: {})
    loss_fn = module()
    embeddings, labels, _ = batch()
    with pytest.raises(ValueError, match="one label per row of features$"):
        loss_fn(embeddings, labels[1:])


# --- faults of tensors only ----------------------------------------------------------


def nested(tensor):
    return torch.nested.nested_tensor(list(tensor.chunk(2)), layout=torch.jagged)


def quantized(tensor):
    return torch.quantize_per_tensor(tensor.detach().float(), 0.1, 0, torch.quint8)


A_DENSE = "expected a dense tensor: pass {}.to_dense()"
PAD = "pass {}.to_padded_tensor(0), with a label to be ignored for the padding"
# What is made of an argument that is right, the error, and the rest of its message.
NO_ARRAYS = {
    "array": (copied, TypeError, "is a ndarray, expected a tensor"),
    "list": (lambda x: x.tolist(), TypeError, "is a list, expected a tensor"),
    "meta": (lambda x: x.to("meta"), ValueError, "is on meta, but centers are on cpu"),
    "sparse": (
        lambda x: x.detach().to_sparse(),
        TypeError,
        f"has layout torch.sparse_coo, {A_DENSE}",
    ),
    "nested": (nested, TypeError, f"is a nested tensor, expected a dense one: {PAD}"),
    "quantized": (
        quantized,
        TypeError,
        "has dtype quint8, expected one that NumPy has: pass {}.dequantize()",
    ),
    "float8": (
        lambda x: x.detach().to(torch.float8_e4m3fn),
        TypeError,
        "has dtype float8_e4m3fn, expected one that NumPy has",
    ),
}


# PyTorch's own warnings about sparse, nested and quantized tensors.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("how", "name"),
    [
        *itertools.product(["forward", "eval", "update"], NAMES),
        *itertools.product(["init_centers"], NAMES[:2]),
    ],
)
@pytest.mark.parametrize("kind", NO_ARRAYS)
@pytest.mark.usefixtures("path")
def test_arguments_that_are_no_tensors_or_no_dense_ones(how, name, kind):
    make, error, problem = NO_ARRAYS[kind]
    given = dict(zip(NAMES, batch(), strict=True))
    given[name] = make(given[name])
    message = f"{name} {problem.format(name)}"
    loss_fn = module().train(how != "eval")
    call = loss_fn if how == "eval" else getattr(loss_fn, how)
    if how == "init_centers":
        given = {"batches": [(given["embeddings"], given["labels"])]}
    with pytest.raises(error) as raised:
        call(**given)
    assert str(raised.value) == message
    assert torch.equal(loss_fn.centers, module().centers)


@pytest.mark.parametrize("how", ["forward", "update"])
@pytest.mark.usefixtures("path")
def test_embeddings_of_none(how):
    with pytest.raises(TypeError, match="^embeddings is a NoneType, expected a te"):
        getattr(module(), how)(None, torch.zeros(3, dtype=int))


# How a call gets its tensors, and the error.
GRADIENTS = {
    "labels first": (
        lambda m, x, y: m(y, x),
        TypeError,
        "embeddings has dtype int64 and shape (24,), labels has dtype float32 and "
        "shape (24, 6): they look swapped",
    ),
    "soft labels": (
        lambda m, x, _: m(x, torch.rand(24, 7, requires_grad=True)),
        TypeError,
        "labels needs a gradient, expected numbers of classes, of an integer dtype",
    ),
    "centers": (
        lambda m, x, y: (m.centers.requires_grad_(), m(x, y)),
        ValueError,
        "centers needs a gradient, but the loss has none by the centers, which it "
        "updates itself: call centers.requires_grad_(False), and give no centers to an "
        "optimizer",
    ),
}


@pytest.mark.parametrize("mode", ["training", "eval", "no_grad", "update"])
@pytest.mark.parametrize("kind", GRADIENTS)
@pytest.mark.usefixtures("path")
def test_arguments_that_need_a_gradient(kind, mode):
    call, error, message = GRADIENTS[kind]
    loss_fn = module().train(mode != "eval")
    if mode == "update":
        loss_fn.forward = loss_fn.update
    embeddings, labels, _ = batch()
    with torch.set_grad_enabled(mode != "no_grad"), pytest.raises(error) as raised:
        call(loss_fn, embeddings, labels)
    assert str(raised.value) == message
    assert torch.equal(loss_fn.centers, module().centers)


@pytest.mark.usefixtures("path")
def test_weights_that_need_a_gradient_under_no_grad():
    embeddings, labels, weights = batch(learned=True)
    with torch.no_grad():
        loss = module()(embeddings, labels, weights)
    expected = module()(embeddings, labels, weights.detach())
    torch.testing.assert_close(loss, expected.detach())


@pytest.mark.usefixtures("path")
def test_embeddings_with_a_negative_bit():
    """The imaginary part of conjugates: NumPy has no such views."""
    embeddings, labels, _ = batch()
    pairs = torch.stack([embeddings.detach(), -embeddings.detach()], dim=-1)
    view = torch.view_as_complex(pairs).conj().imag.requires_grad_()
    assert view.is_neg()
    assert torch.equal(view, embeddings)
    ours, expected = module(), module()
    assert same_bits(ours(view, labels), expected(embeddings, labels))
    assert same_bits(ours.centers, expected.centers)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64], ids=str)
def test_centers_in_half_precision_are_refused(dtype):
    """In the constructor, and if such centers are assigned."""
    message = (
        f"^{{0}} has dtype {str(dtype)[6:]}, expected float32 or float64: make it "
        r"with {0}.to\(torch.float32\)$"
    )
    of_dtype = f"^dtype is {dtype}, expected torch.float32 or torch.float64$"
    for init in ("zeros", torch.zeros(7, 6)):
        with pytest.raises(TypeError, match=of_dtype):
            CenterLoss(7, 6, init=init, dtype=dtype)
    with pytest.raises(TypeError, match=message.format("init")):
        CenterLoss(7, 6, init=torch.zeros(7, 6, dtype=dtype))
    if not dtype.is_floating_point:
        return
    loss_fn = module()
    loss_fn.centers = loss_fn.centers.to(dtype)
    before = loss_fn.centers.clone()
    embeddings, labels, _ = batch(dtype=dtype)
    for call in (loss_fn, loss_fn.update, loss_fn.eval()):
        with pytest.raises(TypeError, match=message.format("centers")):
            call(embeddings, labels)
    assert same_bits(loss_fn.centers, before)


def test_embeddings_in_the_memory_of_the_centers(path):
    """C refuses them; PyTorch's operations read them before they update the centers."""
    loss_fn, labels = module(), torch.arange(3)
    rows = loss_fn.centers.detach()[1:4].requires_grad_()
    expected = module()
    if path == "plain":
        loss_fn(rows, labels)
        expected(module().centers[1:4].clone().requires_grad_(), labels)
    else:
        with pytest.raises(ValueError, match="^centers overlaps embeddings in memory$"):
            loss_fn(rows, labels)
    assert same_bits(loss_fn.centers, expected.centers)


@pytest.mark.parametrize("ignore_index", [None, -1])
@pytest.mark.usefixtures("path")
def test_a_bad_label_in_the_last_of_many_rows(ignore_index):
    loss_fn = module(ignore_index=ignore_index)
    embeddings, labels, _ = batch(5000)
    labels[-1] = 7
    message = r"^labels\[4999\] is 7, but there are 7 classes \(0 to 6\)$"
    for call in (loss_fn, loss_fn.update, loss_fn.init_centers):
        with pytest.raises(IndexError, match=message):
            call(embeddings, labels)
    with torch.no_grad(), pytest.raises(IndexError, match=message):
        loss_fn(embeddings, labels)
    assert torch.equal(loss_fn.centers, module().centers)


@pytest.fixture
def without_ml_dtypes(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)


@pytest.mark.usefixtures("path", "without_ml_dtypes")
def test_only_embeddings_in_bfloat16_need_ml_dtypes():
    loss_fn = module()
    embeddings, labels, weights = batch()
    with pytest.raises(
        ImportError, match="^tensors in bfloat16 need the package ml_dt"
    ):
        loss_fn(embeddings.bfloat16(), labels)
    assert torch.equal(loss_fn.centers, module().centers)
    for dtype in (torch.float32, torch.float16):
        loss_fn(embeddings.to(dtype), labels, weights.bfloat16()).backward()


# --- the constructor -----------------------------------------------------------------


AN_INIT = "expected 'normal', 'zeros' or a tensor"
STRIDED = "has strided or overlapping rows: pass init.contiguous()"
A_GROUP = "expected None, 'world' or a group as from torch.distributed.new_group()"


@pytest.mark.parametrize(
    ("name", "value", "error", "problem"),
    [
        ("num_classes", "7", TypeError, "is '7', expected an integer"),
        ("feat_dim", 6.0, TypeError, "is 6.0, expected an integer"),
        ("num_classes", -1, ValueError, "is -1, expected an integer >= 0"),
        ("feat_dim", -6, ValueError, "is -6, expected an integer >= 0"),
        ("init", "x", ValueError, f"is 'x', {AN_INIT}"),
        ("init", None, TypeError, f"is a NoneType, {AN_INIT}"),
        ("init", np.ones((7, 6)), TypeError, f"is a ndarray, {AN_INIT}"),
        ("init", torch.ones(6, 7), ValueError, "has shape (6, 7), expected (7, 6)"),
        ("init", torch.ones(7), ValueError, "has shape (7,), expected (7, 6)"),
        ("init", torch.ones(6, 7).T, ValueError, STRIDED),
        ("init", torch.ones(6).expand(7, 6), ValueError, STRIDED),
        ("auto_update", "no", TypeError, "is 'no', expected True or False"),
        ("auto_update", 1, TypeError, "is 1, expected True or False"),
        ("process_group", "gloo", TypeError, f"is 'gloo', {A_GROUP}"),
    ],
)
def test_the_constructor_refuses_wrong_arguments(name, value, error, problem):
    given = {"num_classes": 7, "feat_dim": 6, name: value}
    with pytest.raises(error) as raised:
        CenterLoss(**given)
    assert str(raised.value) == f"{name} {problem}"


@pytest.mark.parametrize("value", ["gloo", 0, [], "World"])
def test_an_assigned_process_group_is_checked(value):
    loss_fn = module(process_group="world")
    with pytest.raises(TypeError) as raised:
        loss_fn.process_group = value
    assert str(raised.value) == f"process_group is {value!r}, {A_GROUP}"
    assert loss_fn.process_group == "world"


@pytest.mark.usefixtures("path")
def test_rows_of_a_larger_tensor_are_used_as_centers():
    """Without a copy; they need no gradient."""
    whole = torch.zeros(7, 9, requires_grad=True)
    loss_fn = CenterLoss(7, 6, init=whole[:, :6])
    embeddings, labels, _ = batch()
    loss_fn(embeddings, labels)
    assert not loss_fn.centers.requires_grad
    assert whole[:, :6].any()
    assert not whole[:, 6:].any()


@pytest.mark.parametrize(
    "fault",
    one_per_kind(x for x in faults_of_tensors("step") if x.arguments[0] in SETTINGS),
    ids=str,
)
def test_the_constructor_refuses_wrong_settings(fault):
    (name,) = fault.arguments
    with pytest.raises(fault.error) as raised:
        CenterLoss(7, 6, **{name: call_with("step", fault)[name]})
    assert str(raised.value) == fault.message

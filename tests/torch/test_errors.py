"""Every wrong call of the module raises its error and changes nothing.

The wrong calls are those of the NumPy functions that tensors can have; then those that
only tensors can have.
"""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from centerloss.torch import CenterLoss  # noqa: E402
from tests.helpers.error_cases import faults, good_call  # noqa: E402
from tests.torch.batches import (  # noqa: E402
    batch,
    module,
    same_bits,
    use_plain_operations,
)

TENSORS = ("features", "labels", "sample_weight")
SETTINGS = ("alpha", "normalize", "reduction", "loss_weight", "ignore_index")
FAULTS = faults({"features": "embeddings"}, tensors=True)


@pytest.fixture(params=["C", "plain"])
def path(request, monkeypatch):
    """Run the test in C and in PyTorch's operations."""
    if request.param == "plain":
        use_plain_operations(monkeypatch)
    return request.param


def as_tensor(value):
    """A tensor with these values and this dtype, or None if there is no such tensor."""
    if value is None:
        return None
    if not isinstance(value, np.ndarray) or not value.dtype.isnative:
        return None
    if value.dtype.kind not in "biufc":
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


def assert_raises_and_changes_nothing(call, loss_fn, tensors, fault):
    before = [t.detach().clone() for t in (loss_fn.centers, *tensors)]
    with pytest.raises(fault.error) as raised:
        call(*tensors)
    assert type(raised.value) is fault.error
    assert str(raised.value) == fault.message
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__ == (raised.value.__context__ is not None)
    after = (loss_fn.centers, *tensors)
    for a, b in zip(after, before, strict=True):
        assert same_bits(a, b)
    assert tensors[0].grad is None
    assert loss_fn.num_updated == 0


# Embeddings of integers have no gradient, so they update no centers: see eval mode.
IN_TRAINING = [
    fault
    for fault in faults_of_tensors("step")
    if prepared("step", fault)[1][0].requires_grad
]


@pytest.mark.parametrize("fault", IN_TRAINING, ids=str)
def test_wrong_calls_in_training_mode(fault):
    loss_fn, tensors = prepared("step", fault)
    assert_raises_and_changes_nothing(loss_fn, loss_fn, tensors, fault)


@pytest.mark.parametrize("fault", one_per_kind(IN_TRAINING), ids=str)
def test_wrong_calls_in_training_mode_in_plain_operations(fault, monkeypatch):
    use_plain_operations(monkeypatch)
    loss_fn, tensors = prepared("step", fault)
    assert_raises_and_changes_nothing(loss_fn, loss_fn, tensors, fault)


@pytest.mark.parametrize(
    "fault", one_per_kind(faults_of_tensors("value_and_grad")), ids=str
)
@pytest.mark.usefixtures("path")
def test_wrong_calls_in_eval_mode(fault):
    loss_fn, tensors = prepared("value_and_grad", fault)
    loss_fn.eval()
    assert_raises_and_changes_nothing(loss_fn, loss_fn, tensors, fault)


@pytest.mark.parametrize(
    "fault", one_per_kind(faults_of_tensors("update_centers")), ids=str
)
@pytest.mark.usefixtures("path")
def test_wrong_calls_of_update(fault):
    loss_fn, tensors = prepared("update_centers", fault)
    assert_raises_and_changes_nothing(loss_fn.update, loss_fn, tensors, fault)


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


@pytest.mark.parametrize("how", ["forward", "update"])
@pytest.mark.parametrize(
    ("place", "value", "kind"),
    [
        (0, np.ones((24, 6), np.float32), "ndarray"),
        (0, None, "NoneType"),
        (1, [0] * 24, "list"),
        (2, 1.0, "float"),
        (2, np.ones(24), "ndarray"),
    ],
)
def test_arguments_that_are_no_tensors(how, place, value, kind):
    loss_fn, given = module(), list(batch())
    name = ("embeddings", "labels", "sample_weight")[place]
    given[place] = value
    with pytest.raises(TypeError, match=f"^{name} is a {kind}, expected a tensor$"):
        getattr(loss_fn, how)(*given)
    assert torch.equal(loss_fn.centers, module().centers)


@pytest.mark.parametrize("how", ["forward", "update"])
@pytest.mark.parametrize("name", ["embeddings", "labels", "sample_weight"])
def test_tensors_on_another_device(how, name):
    loss_fn = module()
    given = dict(zip(("embeddings", "labels", "sample_weight"), batch(), strict=True))
    given[name] = given[name].to("meta")
    with pytest.raises(
        ValueError, match=f"^{name} is on meta, but centers are on cpu$"
    ):
        getattr(loss_fn, how)(**given)
    assert torch.equal(loss_fn.centers, module().centers)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64], ids=str)
def test_centers_in_half_precision_are_refused(dtype):
    """In the constructor, and after the whole network has been converted."""
    message = (
        f"^centers has dtype {str(dtype)[6:]}, expected float32 or float64: make it "
        r"with centers.to\(torch.float32\)$"
    )
    with pytest.raises(TypeError, match=message):
        CenterLoss(7, 6, dtype=dtype)
    with pytest.raises(TypeError, match=message):
        CenterLoss(7, 6, init=torch.zeros(7, 6, dtype=dtype))
    if not dtype.is_floating_point:
        return
    loss_fn = module().to(dtype)
    before = loss_fn.centers.clone()
    embeddings, labels, _ = batch(dtype=dtype)
    for call in (loss_fn, loss_fn.update, loss_fn.eval()):
        with pytest.raises(TypeError, match=message):
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
    message = "^labels\\[4999\\] is 7, but there are 7 classes$"
    for call in (loss_fn, loss_fn.update, loss_fn.init_centers):
        with pytest.raises(IndexError, match=message):
            call(embeddings, labels)
    with torch.no_grad(), pytest.raises(IndexError, match=message):
        loss_fn(embeddings, labels)
    assert torch.equal(loss_fn.centers, module().centers)


# --- the constructor -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "error", "message"),
    [
        (("7", 6), TypeError, "num_classes is '7', expected an integer"),
        ((7, 6.0), TypeError, "feat_dim is 6.0, expected an integer"),
        ((-1, 6), ValueError, "num_classes is -1, expected an integer >= 0"),
        ((7, -6), ValueError, "feat_dim is -6, expected an integer >= 0"),
    ],
)
def test_wrong_sizes(sizes, error, message):
    with pytest.raises(error, match=f"^{message}$"):
        CenterLoss(*sizes)


@pytest.mark.parametrize(
    ("init", "error", "message"),
    [
        ("xavier", ValueError, "init is 'xavier', expected 'normal', 'zeros' or a t"),
        (None, TypeError, "init is a NoneType, expected 'normal', 'zeros' or a tensor"),
        (np.ones((7, 6)), TypeError, "init is a ndarray, expected 'normal', 'zeros' "),
        (
            torch.ones(6, 7),
            ValueError,
            "init has shape \\(6, 7\\), expected \\(7, 6\\)",
        ),
        (torch.ones(7), ValueError, "init has shape \\(7,\\), expected \\(7, 6\\)"),
        (
            torch.ones(6, 7).T,
            ValueError,
            "init has strided or overlapping rows: pass i",
        ),
        (torch.ones(6).expand(7, 6), ValueError, "init has strided or overlapping row"),
    ],
)
def test_wrong_init(init, error, message):
    with pytest.raises(error, match=f"^{message}"):
        CenterLoss(7, 6, init=init)


@pytest.mark.usefixtures("path")
def test_rows_of_a_larger_tensor_are_used_as_centers():
    whole = torch.zeros(7, 9)
    loss_fn = CenterLoss(7, 6, init=whole[:, :6])
    embeddings, labels, _ = batch()
    assert loss_fn.update(embeddings, labels)
    assert whole[:, :6].any()
    assert not whole[:, 6:].any()


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("auto_update", "no", "True or False"),
        ("auto_update", 1, "True or False"),
        ("process_group", "gloo", "one as from torch.distributed.new_group()"),
    ],
)
def test_wrong_settings_that_the_numpy_class_lacks(name, value, expected):
    with pytest.raises(TypeError) as raised:
        CenterLoss(7, 6, **{name: value})
    assert str(raised.value) == f"{name} is {value!r}, expected {expected}"


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

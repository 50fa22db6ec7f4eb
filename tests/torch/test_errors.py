"""Every wrong call of the module has its error, and nothing has changed after it.

The wrong calls are those of the NumPy functions, as far as tensors can be wrong in that
way, with the same messages; then those that only tensors can be.
"""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from centerloss.torch import CenterLoss  # noqa: E402
from centerloss.torch import _dispatch as _module  # noqa: E402
from tests.helpers.error_cases import FAULTS, good_call  # noqa: E402
from tests.torch.batches import batch, module, same_bits  # noqa: E402

TENSORS = ("features", "labels", "sample_weight")
SETTINGS = ("alpha", "normalize", "reduction", "loss_weight", "ignore_index")


@pytest.fixture(params=["C", "plain"], autouse=True)
def path(request, monkeypatch):
    """What runs: C, or the operations that other devices have."""
    if request.param == "plain":
        monkeypatch.setattr(_module, "can_use_c", lambda *_: False)
    return request.param


def as_tensor(value):
    """A tensor of these values and dtype, or None if there is no such tensor."""
    if value is None:
        return None
    if not isinstance(value, np.ndarray) or not value.dtype.isnative:
        return None
    if value.dtype.kind not in "biufc":
        return None
    return torch.from_numpy(value.copy())


def faults(name):
    """Faults of a function that the module's settings and tensors can have."""
    return [
        fault
        for fault in FAULTS
        if fault.applies_to(name)
        and not {"centers", "out"} & set(fault.spoils)
        and all(as_tensor(spoiled(name, fault)[part]) is not None for part in TENSORS)
    ]


def spoiled(name, fault):
    """The arguments of a call with this fault; without, where there is none."""
    call = good_call(name)
    if fault is not None:
        fault.spoil(call)
    return call


def prepared(name, fault=None):
    """A module with the settings of the call, and the tensors."""
    call = spoiled(name, fault)
    loss_fn = CenterLoss(5, 6, init=torch.from_numpy(call["centers"]))
    for setting in SETTINGS:
        if setting in call:
            setattr(loss_fn, setting, call[setting])
    tensors = [as_tensor(call[part]) for part in TENSORS]
    if tensors[0].is_floating_point():
        tensors[0].requires_grad_()
    return loss_fn, tensors


def of_tensors(message):
    """The message of a NumPy function, said of tensors."""
    message = message.replace("features", "embeddings").replace(
        ".astype(np", ".to(torch"
    )
    return message.replace("embeddings.copy()", "embeddings.clone()")


def assert_raises_and_changes_nothing(call, loss_fn, tensors, error, message):
    before = [t.detach().clone() for t in (loss_fn.centers, *tensors)]
    with pytest.raises(error) as raised:
        call(*tensors)
    assert type(raised.value) is error
    assert str(raised.value) == of_tensors(message)
    after = (loss_fn.centers, *tensors)
    for a, b in zip(after, before, strict=True):
        assert torch.equal(a, b) or (same_bits(a, b) and b.isnan().any())
    assert tensors[0].grad is None
    assert loss_fn.num_updated == 0


# Embeddings that can have no gradient move nothing: they are among those of eval mode.
@pytest.mark.parametrize(
    "fault",
    [fault for fault in faults("step") if prepared("step", fault)[1][0].requires_grad],
    ids=str,
)
def test_wrong_calls_in_training_mode(fault):
    loss_fn, tensors = prepared("step", fault)
    assert_raises_and_changes_nothing(
        loss_fn, loss_fn, tensors, fault.error, fault.message
    )


@pytest.mark.parametrize("fault", faults("value_and_grad"), ids=str)
def test_wrong_calls_in_eval_mode(fault):
    loss_fn, tensors = prepared("value_and_grad", fault)
    loss_fn.eval()
    assert_raises_and_changes_nothing(
        loss_fn, loss_fn, tensors, fault.error, fault.message
    )


@pytest.mark.parametrize("fault", faults("update_centers"), ids=str)
def test_wrong_calls_of_update(fault):
    loss_fn, tensors = prepared("update_centers", fault)
    assert_raises_and_changes_nothing(
        loss_fn.update, loss_fn, tensors, fault.error, fault.message
    )


def test_the_good_call_is_one():
    """Else the errors above might be others."""
    loss_fn, tensors = prepared("step")
    before = loss_fn.centers.clone()
    loss_fn(*tensors).sum().backward()
    assert tensors[0].grad.any()
    assert not torch.equal(loss_fn.centers, before)


# --- what only tensors can be --------------------------------------------------------


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
def test_no_tensors(how, place, value, kind):
    loss_fn, given = module(), list(batch())
    name = ("embeddings", "labels", "sample_weight")[place]
    given[place] = value
    with pytest.raises(TypeError, match=f"^{name} is a {kind}, expected a tensor$"):
        getattr(loss_fn, how)(*given)
    assert torch.equal(loss_fn.centers, module().centers)


@pytest.mark.parametrize("how", ["forward", "update"])
@pytest.mark.parametrize("name", ["embeddings", "labels", "sample_weight"])
def test_other_devices(how, name):
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
    """At once, and after the whole network has been made so."""
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
    """C refuses them; PyTorch's operations have read them before a center moves."""
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
def test_a_bad_label_in_the_last_row(ignore_index):
    """Of many, and the centers are as they were."""
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


# --- making one ----------------------------------------------------------------------


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
    """Each at once, not in the first call."""
    with pytest.raises(error, match=f"^{message}"):
        CenterLoss(7, 6, init=init)


def test_rows_of_a_larger_tensor_are_kept_as_centers():
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
def test_wrong_settings_of_the_module_alone(name, value, expected):
    with pytest.raises(TypeError) as raised:
        CenterLoss(7, 6, **{name: value})
    assert str(raised.value) == f"{name} is {value!r}, expected {expected}"


@pytest.mark.parametrize(
    "fault", [fault for fault in faults("step") if fault.spoils[0] in SETTINGS], ids=str
)
def test_wrong_settings_are_refused_at_once(fault):
    (name,) = fault.spoils
    with pytest.raises(fault.error) as raised:
        CenterLoss(7, 6, **{name: spoiled("step", fault)[name]})
    assert str(raised.value) == fault.message

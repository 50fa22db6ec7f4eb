"""When the centers are updated; the module's state and initial centers."""

import contextlib
import copy
import io
import pickle

import pytest
import torch

from centerloss.torch import CenterLoss
from tests.torch.batches import (
    batch,
    copies,
    failing,
    learned_or_not,
    module,
    moved,
    reductions,
    same_bits,
)

STAY = (
    "^the centers stay as they are: the module is in training mode, but the embeddings "
    r"need no gradient. If the network is frozen, call update\(\) to move the centers; "
    r"to compute the loss alone, call eval\(\) or set auto_update=False$"
)


# --- when the centers are updated ----------------------------------------------------


@pytest.mark.parametrize("backward_passes", [0, 1, 2])
@pytest.mark.usefixtures("path", "device")
def test_a_call_in_training_mode_moves_the_centers_once(backward_passes):
    """In the forward pass, however often the loss is differentiated."""
    embeddings, labels, _ = batch()
    loss_fn = module()
    assert loss_fn.num_updated == 0
    loss = loss_fn(embeddings, labels)
    for _ in range(backward_passes):
        loss.backward(retain_graph=True)
    assert same_bits(loss_fn.centers, moved())
    assert loss_fn.num_updated == len(labels.unique())
    assert not torch.equal(loss_fn.centers, module().centers)


@pytest.mark.usefixtures("path", "device")
@pytest.mark.parametrize(
    "why", ["eval", "no_grad", "inference_mode", "frozen embeddings", "auto_update"]
)
def test_when_they_stay(why):
    embeddings, labels, _ = batch()
    loss_fn = module(auto_update=why != "auto_update").train(why != "eval")
    mode = why if why in ("no_grad", "inference_mode") else "enable_grad"
    frozen = why == "frozen embeddings"
    warned = contextlib.nullcontext()
    if frozen:
        embeddings = embeddings.detach()
        warned = pytest.warns(UserWarning, match=STAY)
    with getattr(torch, mode)(), warned:
        loss = loss_fn(embeddings, labels)
    if why in ("eval", "auto_update"):
        loss.backward()
        assert embeddings.grad.any()
    assert torch.equal(loss_fn.centers, module().centers)
    assert loss_fn.num_updated == 0
    expected = module().eval()(embeddings, labels)
    torch.testing.assert_close(loss.detach(), expected.detach())


@pytest.mark.parametrize(
    "mode", [torch.no_grad, torch.inference_mode, torch.enable_grad]
)
@pytest.mark.parametrize("training", [True, False])
def test_update_moves_them_in_any_mode(mode, training):
    embeddings, labels, _ = batch()
    loss_fn = module(auto_update=False).train(training)
    with mode():
        assert loss_fn.update(embeddings, labels) == len(labels.unique())
    assert same_bits(loss_fn.centers, moved())
    assert loss_fn.num_updated == len(labels.unique())
    assert not loss_fn.centers.requires_grad


def test_embeddings_of_inference_mode():
    embeddings, labels, _ = batch()
    with torch.inference_mode():
        rows = embeddings * 1
        loss_fn = module()
        loss_fn.update(rows, labels)
    assert same_bits(loss_fn.centers, moved())
    assert module().eval()(rows, labels) == module()(embeddings, labels)


@reductions
@pytest.mark.parametrize("loss_weight", [0.0, 0.003, 1000.0])
@learned_or_not
def test_no_weight_of_the_loss_reaches_the_centers(reduction, loss_weight, learned):
    """Neither ``loss_weight`` nor a factor outside."""
    embeddings, labels, _ = batch()
    loss_fn = module(loss_weight=loss_weight, reduction=reduction)
    weights = torch.ones(24, requires_grad=True) if learned else None
    (1e-3 * loss_fn(embeddings, labels, weights).sum()).backward()
    assert same_bits(loss_fn.centers, moved())


def test_num_updated_counts_classes_of_rows_that_count():
    loss_fn = module(ignore_index=2)
    x = torch.ones(5, 6, requires_grad=True)
    loss_fn(x, torch.tensor([0, 0, 2, 4, 2]))
    assert loss_fn.num_updated == 2
    assert loss_fn.update(x[:1], torch.tensor([2])) == 0
    assert loss_fn.num_updated == 0


def test_num_updated_does_not_follow_a_setting_that_is_changed_later():
    loss_fn = module(ignore_index=2)
    loss_fn(torch.ones(3, 6, requires_grad=True), torch.tensor([0, 1, 2]))
    for later in (1, None):
        loss_fn.ignore_index = later
        assert loss_fn.num_updated == 2


def test_num_updated_does_not_follow_labels_that_are_used_again():
    """A loader may reuse the memory for the next batch."""
    loss_fn, labels = module(), torch.tensor([0, 1, 2])
    loss_fn(torch.ones(3, 6, requires_grad=True), labels)
    labels.zero_()
    assert loss_fn.num_updated == 3
    labels = torch.tensor([0, 1, 2])
    loss_fn.update(torch.ones(3, 6), labels)
    labels.zero_()
    assert loss_fn.num_updated == 3


@pytest.mark.usefixtures("path", "device")
def test_a_class_without_weight_counts_as_one_in_the_batch():
    loss_fn, weights = module(), torch.tensor([1.0, 0.0, 0.0])
    assert loss_fn.update(torch.ones(3, 6), torch.tensor([0, 1, 1]), weights) == 2
    assert loss_fn.num_updated == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("alpha", 0.125),
        ("loss_weight", 3),
        ("reduction", "sum"),
        ("normalize", False),
        ("ignore_index", 1),
        ("auto_update", False),
    ],
)
@pytest.mark.usefixtures("path", "device")
def test_settings_may_be_changed_between_calls(name, value):
    embeddings, labels, _ = batch()
    changed, given, untouched = module(), module(**{name: value}), module()
    setattr(changed, name, value)
    loss = changed(embeddings, labels)
    assert same_bits(loss, given(embeddings, labels))
    assert same_bits(changed.centers, given.centers)
    other = untouched(embeddings, labels)
    same = same_bits(loss, other) and same_bits(changed.centers, untouched.centers)
    assert not same


# --- a warning if nothing moves ------------------------------------------------------


@pytest.mark.usefixtures("path", "device")
def test_one_warning_per_module_if_embeddings_need_no_gradient():
    """It names the line of the caller. Copies and pickles may follow."""
    embeddings, labels, _ = batch()
    frozen = embeddings.detach()
    loss_fn = module()
    with pytest.warns(UserWarning, match=STAY) as warned:
        loss_fn(frozen, labels)
    assert [record.filename for record in warned] == [__file__]
    loss_fn(frozen, labels)
    copy.deepcopy(loss_fn)(frozen, labels)
    pickle.loads(pickle.dumps(loss_fn))(frozen, labels)
    with pytest.warns(UserWarning, match=STAY):
        module()(frozen, labels)
    assert torch.equal(loss_fn.centers, module().centers)
    loss_fn(embeddings, labels)
    assert same_bits(loss_fn.centers, moved())


def test_no_warning_where_no_gradient_is_expected():
    """Warnings are errors in the tests."""
    embeddings, labels, _ = batch()
    frozen, loss_fn = embeddings.detach(), module()
    loss_fn.update(frozen, labels)
    module(auto_update=False)(frozen, labels)
    with torch.no_grad():
        loss_fn(frozen, labels)
    with torch.inference_mode():
        loss_fn(frozen, labels)
    loss_fn.eval()(frozen, labels)


def test_a_wrong_call_raises_before_it_warns():
    embeddings, labels, _ = batch()
    with pytest.raises(IndexError):
        module()(embeddings.detach(), labels + 7)


# --- the buffer ----------------------------------------------------------------------


def test_state_dict_holds_the_centers_and_nothing_else():
    loss_fn = module()
    embeddings, labels, _ = batch()
    loss_fn(embeddings, labels)
    assert list(loss_fn.state_dict()) == ["centers"]
    assert loss_fn.state_dict()["centers"].data_ptr() == loss_fn.centers.data_ptr()
    assert list(loss_fn.parameters()) == []
    assert [name for name, _ in loss_fn.named_buffers()] == ["centers"]
    assert not loss_fn.centers.requires_grad


@pytest.mark.parametrize("how", ["forward", "update"])
def test_centers_are_moved_in_place(how):
    """Other references see the updates; autograd notices that its values are old."""
    embeddings, labels, _ = batch()
    loss_fn = module()
    centers = loss_fn.centers
    own = (embeddings[:7] * centers).sum()
    getattr(loss_fn, how)(embeddings, labels)
    assert loss_fn.centers is centers
    assert same_bits(centers, moved())
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        own.backward()


def test_to_another_dtype():
    embeddings, labels, _ = batch(dtype=torch.float64)
    loss_fn = module().double()
    expected = CenterLoss(7, 6, init=module().centers.double())
    assert same_bits(loss_fn(embeddings, labels), expected(embeddings, labels))
    assert same_bits(loss_fn.centers, expected.centers)
    assert loss_fn.float().centers.dtype is torch.float32


@copies
def test_copies(make):
    """After a call, when the module has stored the labels of the last update."""
    embeddings, labels, _ = batch()
    loss_fn = module(alpha=0.25, reduction="sum", ignore_index=2)
    loss_fn(embeddings, labels)
    other = make(loss_fn)
    assert repr(other) == repr(loss_fn)
    assert other.num_updated == loss_fn.num_updated > 0
    assert same_bits(other.centers, loss_fn.centers)
    assert other.centers.data_ptr() != loss_fn.centers.data_ptr()
    assert same_bits(other(embeddings, labels), loss_fn(embeddings, labels))
    assert same_bits(other.centers, loss_fn.centers)


def test_state_dict_through_a_file_of_weights_only():
    embeddings, labels, _ = batch()
    loss_fn, file = module(), io.BytesIO()
    loss_fn(embeddings, labels)
    torch.save(loss_fn.state_dict(), file)
    file.seek(0)
    other = CenterLoss(7, 6)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert same_bits(other.centers, loss_fn.centers)
    other.update(embeddings, labels)
    assert not torch.equal(other.centers, loss_fn.centers)


def test_repr():
    assert repr(module(alpha=0.25, ignore_index=-1)) == (
        "CenterLoss(7, 6, alpha=0.25, loss_weight=1.0, reduction='mean', "
        "normalize=True, ignore_index=-1, skip_nonfinite=True, auto_update=True, "
        "dtype=torch.float32)"
    )


# --- initial centers -----------------------------------------------------------------


def test_normal_centers_follow_pytorch_s_seed():
    torch.manual_seed(3)
    loss_fn = CenterLoss(500, 40)
    assert abs(loss_fn.centers.mean()) < 0.03
    assert abs(loss_fn.centers.std() - 1) < 0.03
    torch.manual_seed(3)
    assert torch.equal(CenterLoss(500, 40).centers, loss_fn.centers)
    first = loss_fn.centers.clone()
    loss_fn.reset_parameters()
    assert not torch.equal(loss_fn.centers, first)


def test_zeros():
    assert torch.equal(CenterLoss(3, 2, init="zeros").centers, torch.zeros(3, 2))


@pytest.mark.parametrize("init", ["normal", "zeros", torch.ones(3, 2)], ids=str)
def test_dtype(init):
    assert CenterLoss(3, 2, init=init).centers.dtype is torch.float32
    wide = CenterLoss(3, 2, init=init, dtype=torch.float64)
    assert wide.centers.dtype is torch.float64


def test_default_dtype_is_that_of_pytorch():
    torch.set_default_dtype(torch.float64)
    try:
        assert CenterLoss(3, 2).centers.dtype is torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_on_the_meta_device_first():
    """Shapes without memory, which is allocated later, as for large models."""
    loss_fn = CenterLoss(3, 2, device="meta", init="zeros")
    assert loss_fn.centers.is_meta
    loss_fn = loss_fn.to_empty(device="cpu")
    loss_fn.reset_parameters()
    assert torch.equal(loss_fn.centers, torch.zeros(3, 2))
    with torch.device("meta"):
        assert CenterLoss(3, 2).centers.is_meta


@reductions
def test_shapes_and_dtypes_on_the_meta_device(reduction):
    """The operations of other devices, without values."""
    loss_fn = CenterLoss(7, 6, device="meta", reduction=reduction, ignore_index=2)
    x = torch.empty(24, 6, dtype=torch.bfloat16, device="meta", requires_grad=True)
    labels = torch.empty(24, dtype=torch.int64, device="meta")
    loss = loss_fn(x, labels)
    assert loss.shape == ((24,) if reduction == "none" else ())
    assert loss.dtype is torch.float32
    loss.sum().backward()
    assert (x.grad.shape, x.grad.dtype) == (x.shape, torch.bfloat16)
    assert loss_fn.update(x, labels) == loss_fn.num_updated == 0


# --- class means ---------------------------------------------------------------------


def class_means(embeddings, labels, centers, ignore_index=None):
    expected = centers.double().clone()
    for j in set(labels.tolist()) - {ignore_index}:
        expected[j] = embeddings.detach().double()[labels == j].mean(0)
    return expected.to(centers.dtype)


@pytest.mark.parametrize("ignore_index", [None, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_init_centers_from_tensors(dtype, ignore_index):
    """Class 6 has no row, and stays, as an ignored class does."""
    embeddings, labels, _ = batch(dtype=dtype)
    loss_fn = module(ignore_index=ignore_index)
    expected = class_means(embeddings, labels, loss_fn.centers, ignore_index)
    updated = 6 if ignore_index is None else 5
    assert loss_fn.init_centers(embeddings, labels) == updated
    torch.testing.assert_close(loss_fn.centers, expected)
    assert torch.equal(loss_fn.centers[6], module().centers[6])
    assert not loss_fn.centers.requires_grad


def test_init_centers_from_a_loader():
    """Batches of images; the last is smaller."""
    embeddings, labels, _ = batch()
    data = torch.utils.data.TensorDataset(embeddings.detach(), labels)
    loader = torch.utils.data.DataLoader(data, batch_size=7)
    loss_fn = module()
    expected = class_means(2 * embeddings, labels, loss_fn.centers)
    batches = ((2 * x.reshape(-1, 3, 2, 1), y) for x, y in loader)
    assert loss_fn.init_centers(batches) == 6
    torch.testing.assert_close(loss_fn.centers, expected)


def test_init_centers_adds_in_float64():
    """100 001 rows of a class: their sum in float32 would be off."""
    x = torch.full((100_001, 1), 0.1)
    loss_fn = CenterLoss(1, 1)
    loss_fn.init_centers(
        (rows, torch.zeros(len(rows), dtype=int)) for rows in x.split(1000)
    )
    assert same_bits(loss_fn.centers, torch.tensor([[0.1]]))


@pytest.mark.parametrize(
    "batches", [[], [(torch.empty(0, 6), torch.empty(0, dtype=int))]]
)
def test_init_centers_without_rows(batches):
    loss_fn = module()
    assert loss_fn.init_centers(batches) == 0
    assert torch.equal(loss_fn.centers, module().centers)


@pytest.mark.parametrize(
    ("batches", "error"),
    [
        (failing, OSError),
        (lambda x, y: [(x, y), (x, y + 7)], IndexError),
        (lambda x, y: [(x, y), (x, y[1:])], ValueError),
        (lambda x, y: [(x, y), (x.long(), y)], TypeError),
        (lambda x, y: [(x, y), (x, y.tolist())], TypeError),
        (lambda x, y: [(x, y), x], TypeError),
        (lambda x, y: [(x, y), (x, y, y)], ValueError),
    ],
    ids=["loader", "label", "shape", "dtype", "type", "no pair", "three"],
)
def test_an_error_midway_leaves_the_centers(batches, error):
    embeddings, labels, _ = batch()
    loss_fn = module()
    with pytest.raises(error):
        loss_fn.init_centers(batches(embeddings, labels))
    assert torch.equal(loss_fn.centers, module().centers)


def test_init_centers_takes_labels_with_a_tensor_and_only_then():
    embeddings, labels, _ = batch()
    with pytest.raises(TypeError, match="labels is None, expected one label per row"):
        module().init_centers(embeddings)
    with pytest.raises(TypeError, match="^batches is a list, expected a tensor, as"):
        module().init_centers([(embeddings, labels)], labels)

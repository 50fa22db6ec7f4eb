"""Centers in shards, in one process: the results of `CenterLoss`, state, errors."""

import inspect
import sys

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict,
    set_model_state_dict,
)

import centerloss
from centerloss.torch import CenterLoss, ShardedCenterLoss, convert_state_dict
from centerloss.torch._group_engine import _device_of
from tests.helpers.processes import run as run_process
from tests.torch.batches import (
    assert_same_bits,
    batch,
    copies,
    dtypes,
    failing,
    learned_or_not,
    module,
    moved,
    reductions,
    run,
    same_bits,
)
from tests.torch.test_errors import SETTINGS, WRONG_CALLS, prepared

both_overs = pytest.mark.parametrize("over", ["rank", "all"])
INCOMPLETE = (
    r"^the last change of the centers is incomplete on ranks \[0\] of 1: "
    "load a checkpoint on all ranks$"
)


def sharded(row=6, classes=7, dtype=torch.float32, seed=1, **settings):
    """The centers of `module()`, in one shard."""
    centers = module(row, classes, dtype, seed).centers
    return ShardedCenterLoss(
        classes, row, init=lambda first, last: centers[first:last], **settings
    )


@pytest.fixture
def agree(path, request):
    """Compare tensors: C has the same bits, PyTorch's operations are near."""

    def compare(ours, expected):
        ours, expected = list(ours), list(expected)
        on_cpu = all(tensor.device.type == "cpu" for tensor in ours)
        if path == "C" and on_cpu and "learned" not in request.fixturenames:
            assert_same_bits(ours, expected)
        else:
            torch.testing.assert_close(ours, expected)

    return compare


# --- loss, gradient and centers ------------------------------------------------------


@dtypes
@reductions
@both_overs
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.usefixtures("device")
def test_same_as_center_loss(agree, dtype, centers_dtype, reduction, over, weighted):
    """Three steps; class 2 is ignored and class 6 has no row."""
    settings = {"reduction": reduction, "ignore_index": 2, "loss_weight": 0.3}
    ours = sharded(dtype=centers_dtype, over=over, **settings)
    expected = module(dtype=centers_dtype, **settings)
    start = expected.centers.clone()
    for step in range(3):
        embeddings, labels, weights = batch(dtype=dtype, seed=step)
        given = (embeddings, labels, weights if weighted else None)
        agree(run(ours, *given), run(expected, *given))
        assert ours.num_updated == expected.num_updated
    agree([ours.shard], [expected.centers])
    assert not torch.equal(ours.shard, start)
    assert torch.equal(ours.shard[2], start[2])


@reductions
@both_overs
@pytest.mark.usefixtures("path", "device")
def test_derivative_by_weights(reduction, over):
    settings = {"reduction": reduction, "ignore_index": 2, "dtype": torch.float64}
    results = []
    for loss_fn in (sharded(over=over, **settings), module(**settings)):
        x, y, w = batch(dtype=torch.float64, learned=True)
        loss = loss_fn(x, y, w)
        results.append([loss, *torch.autograd.grad(loss.sum(), [x, w])])
        results[-1].append(loss_fn.centers)
    torch.testing.assert_close(*results)


@reductions
@both_overs
@learned_or_not
def test_numerical_derivatives(reduction, over, learned):
    """First and second ones."""
    x, _, w = batch(5, 3, 4, dtype=torch.float64)
    labels = torch.arange(5) % 4
    w = (w + 0.5).double().detach().requires_grad_(learned)
    loss_fn = sharded(
        *(3, 4, torch.float64),
        reduction=reduction,
        over=over,
        auto_update=False,
        ignore_index=1,
        loss_weight=0.3,
    )
    given = (x, w) if learned else (x,)
    assert gradcheck(lambda x, w=w: loss_fn(x, labels, w), given)
    assert gradgradcheck(lambda x, w=w: loss_fn(x, labels, w), given)


@both_overs
@reductions
@pytest.mark.usefixtures("device")
def test_gradient_penalty(agree, reduction, over):
    """A derivative of the gradient; the centers are those before the step."""
    results = []
    for loss_fn in (sharded(reduction=reduction, over=over), module()):
        loss_fn.reduction = reduction
        x, y, w = batch()
        loss = loss_fn(x, y, w).sum()
        (gradient,) = torch.autograd.grad(loss, x, create_graph=True)
        (loss + gradient.pow(2).sum()).backward()
        results.append([x.grad, loss_fn.centers])
    torch.testing.assert_close(results[0][0], results[1][0])
    agree([results[0][1]], [results[1][1]])


@both_overs
@reductions
@learned_or_not
@pytest.mark.usefixtures("device", "path")
def test_labels_of_more_axes(reduction, over, learned):
    embeddings, labels, weights = batch(learned=learned)
    x = embeddings.detach().reshape(4, 6, 2, 3).requires_grad_()
    settings = {"reduction": reduction, "ignore_index": 2, "over": over}
    given = (x, labels.reshape(4, 6), weights.reshape(4, 6))
    ours, flat = sharded(**settings), sharded(**settings)
    loss, gradient, centers = run(ours, *given)
    expected = run(flat, embeddings, labels, weights)
    assert loss.shape == ((4, 6) if reduction == "none" else ())
    assert gradient.shape == x.shape
    reshaped = (loss.reshape(expected[0].shape), gradient.reshape(24, 6), centers)
    assert_same_bits(reshaped, expected)
    assert ours.update(*given) == flat.update(embeddings, labels, weights) == 5
    assert ours.init_centers(*given[:2]) == flat.init_centers(embeddings, labels) == 5
    assert same_bits(ours.shard, flat.shard)


@both_overs
@reductions
@pytest.mark.parametrize("skip_nonfinite", [True, False])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1.5e19])
@pytest.mark.usefixtures("device")
def test_rows_that_are_not_finite(agree, reduction, over, skip_nonfinite, value):
    """The sum of two squares of 1.5e19 is too large for float32."""
    settings = {"reduction": reduction, "skip_nonfinite": skip_nonfinite}
    results = []
    for loss_fn in (sharded(over=over, **settings), module(**settings)):
        x, y, w = batch()
        x = x.detach()
        x[[4, 9, 11], 3] = value
        x.requires_grad_()
        results.append(run(loss_fn, x, y, torch.ones_like(w)))
    for ours, expected in zip(*results, strict=True):
        agree([ours.nan_to_num()], [expected.nan_to_num()])
        assert torch.equal(ours.isnan(), expected.isnan())
    assert results[0][2].isfinite().all() == (skip_nonfinite or value == 1.5e19)


@both_overs
@reductions
@learned_or_not
@pytest.mark.usefixtures("path", "device")
def test_rows_without_weight(reduction, over, learned):
    """The mean is zero, even with NaN in a row."""
    x, y, w = batch()
    x = x.detach()
    x[3] = torch.nan
    zeros = torch.zeros_like(w).requires_grad_(learned)
    settings = {"reduction": reduction, "skip_nonfinite": False}
    ours = run(sharded(over=over, **settings), x.requires_grad_(), y, zeros)
    expected = run(module(**settings), x, y, zeros)
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, equal_nan=True)
    if reduction == "mean":
        assert ours[0] == 0


@both_overs
@pytest.mark.usefixtures("path", "device")
def test_a_batch_without_rows(over):
    loss_fn = sharded(over=over)
    x = torch.empty(0, 6, requires_grad=True)
    loss = loss_fn(x, torch.empty(0, dtype=torch.int64))
    loss.backward()
    assert loss == 0
    assert x.grad.shape == (0, 6)
    assert loss_fn.num_updated == 0
    assert torch.equal(loss_fn.shard, module().centers)


@both_overs
@pytest.mark.usefixtures("path")
def test_no_classes(over):
    loss_fn = ShardedCenterLoss(0, 6, over=over)
    x = torch.empty(0, 6, requires_grad=True)
    assert loss_fn(x, torch.empty(0, dtype=torch.int64)) == 0
    assert loss_fn.class_range == range(0)
    with pytest.raises(IndexError, match=r"^labels\[0\] is 0, but there are 0 classes"):
        loss_fn(torch.ones(1, 6), torch.tensor([0]))


@both_overs
def test_compiled(over):
    """It is a break between two graphs."""
    loss_fn, eager = sharded(over=over), sharded(over=over)

    def loss(module, x, y):
        return 2 * module(3 * x, y)

    torch._dynamo.reset()
    compiled = torch.compile(lambda x, y: loss(loss_fn, x, y), backend="eager")
    for step in range(2):
        x, y, _ = batch(seed=step)
        ours, expected = compiled(x, y), loss(eager, x, y)
        assert same_bits(ours, expected)
        gradients = [torch.autograd.grad(each, x)[0] for each in (ours, expected)]
        assert same_bits(*gradients)
    assert same_bits(loss_fn.shard, eager.shard)
    torch._dynamo.reset()


# --- when the centers move -----------------------------------------------------------


@both_overs
@pytest.mark.usefixtures("device")
@pytest.mark.parametrize(
    ("why", "moves"),
    [
        ("eval", False),
        ("no_grad", False),
        ("inference_mode", False),
        ("auto_update", False),
        ("enable_grad", True),
        ("frozen embeddings", True),
    ],
)
def test_when_they_move(agree, over, why, moves):
    """Unlike in CenterLoss, with embeddings that need no gradient."""
    embeddings, labels, _ = batch()
    loss_fn = sharded(over=over, auto_update=why != "auto_update").train(why != "eval")
    if why == "frozen embeddings":
        embeddings = embeddings.detach()
    with getattr(torch, why, torch.enable_grad)():
        loss = loss_fn(embeddings, labels)
    agree([loss_fn.shard], [moved() if moves else module().centers])
    agree([loss.detach()], [module().eval()(embeddings, labels).detach()])
    assert loss_fn.num_updated == (6 if moves else 0)
    assert loss.requires_grad == (why in ("eval", "enable_grad", "auto_update"))


@pytest.mark.parametrize("mode", ["no_grad", "inference_mode", "enable_grad"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.usefixtures("device")
def test_update_moves_them_in_any_mode(agree, mode, training):
    embeddings, labels, _ = batch()
    loss_fn = sharded(auto_update=False).train(training)
    with getattr(torch, mode)():
        assert loss_fn.update(embeddings, labels) == loss_fn.num_updated == 6
    agree([loss_fn.shard], [moved()])


def test_embeddings_and_modules_of_inference_mode():
    embeddings, labels, _ = batch()
    with torch.inference_mode():
        rows = embeddings * 1
        loss_fn = sharded()
        loss_fn.update(rows, labels)
    assert same_bits(loss_fn.shard, moved())
    for over in ("rank", "all"):
        assert sharded(over=over).eval()(rows, labels) == module()(embeddings, labels)


def test_num_updated_counts_classes_of_rows_that_count():
    loss_fn = sharded(ignore_index=2)
    x = torch.ones(5, 6)
    loss_fn(x, torch.tensor([0, 0, 2, 4, 2]))
    assert loss_fn.num_updated == 2
    assert loss_fn.update(x[:1], torch.tensor([2])) == loss_fn.num_updated == 0


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
@pytest.mark.usefixtures("path")
def test_settings_may_be_changed_between_calls(name, value):
    embeddings, labels, _ = batch()
    changed, given, untouched = sharded(), sharded(**{name: value}), sharded()
    setattr(changed, name, value)
    ours = run(changed, embeddings, labels)
    assert_same_bits(ours, run(given, embeddings, labels))
    other = run(untouched, embeddings, labels)
    assert not (same_bits(ours[0], other[0]) and same_bits(ours[2], other[2]))


def test_over_may_be_changed_and_is_checked():
    loss_fn = sharded()
    loss_fn.over = "everywhere"
    with pytest.raises(ValueError, match=r"^over is 'everywhere', expected "):
        loss_fn(*batch())
    loss_fn.over = "all"
    assert same_bits(loss_fn(*batch()), module()(*batch()))


# --- the shard -----------------------------------------------------------------------


def test_the_shard_is_no_parameter_and_no_buffer():
    """DDP would broadcast a buffer; an optimizer would move a parameter."""
    loss_fn = sharded()
    assert list(loss_fn.parameters()) == list(loss_fn.buffers()) == []
    assert not loss_fn.shard.requires_grad


@pytest.mark.parametrize(
    "change", ["forward", "update", "init_centers", "load", "load_state_dict"]
)
@pytest.mark.usefixtures("path")
def test_it_is_changed_in_place(change, tmp_path):
    """Other references see the change; autograd notices that its values are old."""
    embeddings, labels, _ = batch()
    loss_fn, other = sharded(), sharded(seed=5)
    other.save(tmp_path / "saved")
    given = {
        "load": (tmp_path / "saved",),
        "load_state_dict": (other.state_dict(),),
    }
    shard, before = loss_fn.shard, loss_fn.shard.clone()
    own = (embeddings[:7] * shard).sum()
    getattr(loss_fn, change)(*given.get(change, (embeddings, labels)))
    assert loss_fn.shard is shard
    assert not torch.equal(shard, before)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        own.backward()


@pytest.mark.parametrize("kind", ["other", "wider", "integers"])
def test_a_shard_of_another_shape_or_dtype_is_refused(kind):
    loss_fn = sharded()
    loss_fn.shard = {
        "other": torch.zeros(3, 6),
        "wider": torch.zeros(7, 8),
        "integers": torch.zeros(7, 6, dtype=torch.int64),
    }[kind]
    message = {
        "other": r"^shard has shape \(3, 6\), expected \(7, 6\)$",
        "wider": r"^shard has shape \(7, 8\), expected \(7, 6\)$",
        "integers": "^centers has dtype int64, expected float32 or float64",
    }[kind]
    with pytest.raises((TypeError, ValueError), match=message):
        loss_fn(*batch())


def test_sizes_and_repr():
    loss_fn = sharded(alpha=0.25, ignore_index=-1)
    assert (loss_fn.num_classes, loss_fn.feat_dim) == (7, 6)
    assert loss_fn.class_range == range(7)
    assert repr(loss_fn) == (
        "ShardedCenterLoss(7, 6, alpha=0.25, loss_weight=1.0, reduction='mean', "
        "normalize=True, ignore_index=-1, skip_nonfinite=True, over='rank', "
        "auto_update=True, dtype=torch.float32, class_range=range(0, 7))"
    )


def test_to_other_dtypes():
    """Never less than float32."""
    model = nn.Sequential(nn.Linear(2, 2), sharded())
    for convert in ("half", "bfloat16", "float"):
        getattr(model, convert)()
        assert model[1].shard.dtype is torch.float32
    assert same_bits(model[1].shard, module().centers)
    assert model.double()[1].shard.dtype is torch.float64
    assert model.to(torch.float16)[1].shard.dtype is torch.float64
    assert model[0].weight.dtype is torch.float16
    embeddings, labels, _ = batch(dtype=torch.float64)
    expected = CenterLoss(7, 6, init=module().centers.double())
    assert same_bits(model[1](embeddings, labels), expected(embeddings, labels))
    assert same_bits(model[1].shard, expected.centers)
    assert model.to("meta")[1].shard.is_meta


@copies
def test_copies(make):
    embeddings, labels, _ = batch()
    loss_fn = sharded(alpha=0.25, reduction="sum", ignore_index=2, over="all")
    loss_fn(embeddings, labels)
    other = make(loss_fn)
    assert repr(other) == repr(loss_fn)
    assert other.num_updated == loss_fn.num_updated > 0
    assert same_bits(other.shard, loss_fn.shard)
    assert other.shard.data_ptr() != loss_fn.shard.data_ptr()
    assert same_bits(other(embeddings, labels), loss_fn(embeddings, labels))
    assert same_bits(other.shard, loss_fn.shard)


# --- groups --------------------------------------------------------------------------


def test_without_distributed(monkeypatch):
    """As in a PyTorch that is built without it."""
    monkeypatch.setattr(dist, "is_available", lambda: False)
    monkeypatch.delattr(dist, "is_initialized")
    assert same_bits(sharded()(*batch()), module()(*batch()))


@pytest.mark.parametrize(
    ("backends", "device"),
    [
        ("cpu:gloo,cuda:nccl", "cpu"),
        ("cuda:nccl", "cuda"),
        ("cuda:gloo,cpu:mpi", "cpu"),
    ],
)
def test_words_are_exchanged_on_a_device_of_the_group(monkeypatch, backends, device):
    monkeypatch.setattr(dist, "get_backend_config", lambda _: backends)
    assert _device_of("") == torch.device(device)


# --- state ---------------------------------------------------------------------------


def test_state_dict_holds_the_centers_and_nothing_else():
    loss_fn = sharded()
    loss_fn(*batch())
    assert list(loss_fn.state_dict()) == ["centers"]
    assert loss_fn.state_dict()["centers"].data_ptr() == loss_fn.shard.data_ptr()
    assert loss_fn.centers.data_ptr() == loss_fn.shard.data_ptr()
    assert type(loss_fn.centers) is torch.Tensor


class Model(nn.Module):
    def __init__(self, loss_fn):
        super().__init__()
        self.network = nn.Linear(2, 2)
        self.loss_fn = loss_fn


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("start", [sharded, module])
@pytest.mark.parametrize("other", [sharded, module])
def test_state_of_a_model_through_a_file(tmp_path, mmap, start, other):
    """From each of the classes to each other one."""
    saved, loaded = Model(start()), Model(other(seed=5))
    saved.loss_fn(*batch())
    torch.save(saved.state_dict(), tmp_path / "saved.pt")
    state = torch.load(tmp_path / "saved.pt", weights_only=True, mmap=mmap)
    assert list(state) == ["network.weight", "network.bias", "loss_fn.centers"]
    loaded.load_state_dict(state)
    assert same_bits(loaded.loss_fn.centers, saved.loss_fn.centers)
    loaded.loss_fn(*batch())
    assert not torch.equal(loaded.loss_fn.centers, saved.loss_fn.centers)
    assert torch.equal(state["loss_fn.centers"], saved.loss_fn.centers)


def test_state_functions_of_the_distributed_checkpoint():
    """They look for an attribute with the name of each key."""
    saved, loaded = Model(sharded()), Model(sharded(seed=5))
    set_model_state_dict(loaded, get_model_state_dict(saved))
    assert same_bits(loaded.loss_fn.shard, saved.loss_fn.shard)


def test_state_of_another_implementation():
    theirs = {"model": {"center_loss.centers": module().centers.double()}}
    loss_fn = sharded(seed=5)
    loss_fn.load_state_dict(convert_state_dict(theirs))
    assert same_bits(loss_fn.shard, module().centers)


@pytest.mark.parametrize(
    ("centers", "message"),
    [
        (torch.ones(6, 6), r"loss_fn.centers has shape (6, 6), expected (7, 6)"),
        (torch.ones(6), r"loss_fn.centers has shape (6,), expected (7, 6)"),
        ([[0.0] * 6] * 7, "loss_fn.centers is a list, expected a tensor"),
        (None, 'Missing key(s) in state_dict: "loss_fn.centers".'),
    ],
)
def test_a_wrong_state(centers, message):
    model = Model(sharded())
    state = model.state_dict() | {"loss_fn.centers": centers}
    if centers is None:
        del state["loss_fn.centers"]
    with pytest.raises(RuntimeError) as raised:
        model.load_state_dict(state)
    assert [line.strip() for line in str(raised.value).splitlines()[1:]] == [message]
    assert torch.equal(model.loss_fn.shard, module().centers)


def test_missing_and_unexpected_keys():
    loss_fn = sharded()
    found = loss_fn.load_state_dict({"rate": torch.ones(1)}, strict=False)
    assert (found.missing_keys, found.unexpected_keys) == (["centers"], ["rate"])
    assert torch.equal(loss_fn.shard, module().centers)
    with pytest.raises(RuntimeError, match='Unexpected key.*: "rate"'):
        loss_fn.load_state_dict(loss_fn.state_dict() | {"rate": torch.ones(1)})


# --- folders -------------------------------------------------------------------------

SAVED = {
    "alpha": 0.25,
    "loss_weight": 2.0,
    "reduction": "sum",
    "normalize": False,
    "ignore_index": 2,
    "skip_nonfinite": False,
}


@pytest.mark.usefixtures("path", "device")
def test_save_and_load(tmp_path):
    saved, loaded = sharded(**SAVED), sharded(seed=5)
    saved(*batch())
    saved.save(tmp_path / "folder")
    loaded.load(tmp_path / "folder")
    assert same_bits(loaded.shard, saved.shard)
    assert {name: getattr(loaded, name) for name in SAVED} == SAVED


def test_a_folder_for_numpy(tmp_path):
    """In one process it is what `centerloss.CenterLoss` loads."""
    saved = sharded(**SAVED)
    saved(*batch())
    saved.save(tmp_path / "folder")
    other = centerloss.CenterLoss.load(tmp_path / "folder")
    assert same_bits(torch.from_numpy(other.centers), saved.shard)
    assert {name: getattr(other, name) for name in SAVED} == SAVED


@pytest.mark.parametrize(
    ("loss_fn", "message"),
    [
        (
            lambda: sharded(6, 8),
            r"folder has centers of shape \(7, 6\), expected \(8, 6",
        ),
        (
            lambda: sharded(dtype=torch.float64),
            "folder has centers of dtype float32, expected float64$",
        ),
    ],
)
def test_a_folder_of_other_centers(tmp_path, loss_fn, message):
    sharded(**SAVED).save(tmp_path / "folder")
    loss_fn = loss_fn()
    before = loss_fn.shard.clone()
    with pytest.raises(ValueError, match=message):
        loss_fn.load(tmp_path / "folder")
    assert torch.equal(loss_fn.shard, before)
    assert loss_fn.alpha == 0.5


# --- initial centers -----------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_normal_centers_by_blocks_of_256_classes(dtype):
    """Each block has a generator of its own, seeded by the block's number."""
    loss_fn = ShardedCenterLoss(300, 3, seed=7, dtype=dtype)
    kind = str(dtype)[6:]
    expected = np.concatenate(
        [
            np.random.default_rng([7, 0]).standard_normal((256, 3), kind),
            np.random.default_rng([7, 1]).standard_normal((44, 3), kind),
        ]
    )
    assert same_bits(loss_fn.shard, torch.from_numpy(expected))


@pytest.mark.parametrize("init", ["normal", "zeros"])
def test_default_dtype_is_that_of_pytorch_but_not_narrower(init):
    try:
        for default, expected in (
            (torch.float64, torch.float64),
            (torch.float16, torch.float32),
        ):
            torch.set_default_dtype(default)
            loss_fn = ShardedCenterLoss(3, 2, init=init)
            assert loss_fn.shard.dtype is expected
            assert loss_fn.shard.any() == (init == "normal")
    finally:
        torch.set_default_dtype(torch.float32)


def test_centers_of_a_function(tmp_path):
    """It is called once. Its result is not copied, so it may be mapped from a file."""
    calls = []

    def init(first, last):
        calls.append((first, last))
        return torch.from_file(str(tmp_path / "centers"), True, 42).view(7, 6)

    loss_fn = ShardedCenterLoss(7, 6, init=init)
    loss_fn.update(*batch()[:2])
    assert calls == [(0, 7)]
    expected = CenterLoss(7, 6, init="zeros")
    expected.update(*batch()[:2])
    in_file = np.fromfile(tmp_path / "centers", np.float32).reshape(7, 6)
    assert same_bits(torch.from_numpy(in_file), expected.centers)


def test_centers_of_a_function_that_need_a_gradient():
    rows = torch.ones(7, 6, dtype=torch.float64, requires_grad=True)
    assert not ShardedCenterLoss(7, 6, init=lambda *_: rows).shard.requires_grad
    narrow = ShardedCenterLoss(7, 6, init=lambda *_: rows, dtype=torch.float32)
    assert narrow.shard.dtype is torch.float32


@pytest.mark.parametrize("ignore_index", [None, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.usefixtures("path", "device")
def test_init_centers(dtype, ignore_index):
    """From a tensor, and from batches; class 6 has no row, and stays."""
    embeddings, labels, _ = batch(dtype=dtype)
    batches = list(zip(embeddings.split(7), labels.split(7), strict=True))
    for given in ((embeddings, labels), (batches,), (iter(batches),)):
        ours, expected = (make(ignore_index=ignore_index) for make in (sharded, module))
        given_again = (batches,) if len(given) == 1 else given
        count = expected.init_centers(*given_again)
        assert ours.init_centers(*given) == count == (6 if ignore_index is None else 5)
        torch.testing.assert_close(ours.shard, expected.centers, rtol=0, atol=0)
        assert torch.equal(ours.shard[6], module().centers[6])


def test_init_centers_adds_in_float64():
    """100 001 rows of a class: their sum in float32 would be off."""
    x = torch.full((100_001, 1), 0.1)
    loss_fn = ShardedCenterLoss(1, 1)
    loss_fn.init_centers((x, torch.zeros(len(x), dtype=int)) for x in x.split(10_000))
    assert same_bits(loss_fn.shard, torch.tensor([[0.1]]))


@pytest.mark.parametrize(
    "batches", [[], [(torch.empty(0, 6), torch.empty(0, dtype=int))]]
)
def test_init_centers_without_rows(batches):
    loss_fn = sharded()
    assert loss_fn.init_centers(batches) == 0
    assert torch.equal(loss_fn.shard, module().centers)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (lambda x, y: (failing(x, y),), OSError, "^the file is gone$"),
        (lambda x, y: ([(x, y), (x, y + 7)],), IndexError, r"^labels\[0\] is "),
        (lambda x, y: ([(x, y), (x, y[1:])],), ValueError, "^labels has shape "),
        (lambda x, y: ([(x, y), (x[:, 1:], y)],), ValueError, "^embeddings has 5 val"),
        (lambda x, y: ([(x, y), (x.long(), y)],), TypeError, "^embeddings has dtype "),
        (lambda x, y: ([(x, y), (x, y.tolist())],), TypeError, "^labels is a list"),
        (lambda x, y: ([(x, y), x],), TypeError, r"^batches\[1\] is a Tensor, exp"),
        (lambda x, y: ([(x, y, y)],), ValueError, r"^batches\[0\] has 3 items, exp"),
        (lambda x, _: (x,), TypeError, "^labels is None, expected one label per row$"),
        (lambda x, y: ([(x, y)], y), TypeError, "^batches is a list, expected a ten"),
        (lambda *_: (3,), TypeError, "^batches is a int, expected an iterable of"),
    ],
)
@pytest.mark.usefixtures("path")
def test_an_error_of_init_centers_leaves_the_centers(given, error, message):
    embeddings, labels, _ = batch()
    loss_fn = sharded()
    with pytest.raises(error, match=message):
        loss_fn.init_centers(*given(embeddings, labels))
    assert torch.equal(loss_fn.shard, module().centers)
    loss_fn(embeddings, labels)


def test_defaults_are_those_of_center_loss():
    ours, theirs = (
        {name: each.default for name, each in inspect.signature(cls).parameters.items()}
        for cls in (ShardedCenterLoss, CenterLoss)
    )
    added = {"seed": 0, "over": "rank"}
    assert ours == theirs | added


@pytest.mark.slow
def test_import_takes_nothing_of_pytorch_but_what_torch_compile_takes():
    """DTensor, say, takes long to import."""
    script = (
        "import sys, torch._dynamo\n"
        "before = set(sys.modules)\n"
        "import centerloss.torch\n"
        "print(*{n for n in set(sys.modules) - before if n.startswith('torch')})"
    )
    assert run_process(sys.executable, "-c", script).split() == []


# --- errors --------------------------------------------------------------------------

SIZES = {"num_classes": 3, "feat_dim": 2}
WRONG_ARGUMENTS = [
    ({"num_classes": -1}, "ValueError: num_classes is -1, expected an integer >= 0"),
    ({"num_classes": 1.5}, "TypeError: num_classes is 1.5, expected an integer"),
    ({"feat_dim": -2}, "ValueError: feat_dim is -2, expected an integer >= 0"),
    ({"feat_dim": "2"}, "TypeError: feat_dim is '2', expected an integer"),
    (
        {"num_classes": 2**31 + 1},
        "ValueError: num_classes is 2147483649, expected at most 2**31 per rank",
    ),
    ({"seed": -1}, "ValueError: seed is -1, expected an integer >= 0"),
    ({"seed": None}, "TypeError: seed is None, expected an integer"),
    ({"alpha": -1.0}, "ValueError: alpha is -1.0, expected a finite number >= 0"),
    ({"alpha": "0.5"}, "TypeError: alpha is '0.5', expected a number"),
    (
        {"loss_weight": torch.inf},
        "ValueError: loss_weight is inf, expected a finite number >= 0",
    ),
    (
        {"reduction": "max"},
        "ValueError: reduction is 'max', expected 'none', 'sum' or 'mean'",
    ),
    ({"normalize": 1}, "TypeError: normalize is 1, expected True or False"),
    ({"skip_nonfinite": 0}, "TypeError: skip_nonfinite is 0, expected True or False"),
    (
        {"ignore_index": 0.5},
        "TypeError: ignore_index is 0.5, expected an integer or None",
    ),
    ({"auto_update": "no"}, "TypeError: auto_update is 'no', expected True or False"),
    ({"over": "ranks"}, "ValueError: over is 'ranks', expected 'rank' or 'all'"),
    ({"over": None}, "TypeError: over is None, expected 'rank' or 'all'"),
    (
        {"process_group": "all"},
        "TypeError: process_group is 'all', expected None, 'world' or a group as from "
        "torch.distributed.new_group()",
    ),
    (
        {"init": "ones"},
        "ValueError: init is 'ones', expected 'normal', 'zeros' or a function of the "
        "first class and the one after the last",
    ),
    (
        {"init": None},
        "TypeError: init is a NoneType, expected 'normal', 'zeros' or a function of "
        "the first class and the one after the last",
    ),
    (
        {"init": lambda *_: [[0.0] * 2] * 3},
        "TypeError: init(0, 3) is a list, expected a tensor",
    ),
    (
        {"init": lambda *_: torch.ones(2, 2)},
        "ValueError: init(0, 3) has shape (2, 2), expected (3, 2)",
    ),
    (
        {"init": lambda *_: torch.ones(2, 3).T},
        "ValueError: init(0, 3) is not contiguous: return rows.contiguous()",
    ),
    (
        {"init": lambda *_: torch.ones(3, 2).half()},
        "TypeError: init(0, 3) has dtype float16, expected float32 or float64: make it "
        "with init(0, 3).to(torch.float32)",
    ),
    (
        {"dtype": torch.bfloat16},
        "TypeError: dtype is torch.bfloat16, expected torch.float32 or torch.float64",
    ),
    (
        {"dtype": torch.int64, "init": "zeros"},
        "TypeError: dtype is torch.int64, expected torch.float32 or torch.float64",
    ),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG_ARGUMENTS)
def test_wrong_arguments(wrong, message):
    with pytest.raises((TypeError, ValueError)) as raised:
        ShardedCenterLoss(**{**SIZES, **wrong})
    assert f"{type(raised.value).__name__}: {raised.value}" == message


@pytest.mark.parametrize(("name", "fault"), WRONG_CALLS, ids=str)
def test_wrong_calls(name, fault):
    """The errors of `CenterLoss`."""
    plain, tensors = prepared(name, fault)
    loss_fn = ShardedCenterLoss(5, 6, init=lambda *_: plain.centers.clone())
    loss_fn.train(name == "step")
    for setting in SETTINGS:
        setattr(loss_fn, setting, getattr(plain, setting))
    with pytest.raises(fault.error) as raised:
        (loss_fn.update if name == "update_centers" else loss_fn)(*tensors)
    assert type(raised.value) is fault.error
    assert str(raised.value) == fault.message
    assert torch.equal(loss_fn.shard, plain.centers)
    assert loss_fn.num_updated == 0


def test_a_batch_on_another_device():
    embeddings, labels, _ = batch()
    with pytest.raises(ValueError, match="^labels is on meta, but centers are on cpu"):
        sharded()(embeddings, labels.to("meta"))


def fail(*_):
    raise MemoryError


@both_overs
@pytest.mark.parametrize("how", ["forward", "update"])
@pytest.mark.parametrize("repair", ["load", "load_state_dict"])
def test_centers_that_moved_in_part(monkeypatch, tmp_path, over, how, repair):
    """Nothing but loading is possible after an error while they move."""
    embeddings, labels, _ = batch()
    loss_fn = sharded(over=over)
    state = {"centers": loss_fn.shard.clone()}
    loss_fn.save(tmp_path / "folder")
    with monkeypatch.context() as patch:
        patch.setattr("centerloss.torch._cpu.update_centers_at", fail)
        with pytest.raises(MemoryError):
            getattr(loss_fn, how)(embeddings, labels)
    loss_fn.shard.zero_()
    for _ in range(2):
        with pytest.raises(RuntimeError, match=INCOMPLETE):
            loss_fn(embeddings, labels)
    getattr(loss_fn, repair)(tmp_path / "folder" if repair == "load" else state)
    loss_fn(embeddings, labels)
    assert same_bits(loss_fn.shard, moved())


@both_overs
def test_an_error_of_the_loss_is_raised_after_the_exchanges(monkeypatch, over):
    """The centers have moved, as on the other ranks."""
    loss_fn, expected = sharded(over=over), moved()
    name = "loss" if over == "rank" else "can_use_c"
    monkeypatch.setattr(f"centerloss.torch._dispatch.{name}", fail)
    with pytest.raises(MemoryError):
        loss_fn(*batch()[:2])
    assert same_bits(loss_fn.shard, expected)

"""Inside other programs: process groups, copies, half precision, replicas."""

import copy
import io
import pickle

import pytest
import torch
import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.optim.swa_utils import AveragedModel

from centerloss.torch import CenterLoss
from tests.torch.batches import batch, module, reductions, same_bits

# --- process groups ------------------------------------------------------------------


# Freeing a group joins its thread, which may be waiting for the GIL: PyTorch hangs then
# (pytorch#56297). So groups are kept until the process ends.
GROUPS = []


@pytest.fixture
def world():
    """A default process group of one rank."""
    if not (dist.is_available() and dist.is_gloo_available()):
        pytest.skip("this PyTorch has no gloo")
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    GROUPS.append(dist.group.WORLD)
    yield dist.group.WORLD
    dist.destroy_process_group()


@pytest.fixture
def gathered(monkeypatch):
    """The groups whose rows a module has gathered."""
    groups = []

    def gather(*given):
        groups.append(given[-1])
        return given[0]

    monkeypatch.setattr("centerloss.torch.module.gather_rows", gather)
    return groups


def test_world_is_looked_up_at_the_call(gathered, request):
    embeddings, labels, _ = batch()
    loss_fn = module(process_group="world")
    loss_fn(embeddings, labels)
    assert gathered == []
    group = request.getfixturevalue("world")
    loss_fn(embeddings, labels)
    loss_fn.update(embeddings, labels)
    assert gathered == [group, group]
    assert loss_fn.process_group == "world"


def test_a_group_may_be_assigned(gathered, world):
    embeddings, labels, _ = batch()
    loss_fn = module()
    assert loss_fn.process_group is None
    loss_fn.process_group = world
    assert loss_fn.process_group is world
    loss_fn(embeddings, labels)
    loss_fn.process_group = None
    loss_fn(embeddings, labels)
    assert gathered == [world]


def test_copies_share_the_group(world):
    model = torch.nn.ModuleDict({"loss": module(process_group=world)})
    for other in (copy.deepcopy(model), AveragedModel(model).module, copy.copy(model)):
        assert other["loss"].process_group is world
        assert same_bits(other["loss"].centers, model["loss"].centers)
    other = copy.deepcopy(model["loss"])
    other.process_group = "world"
    assert model["loss"].process_group is world


@pytest.mark.parametrize("how", ["pickle", "torch.save"])
def test_pickles_leave_the_group_out(world, how):
    def through(loss_fn):
        if how == "pickle":
            return pickle.loads(pickle.dumps(loss_fn))
        file = io.BytesIO()
        torch.save(loss_fn, file)
        file.seek(0)
        return torch.load(file, weights_only=False)

    loss_fn = module(process_group=world)
    assert through(loss_fn).process_group is None
    assert loss_fn.process_group is world
    assert through(module(process_group="world")).process_group == "world"
    embeddings, labels, _ = batch()
    other = through(loss_fn)
    assert same_bits(other(embeddings, labels), loss_fn(embeddings, labels))


# --- half precision ------------------------------------------------------------------

HALF = {
    "half": lambda m: m.half(),
    "bfloat16": lambda m: m.bfloat16(),
    "to(float16)": lambda m: m.to(torch.float16),
    "to(device, bfloat16)": lambda m: m.to("cpu", torch.bfloat16),
    "type": lambda m: m.type(torch.float16),
}


class Network(torch.nn.Module):
    """A layer, its loss, and a buffer of the same dtype."""

    def __init__(self, **settings):
        super().__init__()
        self.layer = torch.nn.Linear(8, 6)
        self.loss = module(**settings)
        self.register_buffer("other", torch.ones(2, dtype=self.loss.centers.dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("convert", HALF.values(), ids=HALF)
def test_centers_keep_their_dtype_in_half_precision(convert, dtype):
    model = convert(Network(dtype=dtype))
    assert model.layer.weight.dtype.itemsize == model.other.dtype.itemsize == 2
    assert same_bits(model.loss.centers, module(dtype=dtype).centers)
    assert convert(model.loss) is model.loss
    if dtype is torch.float32:
        x, labels = torch.randn(24, 8).to(model.layer.weight.dtype), torch.arange(24)
        model.loss(model.layer(x), labels % 7).backward()
        assert model.layer.weight.grad.any()
        assert model.loss.num_updated == 7


def test_other_conversions():
    model = Network()
    assert model.double().loss.centers.dtype is torch.float64
    assert model.float().loss.centers.dtype is torch.float32
    assert same_bits(model.loss.centers, module().centers)
    half_on_meta = model.to("meta", torch.float16)
    assert half_on_meta.loss.centers.is_meta
    assert half_on_meta.loss.centers.dtype is torch.float32
    empty = half_on_meta.to_empty(device="cpu").loss.centers
    assert (empty.device.type, empty.dtype) == ("cpu", torch.float32)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_default_dtype_in_half_precision(dtype):
    torch.set_default_dtype(dtype)
    try:
        loss_fn = CenterLoss(7, 6)
        wide = CenterLoss(7, 6, dtype=torch.float64)
    finally:
        torch.set_default_dtype(torch.float32)
    assert loss_fn.centers.dtype is torch.float32
    assert wide.centers.dtype is torch.float64


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("scale", [1.0, 1e20])
def test_another_default_device(scale):
    """Tensors on the CPU stay there."""
    embeddings, labels, _ = batch()
    x = (scale * embeddings.detach()).requires_grad_()
    loss_fn, expected = module(), module()
    with torch.device("meta"):
        loss = loss_fn(x, labels)
        loss.backward()
    assert loss_fn.num_updated == 6
    assert same_bits(loss, expected(x, labels))
    assert same_bits(loss_fn.centers, expected.centers)


# --- other centers -------------------------------------------------------------------


def test_sizes_are_those_of_the_centers():
    loss_fn = module()
    assert (loss_fn.num_classes, loss_fn.feat_dim) == (7, 6)
    loss_fn.centers = torch.zeros(9, 4)
    assert (loss_fn.num_classes, loss_fn.feat_dim) == (9, 4)
    assert repr(loss_fn).startswith("CenterLoss(9, 4, ")
    for name in ("num_classes", "feat_dim"):
        with pytest.raises(AttributeError):
            setattr(loss_fn, name, 5)


@pytest.mark.usefixtures("path")
def test_more_classes_later():
    """Classes 7 and 8 are new."""
    loss_fn = module()
    loss_fn.centers = torch.cat([loss_fn.centers, torch.zeros(2, 6)])
    embeddings, labels = torch.ones(3, 6, requires_grad=True), torch.tensor([8, 1, 8])
    loss_fn(embeddings, labels)
    assert loss_fn.num_updated == 2
    assert torch.equal(loss_fn.centers[7], torch.zeros(6))
    torch.testing.assert_close(loss_fn.centers[8], torch.full((6,), 1 / 3))
    assert loss_fn.init_centers(2 * embeddings, labels) == 2
    assert torch.equal(loss_fn.centers[8], torch.full((6,), 2.0))
    with pytest.raises(IndexError, match="9, but there are 9 classes"):
        loss_fn(embeddings, labels + 1)


# --- replicas ------------------------------------------------------------------------


def replica_of(loss_fn):
    """As nn.DataParallel makes it in a forward pass, for each of its devices."""
    replica = loss_fn._replicate_for_data_parallel()
    replica.centers = loss_fn.centers.clone()
    return replica


@pytest.mark.usefixtures("path")
def test_a_replica_refuses_to_update_centers_that_are_dropped():
    embeddings, labels, _ = batch()
    loss_fn = module()
    message = (
        "^a replica made by nn.DataParallel cannot update the centers of the module: "
        "leave the loss outside of DataParallel and call it on the gathered embeddings$"
    )
    with pytest.raises(RuntimeError, match=message):
        replica_of(loss_fn)(embeddings, labels)
    assert torch.equal(loss_fn.centers, module().centers)
    assert loss_fn.num_updated == 0


def test_a_replica_computes_the_loss():
    embeddings, labels, _ = batch()
    expected = module().eval()(embeddings, labels)
    for still in (module().eval(), module(auto_update=False)):
        assert same_bits(replica_of(still)(embeddings, labels), expected)
    with torch.no_grad():
        assert torch.equal(replica_of(module())(embeddings, labels), expected)


# --- tensors without values ----------------------------------------------------------


@reductions
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_fake_tensors(reduction, dtype):
    """Shapes and dtypes, as tools ask for before they allocate memory."""
    with FakeTensorMode():
        loss_fn = CenterLoss(7, 6, reduction=reduction, ignore_index=3)
        x = torch.empty(24, 6, dtype=dtype, requires_grad=True)
        labels, weights = torch.empty(24, dtype=torch.int64), torch.ones(24)
        loss = loss_fn(x, labels, weights)
        loss.sum().backward()
        assert loss.shape == ((24,) if reduction == "none" else ())
        assert loss.dtype is torch.float32
        assert (x.grad.shape, x.grad.dtype) == (x.shape, dtype)
        assert loss_fn.num_updated == loss_fn.update(x, labels) == 0
        loss_fn.eval()(x, labels)
        repr(loss_fn)


def test_fake_tensors_of_another_device():
    with FakeTensorMode(allow_non_fake_inputs=True):
        loss_fn = CenterLoss(7, 6, device="meta")
        x = torch.empty(24, 6, device="meta", requires_grad=True)
        loss_fn(x, torch.empty(24, dtype=torch.int64, device="meta")).backward()
        assert x.grad.shape == x.shape
        assert loss_fn.num_updated == 0

"""Inside other programs: process groups, copies, half precision, replicas, no memory."""

import copy
import io
import pickle

import pytest
import torch
import torch.distributed as dist
from torch.optim.swa_utils import AveragedModel

from tests.torch.batches import batch, module, same_bits

# --- process groups ------------------------------------------------------------------


@pytest.fixture
def world():
    """A default process group of one rank."""
    if not (dist.is_available() and dist.is_gloo_available()):
        pytest.skip("this PyTorch has no gloo")
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield dist.group.WORLD
    dist.destroy_process_group()


@pytest.fixture
def gathered(monkeypatch):
    """The groups whose rows a module has gathered."""
    groups = []

    def gather(*given):
        groups.append(given[-1])
        return given[:3]

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

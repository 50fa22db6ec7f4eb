"""Centers are found in the checkpoints of other implementations."""

from types import MappingProxyType

import pytest
import torch
from torch import nn

from centerloss.torch import CenterLoss, convert_state_dict
from tests.torch.batches import module, same_bits

CENTERS = torch.randn(7, 6)


class Network(nn.Module):
    """A network whose loss is a module of its own, as most keep it."""

    def __init__(self, center_loss):
        super().__init__()
        self.fc = nn.Linear(6, 7)
        self.center_loss = center_loss


class Parameter(nn.Module):
    """The centers are a parameter."""

    def __init__(self, name):
        super().__init__()
        self.register_parameter(name, nn.Parameter(CENTERS.clone()))


class Embedding(nn.Module):
    """The centers are the weight of an embedding."""

    def __init__(self, name):
        super().__init__()
        self.add_module(name, nn.Embedding.from_pretrained(CENTERS.clone()))


IMPLEMENTATIONS = [
    *(Parameter(name) for name in ("centers", "center", "centroids", "table")),
    *(Embedding(name) for name in ("centers", "center", "embedding")),
]


def assert_converted(state):
    """The centers are found, and a module takes them."""
    converted = convert_state_dict(state)
    assert list(converted) == ["centers"]
    assert not converted["centers"].requires_grad
    loss_fn = module()
    loss_fn.load_state_dict(converted)
    assert same_bits(loss_fn.centers, CENTERS)


@pytest.mark.parametrize("loss", IMPLEMENTATIONS, ids=str)
def test_names(loss):
    assert_converted(Network(loss).state_dict())


@pytest.mark.parametrize(
    "name",
    [
        *("centers", "loss.centers", "module.center_loss.centers"),
        *("centers.weight", "module._orig_mod.criterion.center.weight"),
        *("centerLoss.table", "CentreLoss.weight"),
    ],
)
def test_prefixes(name):
    state = {"fc.weight": torch.ones(7, 6), name: nn.Parameter(CENTERS)}
    assert_converted(state)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3, "rank1": 0.9},
        lambda state: {"model": state, "scheduler": {"last_epoch": 3}},
        lambda state: {"args": {"lr": 0.1}, "nets": {"a": {"b": state}}},
        lambda state: MappingProxyType({"state": MappingProxyType(state)}),
    ],
)
def test_nested_checkpoints(wrap):
    assert_converted(wrap(Network(Parameter("centers")).state_dict()))


def test_a_checkpoint_of_the_loss_beside_that_of_the_network():
    fc, loss = nn.Linear(6, 7), Embedding("embedding")
    state = {"model": fc.state_dict(), "center_loss_state_dict": loss.state_dict()}
    assert_converted(state)


@pytest.mark.parametrize(
    ("kind", "name"), [(Parameter, "centers"), (Embedding, "embedding")]
)
@pytest.mark.parametrize("named", [False, True])
def test_the_state_of_an_optimizer_is_no_center(kind, name, named):
    """Its tensors have the centers' shape, and in some formats their names."""
    network = Network(kind(name)).requires_grad_()
    optimizer = torch.optim.Adam(network.parameters())
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer.step()
    state = optimizer.state_dict()
    if named:
        names = [name for name, _ in network.named_parameters()]
        state["state"] = dict(zip(names, state["state"].values(), strict=True))
    assert_converted({"center_optimizer": state, "model": before})
    with pytest.raises(ValueError, match="state has no centers; it has no tensors"):
        convert_state_dict(state)


def test_a_name_of_its_own_comes_before_the_name_of_the_loss():
    network = {"backbone.weight": torch.ones(3, 3), "centers": CENTERS}
    assert_converted({"center_loss_model": network})


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16", "int64"])
def test_dtypes(dtype):
    """All but float64 become float32."""
    centers = torch.ones(7, 6, dtype=getattr(torch, dtype))
    converted = convert_state_dict({"centers": centers})["centers"]
    expected = torch.float64 if dtype == "float64" else torch.float32
    assert same_bits(converted, torch.ones(7, 6, dtype=expected))


TABLES = {f"blocks.{i}.weight": torch.ones(2, 3) for i in range(10)}


@pytest.mark.parametrize(
    ("state", "has"),
    [
        ({}, "no tensors."),
        ({"centers": [[1.0]]}, "no tensors."),
        ({"fc.weight": torch.ones(7, 6)}, "state['fc.weight'] of shape (7, 6)."),
        ({"mycenters": torch.ones(7, 6)}, "state['mycenters'] of shape (7, 6)."),
        (
            {"model": {"centers": torch.ones(7)}, "fc": torch.ones(7, 6)},
            "state['model']['centers'] of shape (7,).",
        ),
        ({3: {"weight": torch.ones(2)}}, "state[3]['weight'] of shape (2,)."),
        (TABLES, "state['blocks.7.weight'] of shape (2, 3), 2 more."),
    ],
)
def test_checkpoints_without_centers(state, has):
    """The message lists what there is, and shows how to pass it."""
    with pytest.raises(ValueError, match="^state has no centers; it has ") as caught:
        convert_state_dict(state)
    message = str(caught.value)
    assert f"{has} Expected one tensor of shape (classes, features) named" in message
    assert message.endswith("pass {'centers': tensor}")


def test_checkpoints_with_too_many():
    copies = {"model": {"centers": CENTERS}, "ema": {"module.center.weight": CENTERS}}
    with pytest.raises(ValueError, match="^state has 2 tensors") as caught:
        convert_state_dict(copies)
    assert str(caught.value) == (
        "state has 2 tensors that may be the centers: state['model']['centers'] of "
        "shape (7, 6), state['ema']['module.center.weight'] of shape (7, 6). Pass "
        "{'centers': tensor} with one of them"
    )
    assert_converted({"centers": copies["ema"]["module.center.weight"]})


@pytest.mark.parametrize("value", [CenterLoss(7, 6), CENTERS], ids=type)
def test_what_is_no_checkpoint(value):
    kind = type(value).__name__
    with pytest.raises(TypeError, match=f"^state is a {kind}, expected a dict as from"):
        convert_state_dict(value)

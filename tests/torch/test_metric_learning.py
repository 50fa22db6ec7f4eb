"""The class for pytorch-metric-learning, used with other parts of that library."""

import pytest
import torch

pytest.importorskip("pytorch_metric_learning", reason="it is not installed")

from pytorch_metric_learning import (
    losses,
    miners,
    reducers,
    regularizers,
    trainers,
)

from centerloss.torch import CenterLoss as Module
from centerloss.torch import convert_state_dict
from centerloss.torch.metric_learning import CenterLoss


@pytest.fixture
def batch():
    torch.manual_seed(0)
    return torch.randn(12, 4, requires_grad=True), torch.arange(12) % 3


def row_losses(embeddings, labels, centers):
    """1/2 ||x_i - c_{y_i}||^2, in float64."""
    d = embeddings.detach().double() - centers.double()[labels]
    return 0.5 * (d * d).sum(1)


def assert_close(ours, expected):
    """Compare with a value in float64."""
    torch.testing.assert_close(ours.detach().double(), expected)


def moved(embeddings, labels, centers, alpha):
    """The centers after Eq. 4 of the paper, class by class in float64."""
    new = centers.double().clone()
    for j in labels.unique():
        x = embeddings.detach().double()[labels == j]
        new[j] -= alpha * (new[j] - x).sum(0) / (1 + len(x))
    return new


@pytest.mark.parametrize("update", ["never", "before the backward pass", "after it"])
def test_loss_gradient_and_centers(batch, update):
    """Only `update_centers` updates the centers; the gradient is that before it."""
    embeddings, labels = batch
    loss_fn = CenterLoss(3, 4, alpha=0.25)
    before = expected = loss_fn.centers.clone()
    loss = loss_fn(embeddings, labels)
    if update == "after it":
        loss.backward()
    if update != "never":
        assert loss_fn.update_centers(embeddings, labels) == 3
        expected = moved(embeddings, labels, before, 0.25).float()
    if update != "after it":
        loss.backward()
    assert_close(loss, row_losses(embeddings, labels, before).mean())
    gradient = (embeddings.detach() - before[labels]) / len(labels)
    torch.testing.assert_close(embeddings.grad, gradient)
    torch.testing.assert_close(loss_fn.centers, expected, rtol=1e-6, atol=1e-6)


def test_reducers(batch):
    embeddings, labels = batch
    rows = row_losses(embeddings, labels, CenterLoss(3, 4).centers.zero_())
    middle = rows.median()
    for reducer, expected in [
        (reducers.MeanReducer(), rows.mean()),
        (reducers.SumReducer(), rows.sum()),
        (reducers.ThresholdReducer(low=middle.item()), rows[rows > middle].mean()),
    ]:
        loss_fn = CenterLoss(3, 4, reducer=reducer)
        loss_fn.centers.zero_()
        assert_close(loss_fn(embeddings, labels), expected)


def test_unreduced(batch):
    embeddings, labels = batch
    loss_fn = CenterLoss(3, 4, reducer=reducers.DoNothingReducer())
    rows = loss_fn(embeddings, labels)["loss"]["losses"]
    assert_close(rows, row_losses(embeddings, labels, loss_fn.centers))


def test_embedding_regularizer(batch):
    embeddings, labels = batch
    plain = CenterLoss(3, 4)
    regular = CenterLoss(
        3, 4, embedding_regularizer=regularizers.LpRegularizer(), embedding_reg_weight=2
    )
    regular.load_state_dict(plain.state_dict())
    norms = torch.linalg.vector_norm(embeddings, dim=1).mean()
    expected = plain(embeddings, labels) + 2 * norms
    torch.testing.assert_close(regular(embeddings, labels), expected)


def test_miner_weights(batch):
    embeddings, labels = batch
    loss_fn = CenterLoss(3, 4, reducer=reducers.SumReducer())
    pairs = miners.BatchHardMiner()(embeddings, labels)
    counts = torch.bincount(torch.cat(pairs), minlength=12)
    rows = row_losses(embeddings, labels, loss_fn.centers)
    expected = (rows * counts / counts.max()).sum()
    assert_close(loss_fn(embeddings, labels, pairs), expected)


def test_in_multiple_losses(batch):
    embeddings, labels = batch
    center, triplet = CenterLoss(3, 4), losses.TripletMarginLoss()
    both = losses.MultipleLosses([center, triplet], weights=[0.5, 2.0])
    expected = 0.5 * center(embeddings, labels) + 2.0 * triplet(embeddings, labels)
    torch.testing.assert_close(both(embeddings, labels), expected)
    assert "losses.0.center_loss.centers" in both.state_dict()


def test_reference_embeddings_are_refused(batch):
    embeddings, labels = batch
    with pytest.raises(ValueError, match="ref_emb"):
        CenterLoss(3, 4)(embeddings, labels, ref_emb=embeddings + 1, ref_labels=labels)


def test_checkpoint_goes_into_the_module_and_back(batch):
    embeddings, labels = batch
    loss_fn = CenterLoss(3, 4)
    loss_fn.update_centers(embeddings, labels)
    module = Module(3, 4)
    module.load_state_dict(convert_state_dict(loss_fn.state_dict()))
    assert torch.equal(module.centers, loss_fn.centers)


def test_names_of_the_settings():
    loss_fn = CenterLoss(3, 4, 0.25)
    assert (loss_fn.num_classes, loss_fn.embedding_size, loss_fn.alpha) == (3, 4, 0.25)
    with pytest.raises(ValueError, match="alpha is -1"):
        CenterLoss(3, 4, -1)


# The trainer converts a loss that requires a gradient to a number.
@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad=True")
def test_with_a_trainer():
    """A hook of the trainer updates the centers; the embeddings approach them."""
    torch.manual_seed(0)
    x, y = torch.randn(64, 6), torch.arange(64) % 4
    trunk, embedder = torch.nn.Linear(6, 4), torch.nn.Identity()
    loss_fn = CenterLoss(4, 4)
    before = loss_fn(trunk(x), y).item()
    start = loss_fn.centers.clone()

    def move(trainer):
        rows, classes = next(iter(trainer.dataloader))
        loss_fn.update_centers(trunk(rows), classes)

    trainers.MetricLossOnly(
        models={"trunk": trunk, "embedder": embedder},
        optimizers={"trunk_optimizer": torch.optim.SGD(trunk.parameters(), lr=0.05)},
        batch_size=16,
        loss_funcs={"metric_loss": loss_fn},
        dataset=torch.utils.data.TensorDataset(x, y),
        dataloader_num_workers=0,
        end_of_iteration_hook=move,
    ).train(num_epochs=5)
    assert not torch.equal(loss_fn.centers, start)
    assert loss_fn(trunk(x), y).item() < before / 2

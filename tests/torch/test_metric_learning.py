"""The class for pytorch-metric-learning, used with other parts of that library."""

import copy
import gc
import inspect
import pickle
import weakref

import pytest
import torch

pytest.importorskip("pytorch_metric_learning", reason="it is not installed")

from pytorch_metric_learning import (
    distances,
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
    """Without automatic updates: the gradient is that before the update."""
    embeddings, labels = batch
    loss_fn = CenterLoss(3, 4, alpha=0.25, auto_update=False)
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


# --- when the centers are updated ----------------------------------------------------


def same(embeddings, labels):
    return embeddings, labels


def detached(embeddings, labels):
    return embeddings.detach(), labels.clone()


def recomputed(embeddings, labels):
    return embeddings.clone(), labels


def part(embeddings, labels):
    return embeddings[:4], labels[:4]


def other_labels(embeddings, labels):
    return embeddings, labels.flip(0)


@pytest.mark.parametrize(
    ("given", "updates"),
    [
        (None, 1),
        (same, 1),
        (detached, 1),
        (recomputed, 2),
        (part, 2),
        (other_labels, 2),
    ],
)
def test_a_batch_updates_the_centers_once(batch, given, updates):
    """In the call of the loss; `update_centers` with the same batch adds nothing."""
    embeddings, labels = batch
    loss_fn = CenterLoss(3, 4, alpha=0.25)
    expected = moved(embeddings, labels, loss_fn.centers, 0.25)
    loss_fn(embeddings, labels).backward()
    if given is not None:
        rows, classes = given(embeddings, labels)
        assert loss_fn.update_centers(rows, classes) == 3
        if updates == 2:
            expected = moved(rows, classes, expected, 0.25)
    torch.testing.assert_close(loss_fn.centers, expected.float(), rtol=1e-6, atol=1e-6)


def test_update_centers_called_again_updates_again(batch):
    embeddings, labels = batch
    loss_fn = CenterLoss(3, 4)
    expected = moved(embeddings, labels, loss_fn.centers, 0.5)
    loss_fn(embeddings, labels)
    loss_fn.update_centers(embeddings, labels)
    for _ in range(2):
        loss_fn.update_centers(embeddings, labels)
        expected = moved(embeddings, labels, expected, 0.5)
    torch.testing.assert_close(loss_fn.centers, expected.float(), rtol=1e-6, atol=1e-6)


@pytest.mark.filterwarnings("ignore:the centers stay as they are")
@pytest.mark.parametrize("mode", ["eval", "no_grad", "frozen", "auto_update"])
def test_calls_that_do_not_update(batch, mode):
    embeddings, labels = batch
    loss_fn = CenterLoss(3, 4, auto_update=mode != "auto_update").train(mode != "eval")
    before = loss_fn.centers.clone()
    rows = embeddings.detach() if mode == "frozen" else embeddings
    with torch.set_grad_enabled(mode != "no_grad"):
        loss_fn(rows, labels)
    assert torch.equal(loss_fn.centers, before)
    loss_fn.update_centers(rows, labels)
    expected = moved(embeddings, labels, before, 0.5).float()
    torch.testing.assert_close(loss_fn.centers, expected, rtol=1e-6, atol=1e-6)


def test_a_new_batch_in_the_memory_of_the_last_one_is_another():
    """A freed batch leaves its address to the next one, often with the same labels."""
    loss_fn, labels = CenterLoss(3, 4, alpha=0.25), torch.arange(12) % 3
    memory = torch.ones(12, 4)
    embeddings = torch.from_numpy(memory.numpy()).requires_grad_()
    loss_fn(embeddings, labels)
    del embeddings
    gc.collect()
    expected = moved(memory, labels, loss_fn.centers, 0.25).float()
    loss_fn.update_centers(torch.from_numpy(memory.numpy()), labels)
    torch.testing.assert_close(loss_fn.centers, expected, rtol=1e-6, atol=1e-6)


def test_the_loss_keeps_no_embeddings(batch):
    loss_fn = CenterLoss(3, 4)
    embeddings = batch[0] * 1
    alive = weakref.ref(embeddings)
    loss_fn(embeddings, batch[1]).backward()
    del embeddings
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize(
    "make",
    [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))],
    ids=["deepcopy", "pickle"],
)
def test_copies(batch, make):
    """Also between the loss and the update; a copy has not seen the batch."""
    embeddings, labels = batch
    loss_fn = CenterLoss(3, 4, 0.25, ignore_index=-1)
    loss_fn(embeddings, labels)
    other = make(loss_fn)
    assert torch.equal(other.centers, loss_fn.centers)
    assert (other.alpha, other.center_loss.ignore_index) == (0.25, -1)
    expected = moved(embeddings, labels, other.centers, 0.25).float()
    assert other.update_centers(embeddings, labels) == 3
    torch.testing.assert_close(other.centers, expected, rtol=1e-6, atol=1e-6)


# --- the settings --------------------------------------------------------------------


def test_ignored_rows(batch):
    """The reducer gets the other rows, with their indices."""
    embeddings, labels = batch
    labels = torch.where(labels == 1, -1, labels)
    counts = labels != -1
    for reducer, expected in [
        (None, lambda rows, _: rows.mean()),
        (reducers.SumReducer(), lambda rows, _: rows.sum()),
        (
            reducers.ClassWeightedReducer(torch.tensor([1.0, 5.0, 2.0])),
            lambda rows, y: (rows * (1 + y / 2)).mean(),
        ),
    ]:
        loss_fn = CenterLoss(3, 4, ignore_index=-1, init="zeros", reducer=reducer)
        before = loss_fn.centers.clone()
        loss = loss_fn(embeddings, labels)
        rows = row_losses(embeddings[counts], labels[counts], before)
        assert_close(loss, expected(rows, labels[counts]))
        assert not loss_fn.centers[1].any()
        assert loss_fn.centers[0].any()


def test_ignored_rows_of_a_miner(batch):
    embeddings, labels = batch
    reducer = reducers.SumReducer()
    loss_fn = CenterLoss(3, 4, ignore_index=1, init="zeros", reducer=reducer)
    pairs = (torch.tensor([0, 0, 1]), torch.tensor([3, 2, 4]))
    rows = row_losses(embeddings, labels, torch.zeros(3, 4))
    expected = rows[0] + (rows[2] + rows[3]) / 2
    assert_close(loss_fn(embeddings, labels, pairs), expected)


@pytest.mark.parametrize("rows", [0, 12])
def test_no_row_counts(rows):
    """The loss is 0 then, also where values that nobody wants are not finite."""
    embeddings = torch.full((rows, 4), torch.nan, requires_grad=True)
    loss_fn = CenterLoss(3, 4, ignore_index=-1)
    before = loss_fn.centers.clone()
    loss = loss_fn(embeddings, torch.full((rows,), -1))
    loss.backward()
    assert loss == 0
    assert not embeddings.grad.any()
    assert torch.equal(loss_fn.centers, before)


@pytest.mark.parametrize("skip", [None, True, False])
def test_rows_that_are_not_finite(batch, skip):
    """They show in the loss, and by default update no center."""
    embeddings, labels = batch
    x = embeddings.detach().clone()
    x[1, 2] = torch.nan
    given = {} if skip is None else {"skip_nonfinite": skip}
    loss_fn = CenterLoss(3, 4, init="zeros", **given)
    assert loss_fn(x.requires_grad_(), labels).isnan()
    rest = torch.arange(12) != 1
    expected = moved(x[rest], labels[rest], torch.zeros(3, 4), 0.5).float()
    if skip is False:
        assert loss_fn.centers[1].isnan().any()
        expected[1] = loss_fn.centers[1]
    torch.testing.assert_close(
        loss_fn.centers, expected, rtol=1e-6, atol=1e-6, equal_nan=True
    )


def test_process_group():
    """The module looks up "world" at the call, and checks what it is given."""
    loss_fn = CenterLoss(3, 4, process_group="world")
    assert loss_fn.center_loss.process_group == "world"
    with pytest.raises(TypeError, match="^process_group is 'all', expected"):
        CenterLoss(3, 4, process_group="all")


def test_initial_centers():
    assert not CenterLoss(3, 4, init="zeros").centers.any()
    centers = torch.randn(3, 4)
    loss_fn = CenterLoss(3, 4, init=centers)
    assert loss_fn.centers.data_ptr() == centers.data_ptr()


def test_reducers(batch):
    embeddings, labels = batch
    rows = row_losses(embeddings, labels, CenterLoss(3, 4).centers.zero_())
    middle = rows.median()
    for reducer, expected in [
        (reducers.MeanReducer(), rows.mean()),
        (reducers.SumReducer(), rows.sum()),
        (reducers.ThresholdReducer(low=middle.item()), rows[rows > middle].mean()),
    ]:
        loss_fn = CenterLoss(3, 4, reducer=reducer, init="zeros")
        assert_close(loss_fn(embeddings, labels), expected)


def test_unreduced(batch):
    embeddings, labels = batch
    reducer = reducers.DoNothingReducer()
    loss_fn = CenterLoss(3, 4, init="zeros", reducer=reducer)
    rows = loss_fn(embeddings, labels)["loss"]["losses"]
    assert_close(rows, row_losses(embeddings, labels, torch.zeros(3, 4)))


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
    rows = row_losses(embeddings, labels, loss_fn.centers.clone())
    expected = (rows * counts / counts.max()).sum()
    assert_close(loss_fn(embeddings, labels, pairs), expected)


def test_in_multiple_losses(batch):
    embeddings, labels = batch
    center, triplet = CenterLoss(3, 4).eval(), losses.TripletMarginLoss()
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


# --- keywords of the base class ------------------------------------------------------


def regularized(loss_fn, batch):
    with_norms = loss_fn(embedding_regularizer=regularizers.LpRegularizer())
    return loss_fn()(*batch) != with_norms(*batch)


def regularized_more(loss_fn, batch):
    norms = {"embedding_regularizer": regularizers.LpRegularizer()}
    one, two = loss_fn(**norms), loss_fn(**norms, embedding_reg_weight=2)
    return one(*batch) != two(*batch)


def summed(loss_fn, batch):
    return loss_fn()(*batch) != loss_fn(reducer=reducers.SumReducer())(*batch)


def counted(loss_fn, batch):
    """The number of centers updated, in the automatic update and in one by hand."""
    quiet, counting = loss_fn(), loss_fn(collect_stats=True)
    for each in (quiet, counting):
        each(*batch)
    counts = [counting.centers_updated]
    counting.eval()(*batch)
    counts.append(counting.centers_updated)
    counting.update_centers(batch[0][:2], batch[1][:2])
    counts.append(counting.centers_updated)
    return counts == [3, 0, 2] and not hasattr(quiet, "centers_updated")


def refused(loss_fn, _batch):
    with pytest.raises(ValueError, match="^distance is CosineSimilarity"):
        loss_fn(distance=distances.CosineSimilarity())
    return True


EFFECTS = {
    "embedding_regularizer": regularized,
    "embedding_reg_weight": regularized_more,
    "reducer": summed,
    "collect_stats": counted,
    "distance": refused,
}


def inherited_keywords():
    signatures = [
        inspect.signature(base.__init__).parameters.values()
        for base in CenterLoss.__mro__[1:]
        if base not in (torch.nn.Module, object)
    ]
    named = inspect.Parameter.POSITIONAL_OR_KEYWORD
    names = {p.name for parameters in signatures for p in parameters if p.kind == named}
    return names - {"self"}


def test_every_inherited_keyword_is_in_the_table():
    assert inherited_keywords() == set(EFFECTS)


@pytest.mark.parametrize("name", EFFECTS)
def test_no_keyword_does_nothing(batch, name):
    def loss_fn(**kwargs):
        return CenterLoss(3, 4, init="zeros", **kwargs)

    assert EFFECTS[name](loss_fn, batch)


@pytest.mark.parametrize("name", ["weight_regularizer", "margin", "reduction"])
def test_other_keywords_are_refused(name):
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
        CenterLoss(3, 4, **{name: None})


@pytest.mark.parametrize(
    ("distance", "error", "message"),
    [
        (
            distances.CosineSimilarity(),
            ValueError,
            r"^distance is CosineSimilarity\(normalize_embeddings=True, p=2, power=1, "
            r"is_inverted=True\), expected LpDistance\(normalize_embeddings=False, "
            r"p=2, power=2\), .* pass torch.nn.functional.normalize\(embeddings\)",
        ),
        (distances.SNRDistance(), ValueError, "^distance is SNRDistance"),
        (distances.LpDistance(), ValueError, "^distance is LpDistance"),
        (
            distances.LpDistance(normalize_embeddings=False, power=1),
            ValueError,
            "power=1, is_inverted=False\\), expected",
        ),
        ("l2", TypeError, "^distance is a str, expected LpDistance"),
    ],
)
def test_other_distances_are_refused(distance, error, message):
    with pytest.raises(error, match=message):
        CenterLoss(3, 4, distance=distance)


def test_the_distance_is_the_one_that_is_computed(batch):
    """Given or not, as the repr shows it."""
    embeddings, labels = batch
    given = distances.LpDistance(normalize_embeddings=False, p=2, power=2)
    for loss_fn in (CenterLoss(3, 4), CenterLoss(3, 4, distance=given)):
        pairs = loss_fn.distance(embeddings, loss_fn.centers)
        rows = pairs.detach().double()[torch.arange(12), labels] / 2
        expected = rows.mean()
        actual = loss_fn(embeddings, labels).detach().double()
        torch.testing.assert_close(actual, expected, rtol=1e-6, atol=0)


# --- wrong calls ---------------------------------------------------------------------


@pytest.mark.parametrize("method", ["forward", "update_centers"])
@pytest.mark.parametrize(
    "wrong",
    [
        lambda x, y: (x.tolist(), y),
        lambda x, y: (x, y.tolist()),
        lambda x, y: (x, y.numpy()),
        lambda x, _: (x, ["cat", "dog"] * 6),
        lambda x, y: (x, y.double()),
        lambda x, y: (x.long(), y),
        lambda x, y: (x, y + 1),
        lambda x, y: (x[:, :3], y),
        lambda x, y: (y, x),
        lambda x, y: (x, y[:5]),
        lambda x, y: (x, y[:, None]),
        lambda x, y: (x, torch.eye(3, dtype=int)[y]),
    ],
)
def test_messages_are_those_of_the_module(batch, method, wrong):
    rows, classes = wrong(*batch)
    own = Module(3, 4, reduction="none")
    with pytest.raises((TypeError, ValueError, IndexError)) as expected:
        own.update(rows, classes)
    loss_fn = CenterLoss(3, 4)
    before = loss_fn.centers.clone()
    with pytest.raises(expected.type) as found:
        getattr(loss_fn, method)(rows, classes)
    assert str(found.value) == str(expected.value)
    assert torch.equal(loss_fn.centers, before)


def test_labels_have_one_axis(batch):
    """As in all losses of the library."""
    embeddings, labels = batch
    with pytest.raises(ValueError, match="^labels must be a 1D tensor"):
        CenterLoss(3, 4)(embeddings.reshape(3, 4, 4), labels.reshape(3, 4))


def test_labels_are_required(batch):
    with pytest.raises(ValueError, match="labels are required"):
        CenterLoss(3, 4)(batch[0])


# --- trainers ------------------------------------------------------------------------


# The trainer converts a loss that requires a gradient to a number.
@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad=True")
@pytest.mark.parametrize("by_hand", [False, True])
def test_with_a_trainer(by_hand):
    """The loss, or a hook of the trainer, updates; the embeddings approach."""
    torch.manual_seed(0)
    x, y = torch.randn(64, 6), torch.arange(64) % 4
    trunk, embedder = torch.nn.Linear(6, 4), torch.nn.Identity()
    loss_fn = CenterLoss(4, 4, auto_update=not by_hand)
    with torch.no_grad():
        before = loss_fn(trunk(x), y).item()
    start, updates = loss_fn.centers.clone(), []

    def hook(trainer):
        if by_hand:
            rows, classes = next(iter(trainer.dataloader))
            loss_fn.update_centers(trunk(rows), classes)
        updates.append(loss_fn.center_loss.num_updated)

    trainers.MetricLossOnly(
        models={"trunk": trunk, "embedder": embedder},
        optimizers={"trunk_optimizer": torch.optim.SGD(trunk.parameters(), lr=0.05)},
        batch_size=16,
        loss_funcs={"metric_loss": loss_fn},
        dataset=torch.utils.data.TensorDataset(x, y),
        dataloader_num_workers=0,
        end_of_iteration_hook=hook,
    ).train(num_epochs=5)
    assert len(updates) == 20
    assert min(updates) > 1
    assert not torch.equal(loss_fn.centers, start)
    with torch.no_grad():
        assert loss_fn(trunk(x), y).item() < before / 2

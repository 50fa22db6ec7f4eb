"""Labels of any shape, and rows that are not finite."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from centerloss.torch import CenterLoss
from tests.torch.batches import (
    DTYPES,
    assert_same_bits,
    batch,
    dtypes,
    learned_or_not,
    module,
    reductions,
    run,
    same_bits,
)

# --- shapes --------------------------------------------------------------------------

# Of the labels, and of the values of a row.
SHAPES = [((24,), (2, 3)), ((4, 6), (6,)), ((2, 3, 4), (2, 3)), ((24, 1), (6,))]


@pytest.mark.usefixtures("device")
@learned_or_not
@reductions
@pytest.mark.parametrize(("rows", "row"), SHAPES)
def test_shapes_follow_the_labels(rows, row, reduction, learned):
    """Same bits as of a flat batch; ``reduction="none"`` has the labels' shape."""
    embeddings, labels, weights = batch(learned=learned)
    x = embeddings.detach().reshape(*rows, *row).requires_grad_()
    settings = {"reduction": reduction, "ignore_index": 2}
    given = (x, labels.reshape(rows), weights.reshape(rows))
    loss_fn, flat = module(**settings), module(**settings)
    loss, gradient, centers = run(loss_fn, *given)
    expected = run(flat, embeddings, labels, weights)
    assert loss.shape == (rows if reduction == "none" else ())
    assert gradient.shape == x.shape
    ours = (loss.reshape(expected[0].shape), gradient.reshape(24, 6), centers)
    assert_same_bits(ours, expected)
    assert loss_fn.num_updated == flat.num_updated
    assert loss_fn.update(*given) == flat.update(embeddings, labels, weights)
    assert loss_fn.init_centers(*given[:2]) == flat.init_centers(embeddings, labels)
    assert same_bits(loss_fn.centers, flat.centers)


@pytest.mark.usefixtures("device")
@reductions
@pytest.mark.parametrize("create_graph", [False, True])
def test_incoming_gradients_of_the_shape_of_the_labels(reduction, create_graph):
    embeddings, labels, _ = batch(dtype=torch.float64)
    x = embeddings.detach().reshape(4, 6, 6).requires_grad_()
    settings = {"dtype": torch.float64, "reduction": reduction}
    loss = module(**settings)(x, labels.reshape(4, 6))
    expected = module(**settings)(embeddings, labels)
    incoming = torch.rand_like(loss)
    (ours,) = torch.autograd.grad(loss, x, incoming, create_graph=create_graph)
    incoming = incoming.reshape(expected.shape)
    (flat,) = torch.autograd.grad(
        expected, embeddings, incoming, create_graph=create_graph
    )
    torch.testing.assert_close(ours.reshape(24, 6), flat)
    if create_graph:
        (ours,) = torch.autograd.grad(ours.pow(2).sum(), x)
        (flat,) = torch.autograd.grad(flat.pow(2).sum(), embeddings)
        torch.testing.assert_close(ours.reshape(24, 6), flat)


@pytest.mark.usefixtures("device")
@pytest.mark.usefixtures("path")
def test_channels_first_are_refused_with_the_way_out():
    x, labels = torch.rand(2, 6, 3, 4, requires_grad=True), torch.zeros(2, 3, 4).long()
    loss_fn = module()
    with pytest.raises(ValueError, match=r"pass embeddings\.movedim\(1, -1\)$"):
        loss_fn(x, labels)
    moved, expected = x.movedim(1, -1), x.permute(0, 2, 3, 1).reshape(24, 6)
    assert same_bits(loss_fn(moved, labels), module()(expected, labels.reshape(24)))


@pytest.mark.usefixtures("device")
@pytest.mark.usefixtures("path")
def test_labels_of_bool():
    embeddings, _, _ = batch()
    labels = torch.arange(24) % 3 == 0
    ours, expected = module(ignore_index=0), module(ignore_index=0)
    ours_results = run(ours, embeddings, labels)
    assert_same_bits(ours_results, run(expected, embeddings, labels.long()))
    assert ours.num_updated == 1
    assert ours.init_centers(embeddings, labels) == 1


# --- rows that are not finite --------------------------------------------------------


def spoiled(dtype, kind):
    """Rows 4, 9, 11 and 17 are bad; class 2 has no other row."""
    embeddings, _, weights = batch(dtype=dtype)
    labels = torch.arange(24) % 6
    labels[labels == 2] = 0
    labels[[9, 11]] = torch.tensor([2, 2])
    x = embeddings.detach().clone()
    bad = torch.tensor([4, 9, 11, 17])
    x[bad, 3] = kind
    return x.requires_grad_(), labels, weights, bad


KINDS = [
    *((*dtypes, value) for dtypes in DTYPES for value in (torch.nan, -torch.inf)),
    # The square overflows. A number of float32 has a square in float64.
    (torch.float64, torch.float64, 1e200),
]


@pytest.mark.usefixtures("device")
@learned_or_not
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize(("dtype", "centers_dtype", "value"), KINDS, ids=str)
def test_bad_rows_move_no_center(dtype, centers_dtype, value, weighted, learned):
    """Centers are those of the batch in which these rows are ignored, bit by bit."""
    x, labels, weights, bad = spoiled(dtype, value)
    weights = (weights if weighted else torch.ones(24)).requires_grad_(learned)
    weights = weights if weighted or learned else None
    settings = {"dtype": centers_dtype, "ignore_index": -1}
    loss_fn, expected = module(**settings), module(**settings)
    loss = loss_fn(x, labels, weights)
    loss.backward()
    assert not loss.isfinite()
    assert not x.grad[bad].isfinite().all(1).any() or value == 1e200
    kept = labels.index_fill(0, bad, -1)
    expected(x, kept, weights)
    assert same_bits(loss_fn.centers, expected.centers)
    assert loss_fn.centers.isfinite().all()
    assert loss_fn.num_updated == expected.num_updated == 5
    assert torch.equal(loss_fn.centers[2], module(**settings).centers[2])
    assert loss_fn.update(x, labels, weights) == expected.update(x, kept, weights) == 5
    assert same_bits(loss_fn.centers, expected.centers)


@pytest.mark.usefixtures("device")
@learned_or_not
def test_a_difference_that_overflows_is_a_bad_row(learned):
    """The row and the center are finite, their difference is not."""
    centers = torch.full((2, 3), -3e38)
    x = torch.tensor([[3e38] * 3, [-2e38] * 3], requires_grad=True)
    loss_fn = CenterLoss(2, 3, init=centers.clone())
    weights = torch.ones(2, requires_grad=True) if learned else None
    assert loss_fn(x, torch.tensor([0, 1]), weights) == torch.inf
    assert torch.equal(loss_fn.centers[0], centers[0])
    assert not torch.equal(loss_fn.centers[1], centers[1])
    assert loss_fn.num_updated == 1


@pytest.mark.usefixtures("device")
@learned_or_not
def test_without_skip_nonfinite_they_reach_their_class(learned):
    x, labels, weights, _ = spoiled(torch.float32, torch.nan)
    loss_fn = module(skip_nonfinite=False)
    loss_fn(x, labels, weights.requires_grad_(learned))
    spoiled_classes = loss_fn.centers.isnan().any(1).nonzero().ravel().tolist()
    assert spoiled_classes == sorted(set(labels[[4, 9, 11, 17]].tolist()))
    assert loss_fn.num_updated == len(labels.unique())


@pytest.mark.usefixtures("device")
@dtypes
def test_a_bad_batch_moves_nothing(dtype, centers_dtype):
    embeddings, labels, _ = batch(dtype=dtype)
    loss_fn = module(dtype=centers_dtype)
    x = torch.full_like(embeddings, torch.nan).requires_grad_()
    assert loss_fn(x, labels).isnan()
    assert loss_fn.num_updated == loss_fn.update(x, labels) == 0
    assert same_bits(loss_fn.centers, module(dtype=centers_dtype).centers)


@pytest.mark.usefixtures("device")
def test_init_centers_takes_all_rows():
    x, labels, _, _ = spoiled(torch.float32, torch.nan)
    loss_fn = module()
    loss_fn.init_centers(x, labels)
    assert loss_fn.centers[2, 3].isnan()


@pytest.mark.parametrize("auto", [True, False])
def test_compiled_with_bad_rows(auto):
    torch._dynamo.reset()
    x, labels, weights, _ = spoiled(torch.float32, torch.inf)
    x = x.detach().reshape(4, 6, 6).requires_grad_()
    given = (x, labels.reshape(4, 6), weights.reshape(4, 6))
    settings = {"reduction": "none", "auto_update": auto}
    eager, loss_fn = module(**settings), module(**settings)
    compiled = torch.compile(loss_fn, backend="aot_eager", fullgraph=True)
    assert_same_bits(run(compiled, *given), run(eager, *given))
    assert loss_fn.num_updated == eager.num_updated == (5 if auto else 0)
    torch._dynamo.reset()


def test_a_grad_scaler_loses_one_step_to_an_overflow():
    """In float16; a module that moves its centers by NaN would lose all that follow."""
    torch.manual_seed(1)
    network, head, loss_fn = torch.nn.Linear(6, 8), torch.nn.Linear(8, 4), module(8, 4)
    parameters = [*network.parameters(), *head.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.05)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    good, labels = torch.randn(16, 6), torch.arange(16) % 4
    finite = []
    for step in range(30):
        x = good.clone()
        x[5] *= 1e6 if step == 3 else 1.0
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.float16):
            embeddings = network(x)
            logits = head(embeddings)
            loss = cross_entropy(logits.float(), labels) + loss_fn(embeddings, labels)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        finite.append(bool(loss.isfinite()))
    assert [step for step in range(30) if not finite[step]] == [3]
    assert scaler.get_scale() == 512.0
    assert loss_fn.centers.isfinite().all()
    assert all(parameter.isfinite().all() for parameter in parameters)

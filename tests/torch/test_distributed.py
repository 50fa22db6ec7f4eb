"""Several ranks with ``process_group`` have the centers of one process, bit by bit.

Each test looks at what `isolated_ranks.py` has written, for two ranks and for four.
"""

import pytest
import torch

from tests.helpers.processes import run_module
from tests.torch.batches import assert_same_bits, same_bits
from tests.torch.isolated_ranks import (
    CASES,
    CLASSES,
    SIZES,
    WRONG,
    Scaled,
    joined,
    new_loss,
    rows_of,
    train_network,
    whole_batch,
)

pytestmark = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
    reason="this PyTorch has no gloo",
)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """What each of the four ranks has returned."""
    folder = tmp_path_factory.mktemp("ranks")
    run_module("tests.torch.isolated_ranks", folder, timeout=300)
    return [
        torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(4)
    ]


@pytest.fixture(params=SIZES, ids="{} ranks".format)
def ranks(request, written):
    """The results of the ranks of a group, in their order."""
    return [results[request.param] for results in written[: request.param]]


@pytest.mark.parametrize("case", CASES)
def test_same_centers_as_one_process(ranks, case):
    """Batches of other sizes and empty ones are among them.

    Loss and gradient are those of the rank's own rows, at the centers before the move.
    """
    steps, settings, rows = CASES[case]
    loss_fn, own = new_loss(**settings), new_loss(**settings).eval()
    start = loss_fn.centers.clone()
    for step in range(steps):
        own.centers.copy_(loss_fn.centers)
        loss_fn(*whole_batch(len(ranks), step, **rows))
        for rank, results in enumerate(ranks):
            loss, gradient, updated = results[case]["seen"][step]
            x, y, w = rows_of(rank, step, **rows)
            expected = own(x, y, w)
            expected.sum().backward()
            assert updated == loss_fn.num_updated
            assert same_bits(loss, expected)
            assert same_bits(gradient, x.grad)
    assert not torch.equal(loss_fn.centers, start)
    for results in ranks:
        assert same_bits(results[case]["centers"], loss_fn.centers)


def test_update(ranks):
    loss_fn = new_loss()
    updated = [loss_fn.update(*whole_batch(len(ranks), step)) for step in range(5)]
    for results in ranks:
        assert results["update"]["updated"] == updated
        assert same_bits(results["update"]["centers"], loss_fn.centers)


def test_group_of_some_ranks(written):
    loss_fn = new_loss()
    for step in range(5):
        loss_fn(*joined([rows_of(rank, step) for rank in (0, 3)]))
    assert same_bits(written[0]["ends"], loss_fn.centers)
    assert same_bits(written[3]["ends"], loss_fn.centers)


def test_world_from_before_the_process_group(written):
    loss_fn = new_loss()
    for step in range(5):
        loss_fn(*whole_batch(4, step))
    for results in written:
        assert same_bits(results["world"], loss_fn.centers)


def in_one_process(ranks, rate, rows=whole_batch):
    """What DDP does, on the rows of all ranks at once."""
    model = Scaled(None)
    train_network(model, model, rate, [rows(ranks, step) for step in range(4)])
    return model


def test_in_ddp(ranks):
    """DDP broadcasts buffers, and the centers are still those of all rows."""
    model = in_one_process(len(ranks), 0.0)
    for results in ranks:
        assert same_bits(results["ddp", 0.0]["centers"][-1], model.loss_fn.centers)


def test_in_ddp_while_the_network_learns(ranks):
    """Its mean of the ranks' gradients is the gradient of all, but for rounding."""
    model = in_one_process(len(ranks), 0.1)
    for results in ranks:
        ours = results["ddp", 0.1]
        torch.testing.assert_close(ours["factors"], model.factors.detach())
        torch.testing.assert_close(ours["centers"][-1], model.loss_fn.centers)
        assert_same_bits(ours["centers"], ranks[0]["ddp", 0.1]["centers"])
    assert (model.factors != 1).all()


def test_trap_without_a_group(ranks):
    """DDP has the centers of rank 0 alone; without DDP each rank has its own."""
    of_rank_0 = in_one_process(0, 0.0, rows_of).loss_fn.centers
    of_all = in_one_process(len(ranks), 0.0).loss_fn.centers
    assert same_bits(ranks[0]["trap"]["centers"][-1], of_rank_0)
    assert not torch.allclose(of_rank_0, of_all, atol=0.01)
    for results in ranks[1:]:
        assert not same_bits(results["alone"], ranks[0]["alone"])


MISTAKES = {
    "label": f"IndexError: labels[2] is {CLASSES}, but there are {CLASSES} classes "
    f"(0 to {CLASSES - 1})",
    "weight": "ValueError: sample_weight[3] is -1.0, expected a finite number >= 0",
    "fewer labels": "ValueError: labels has shape (7,), expected (8,): one label "
    "per row of embeddings",
    "more labels": "ValueError: labels has shape (16,), expected (8,): one label "
    "per row of embeddings",
    "fewer weights": "ValueError: sample_weight has shape (7,), expected (8,): one "
    "weight per row of embeddings",
    "wider rows": "ValueError: embeddings has 8 values per row, but centers has 7: "
    "shapes (8, 8) and (5, 7)",
    "wrong dtype": "TypeError: embeddings has dtype float64, but centers has float32: "
    "pass embeddings.to(torch.float32)",
}


def expected_error(kind, rank, ranks):
    if kind == "other dtype":
        names = ["float32", "bfloat16", "float32", "float32"][:ranks]
        dtypes = [f"torch.{name}" for name in names]
        return f"ValueError: embeddings have dtypes {dtypes} on the ranks, expected one"
    if kind == "weights missing":
        where = f"on ranks {[0, 2, 3][: ranks - 1]} of {ranks}"
        return f"ValueError: sample_weight is given {where}, expected on all or none"
    if rank == 1:
        return MISTAKES[kind]
    where = f"on ranks [1] of {ranks}"
    return f"ValueError: the batch is refused {where}, where the error says why"


@pytest.mark.parametrize("how", ["forward", "update"])
@pytest.mark.parametrize("kind", WRONG)
def test_a_mistake_on_one_rank_is_raised_on_all(ranks, kind, how):
    """Nothing has changed, and the next call succeeds."""
    loss_fn = new_loss()
    loss_fn(*whole_batch(len(ranks), 0, weighted=True))
    for rank, results in enumerate(ranks):
        ours = results[kind, how]
        assert ours["raised"] == expected_error(kind, rank, len(ranks))
        assert ours["unchanged"]
        assert same_bits(ours["centers"], loss_fn.centers)


@pytest.mark.parametrize("skip_nonfinite", [True, False])
def test_a_bad_row_on_one_rank(ranks, skip_nonfinite):
    """It shows in the loss of its rank, and is judged alike on all ranks."""
    loss_fn = new_loss(skip_nonfinite=skip_nonfinite)
    x, y, _ = whole_batch(len(ranks), 0)
    x = x.detach()
    x[8 + 2, 3] = torch.nan
    loss_fn(x.requires_grad_(), y)
    assert loss_fn.centers.isfinite().all() == skip_nonfinite
    for rank, results in enumerate(ranks):
        ours = results["bad rows", skip_nonfinite]
        assert ours["finite"] == (rank != 1)
        assert ours["updated"] == loss_fn.num_updated
        assert same_bits(ours["centers"], loss_fn.centers)


def test_labels_and_weights_of_other_dtypes_and_rows_of_another_shape(ranks):
    loss_fn = new_loss()
    loss_fn(*whole_batch(len(ranks), 0, weighted=True))
    for results in ranks:
        assert same_bits(results["other forms"], loss_fn.centers)

"""Several ranks with ``process_group`` hold the centers of one process, bit by bit.

Each test looks at what `isolated_ranks.py` has written, for two ranks and for four.
"""

import os
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from tests.torch import isolated_ranks  # noqa: E402
from tests.torch.batches import same_bits  # noqa: E402
from tests.torch.isolated_ranks import CASES, CLASSES, SIZES, loss_and_rows  # noqa: E402

pytestmark = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
    reason="this PyTorch has no gloo",
)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """What each of the four ranks has returned."""
    folder = tmp_path_factory.mktemp("ranks")
    done = subprocess.run(
        [sys.executable, isolated_ranks.__file__, str(folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"rank{rank}.pt") for rank in range(4)]


@pytest.fixture(params=SIZES, ids="{} ranks".format)
def ranks(request, written):
    """The results of the ranks of a group, in their order."""
    return [results[request.param] for results in written[: request.param]]


@pytest.mark.parametrize("case", CASES)
def test_same_centers_as_one_process(ranks, case):
    """Batches of other sizes and empty ones are among them.

    Loss and gradient are those of the rank's own rows, at the centers before the move.
    """
    steps, settings = CASES[case]
    loss_fn, kind, learned = loss_and_rows(settings)
    own, *_ = loss_and_rows(settings)
    own.eval()
    start = loss_fn.centers.clone()
    for step in range(steps):
        own.centers.copy_(loss_fn.centers)
        x, y, w = isolated_ranks.whole_batch(len(ranks), step, **kind)
        loss_fn(x, y, w)
        for rank, results in enumerate(ranks):
            loss, gradient, updated = results[case]["seen"][step]
            x, y, w = isolated_ranks.rows_of(rank, step, **kind)
            expected = own(x, y, w)
            expected.sum().backward()
            assert updated == loss_fn.num_updated
            if learned:  # by other operations, but for the centers
                torch.testing.assert_close(loss, expected.detach())
                torch.testing.assert_close(gradient, x.grad)
            else:
                assert same_bits(loss, expected)
                assert same_bits(gradient, x.grad)
    assert not torch.equal(loss_fn.centers, start)
    for results in ranks:
        assert same_bits(results[case]["centers"], loss_fn.centers)


def test_update(ranks):
    loss_fn, *_ = loss_and_rows({})
    updated = [
        loss_fn.update(*isolated_ranks.whole_batch(len(ranks), step))
        for step in range(5)
    ]
    for results in ranks:
        assert results["update"]["updated"] == updated
        assert same_bits(results["update"]["centers"], loss_fn.centers)


def test_group_of_some_ranks(written):
    loss_fn, *_ = loss_and_rows({})
    for step in range(5):
        x, y, _ = zip(
            *(isolated_ranks.rows_of(rank, step) for rank in (0, 3)), strict=True
        )
        loss_fn(torch.cat(x).detach().requires_grad_(), torch.cat(y))
    assert same_bits(written[0]["ends"], loss_fn.centers)
    assert same_bits(written[3]["ends"], loss_fn.centers)


def in_one_process(ranks, rate, rows=isolated_ranks.whole_batch):
    """What DDP does, on the rows of all ranks at once."""
    model = isolated_ranks.Scaled(None)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    for step in range(4):
        x, y, _ = rows(ranks, step)
        optimizer.zero_grad()
        model(x.detach(), y).backward()
        optimizer.step()
    return model


def test_in_ddp(ranks):
    """Buffers are handed round, and the centers are still those of all rows."""
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
        for own, of_rank_0 in zip(
            ours["centers"], ranks[0]["ddp", 0.1]["centers"], strict=True
        ):
            assert same_bits(own, of_rank_0)
    assert (model.factors != 1).all()


def test_trap_without_a_group(ranks):
    """In DDP the centers follow the rows of rank 0 alone; else each goes its way."""
    of_rank_0 = in_one_process(0, 0.0, isolated_ranks.rows_of).loss_fn.centers
    of_all = in_one_process(len(ranks), 0.0).loss_fn.centers
    assert same_bits(ranks[0]["trap"]["centers"][-1], of_rank_0)
    assert not torch.allclose(of_rank_0, of_all, atol=0.01)
    for results in ranks[1:]:
        assert not same_bits(results["alone"], ranks[0]["alone"])


MISTAKES = {
    "label": f"IndexError: labels[2] is {CLASSES}, but there are {CLASSES} classes",
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


@pytest.mark.parametrize("how", ["forward", "update"])
@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_on_one_rank_is_raised_on_all(ranks, kind, how):
    """Nothing has changed, and the next call is as good as ever."""
    loss_fn, *_ = loss_and_rows({})
    loss_fn(*isolated_ranks.whole_batch(len(ranks), 0, weighted=True))
    others = (
        f"ValueError: the batch is refused on ranks [1] of {len(ranks)}, where the "
    )
    others += "error says why"
    for rank, results in enumerate(ranks):
        ours = results[kind, how]
        assert ours["raised"] == (MISTAKES[kind] if rank == 1 else others)
        assert ours["unchanged"]
        assert same_bits(ours["centers"], loss_fn.centers)


@pytest.mark.parametrize("how", ["forward", "update"])
def test_embeddings_of_two_dtypes(ranks, how):
    dtypes = ["torch.float32"] * len(ranks)
    dtypes[1] = "torch.bfloat16"
    for results in ranks:
        ours = results["other dtype", how]
        message = (
            f"ValueError: embeddings have dtypes {dtypes} on the ranks, expected one"
        )
        assert ours["raised"] == message
        assert ours["unchanged"]


def test_labels_and_weights_of_other_dtypes_and_rows_of_another_shape(ranks):
    loss_fn, *_ = loss_and_rows({})
    loss_fn(*isolated_ranks.whole_batch(len(ranks), 0, weighted=True))
    for results in ranks:
        assert same_bits(results["other forms"], loss_fn.centers)


@pytest.mark.parametrize("how", ["forward", "update"])
def test_weights_on_some_ranks_alone(ranks, how):
    given = [rank for rank in range(len(ranks)) if rank != 1]
    message = f"ValueError: sample_weight is given on ranks {given} of {len(ranks)}, "
    for results in ranks:
        ours = results["weights missing", how]
        assert ours["raised"] == message + "expected on all or none"
        assert ours["unchanged"]

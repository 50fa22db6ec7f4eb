"""`ShardedCenterLoss` on several ranks has the results of one process, bit by bit.

Each test looks at what `isolated_sharded_ranks.py` has written, for two ranks and for
four; the slow ones for one to five, and for more cases.
"""

import re

import pytest
import torch
import torch.distributed.checkpoint as dcp

import centerloss
from tests.helpers.processes import run_module
from tests.torch import isolated_ranks as small
from tests.torch.batches import assert_same_bits, same_bits
from tests.torch.isolated_sharded_ranks import (
    CASES,
    CLASSES,
    DIFFERENT,
    GATE,
    PER_OWNER,
    ROW,
    ROWS,
    SIZES,
    STEPS,
    WHEN_FEW,
    WIDE,
    Scaled,
    batches_of,
    first_centers,
    plain,
    rows_of,
    train_network,
    trained,
)

pytestmark = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
    reason="this PyTorch has no gloo",
)


def written_by(folder, level):
    run_module("tests.torch.isolated_sharded_ranks", folder, level, timeout=1200)
    return [
        torch.load(folder / f"rank{rank}.pt", weights_only=True)
        for rank in range(max(SIZES[level]))
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sharded")


@pytest.fixture(scope="module")
def written(folder):
    """What each of the four ranks has returned."""
    return written_by(folder, "gate")


@pytest.fixture(scope="module")
def all_written(tmp_path_factory):
    """The same of five ranks, with more cases."""
    return written_by(tmp_path_factory.mktemp("all"), "all")


@pytest.fixture(params=SIZES["gate"], ids="{} ranks".format)
def ranks(request, written):
    """The results of the ranks of a group, in their order."""
    return [results[request.param] for results in written[: request.param]]


def assert_shards(shards, centers):
    """Whether shards, each with its first class, are all the centers."""
    end = 0
    for first, shard in shards:
        assert first == end
        end += len(shard)
    assert same_bits(torch.cat([shard for _, shard in shards]), centers)


# --- results -------------------------------------------------------------------------


def assert_near(ours, expected):
    """With the same bits; or nearly, with weights that need a gradient."""
    torch.testing.assert_close(ours, expected, equal_nan=True)


def check_case(case, results):
    """Compare with `CenterLoss`, at the centers before each step."""
    ranks = len(results)
    agree = assert_near if case.learned else assert_same_bits
    loss_fn, still = case.new(plain), case.new(plain).eval()
    for step in range(STEPS):
        still.centers.copy_(loss_fn.centers)
        own = [rows_of(case, rank, step) for rank in range(ranks)]
        x, y, w = small.joined(own)
        loss_fn(x, y, w)
        if case.over == "all":
            w = w.requires_grad_(True) if case.learned else w
            own = [(x, y, w)]
        losses, gradients, of_weights = [], [], []
        for rows in own:
            loss = still(*rows)
            loss.sum().backward()
            losses.append(loss.detach())
            gradients.append(rows[0].grad)
            of_weights.append(rows[2].grad if case.learned else None)
        first = 0
        for rank, result in enumerate(results):
            loss, gradient, of_own_weights, _ = result["seen"][step]
            of_rank = 0 if case.over == "all" else rank
            start = first if case.over == "all" else 0
            rows = slice(start, start + len(gradient))
            expected = losses[of_rank]
            expected = expected[rows] if case.reduction == "none" else expected
            agree([loss], [expected])
            agree([gradient], [gradients[of_rank][rows]])
            if case.learned:
                agree([of_own_weights], [of_weights[of_rank][rows]])
            first += len(gradient)
        moved = sum(result["seen"][step][3] for result in results)
        assert moved == loss_fn.num_updated
    assert_shards([result["shard"] for result in results], loss_fn.centers)
    assert not torch.equal(loss_fn.centers, case.new(plain).centers)
    check_eval(case, results, loss_fn.eval())


def check_eval(case, results, loss_fn):
    own = [rows_of(case, rank, 0) for rank in range(len(results))]
    whole = loss_fn(*small.joined(own))
    for rank, result in enumerate(results):
        assert result["stayed"]
        if case.over == "rank" or case.reduction == "none":
            whole = loss_fn(*own[rank])
        (assert_near if case.learned else assert_same_bits)(
            [result["last"]], [whole.detach()]
        )


@pytest.mark.parametrize("number", range(len(GATE)), ids=map(str, GATE))
def test_same_bits_as_one_process(ranks, number):
    check_case(GATE[number], [results["case", number] for results in ranks])


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES["all"], ids="{} ranks".format)
def test_same_bits_as_one_process_in_all_cases(all_written, size):
    for number, case in enumerate(CASES["all"]):
        results = [of_rank[size]["case", number] for of_rank in all_written[:size]]
        check_case(case, results)


def test_update(ranks):
    loss_fn = plain(torch.float64, ignore_index=-1)
    for step in range(STEPS):
        own = [rows_of(GATE[0], rank, step) for rank in range(len(ranks))]
        expected = loss_fn.update(*small.joined(own))
        assert sum(result["update"]["updated"][step] for result in ranks) == expected
    assert_shards([result["update"]["shard"] for result in ranks], loss_fn.centers)


def test_class_means_of_different_numbers_of_batches(ranks):
    """Rows are added in this order: the first batch of each rank, then the second."""
    loss_fn = plain(torch.float64, ignore_index=-1)
    batches = [
        batches_of(rank)[step]
        for step in range(3)
        for rank in range(len(ranks))
        if step < len(batches_of(rank))
    ]
    count = loss_fn.init_centers(batches)
    assert count == sum(result["means"]["count"] for result in ranks) == CLASSES
    assert_shards([result["means"]["shard"] for result in ranks], loss_fn.centers)


def test_normal_centers_are_those_of_one_process(ranks):
    expected = centerloss.torch.ShardedCenterLoss(9000, 2, seed=3).shard
    assert_shards([result["normal"] for result in ranks], expected)


# --- inside of other programs --------------------------------------------------------


def in_one_process(ranks, rate):
    model = Scaled(plain())
    batches = [small.whole_batch(ranks, step) for step in range(4)]
    train_network(model, model.parameters(), rate, batches)
    return model


@pytest.mark.parametrize("where", ["inside", "outside"])
def test_in_ddp(ranks, where):
    """DDP does not broadcast the shards."""
    model = in_one_process(len(ranks), 0.0)
    shards = [result["ddp", where, 0.0]["shard"] for result in ranks]
    assert_shards(shards, model.loss_fn.centers)


@pytest.mark.parametrize("where", ["inside", "outside"])
def test_in_ddp_while_the_network_learns(ranks, where):
    """The loss of all, times the number of ranks, has the gradient of one process."""
    check_learning([result["ddp", where, 0.1] for result in ranks])


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES["all"], ids="{} ranks".format)
def test_in_fsdp(all_written, size):
    if size < 5:  # five ranks have more than rows_of() makes
        check_learning([of_rank[size]["fsdp"] for of_rank in all_written[:size]])


def check_learning(results):
    model = in_one_process(len(results), 0.1)
    centers = torch.cat([result["shard"][1] for result in results])
    torch.testing.assert_close(centers, model.loss_fn.centers)
    for result in results:
        torch.testing.assert_close(result["factors"], model.factors.detach())
    assert (model.factors != 1).all()


def test_state_of_a_model_in_ddp(ranks):
    """As the functions of `torch.distributed.checkpoint.state_dict` find it."""
    for rank, result in enumerate(ranks):
        assert result["state"]["keys"] == ["factors", "loss_fn.centers"]
        full = result["state"]["full"]
        assert same_bits(full, first_centers()) if rank == 0 else full is None
    assert_shards([result["state"]["shard"] for result in ranks], first_centers())


# --- groups --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "members"),
    [("ends", (0, 3)), ("world", range(4)), ("named", range(4))],
)
def test_groups(written, name, members):
    """Of some ranks, and the default one."""
    loss_fn = plain()
    for step in range(2):
        loss = loss_fn(*small.joined([small.rows_of(rank, step) for rank in members]))
    found = [written[rank]["groups"][name] for rank in members]
    assert_shards([result["shard"] for result in found], loss_fn.centers)
    for result in found:
        assert same_bits(result["loss"], loss.detach())


def test_a_module_from_before_the_group(written):
    """Its shard has all classes."""
    for rank, results in enumerate(written):
        message = (
            "RuntimeError: this is the shard of rank 0 of 1, but the process is rank "
            f"{rank} of 4 now: save() on the old ranks, and load() on the new ones"
        )
        assert results["groups"]["early"] == [message, message]


def test_copies_share_the_group_and_pickles_leave_it_out(written):
    loss_fn = plain()
    loss_fn(*small.whole_batch(2, 0))
    found = [written[rank]["groups"] for rank in (0, 1)]
    assert_shards([result["copied"]["shard"] for result in found], loss_fn.centers)
    for rank, result in enumerate(found):
        assert result["again"]  # "world" is kept
        assert result["pickled"] == (
            f"RuntimeError: this is the shard of rank {rank} of 2, but the process is "
            "rank 0 of 1 now: save() on the old ranks, and load() on the new ones"
        )


def test_a_group_without_this_rank(written):
    """`torch.distributed.new_group` returns a number there."""
    for results in written[2:]:
        assert results["groups"]["no member"] == (
            "TypeError: process_group is -100, expected None, 'world' or a group as "
            "from torch.distributed.new_group()"
        )


def test_a_dtensor_over_other_ranks(written):
    for results in written[:2]:
        assert results["groups"]["other mesh"] == (
            "RuntimeError: Error(s) in loading state_dict for ShardedCenterLoss:\n\t"
            "centers is a DTensor over other ranks, or with other rows on them: load "
            "it into state_dict() by torch.distributed.checkpoint.load"
        )


# --- faults --------------------------------------------------------------------------


def expected_error(kind, rank, ranks):
    """The error on a rank, if rank 1 makes this mistake."""
    others = [0, 2, 3][: ranks - 1]
    by_rank = {
        "other dtype": ("float32", "bfloat16"),
        "eval": ("step", "loss"),
        "no_grad": ("step", "loss"),
        "update": ("step", "update"),
        "classes": ((CLASSES, ROW), (CLASSES + 1, ROW)),
    }
    if kind in by_rank:
        usual, different = by_rank[kind]
        found = [different if rank == 1 else usual for rank in range(ranks)]
        if kind == "other dtype":
            text = f"the batches have dtypes {found} on the ranks, expected one"
        elif kind == "classes":
            text = f"(num_classes, feat_dim) is {found} on the ranks, expected the same"
            text += " on all"
        else:
            text = f"the ranks call {found}, expected the same on all"
        return f"ValueError: {text}"
    if kind == "weights missing":
        where = f"on ranks {others} of {ranks}"
        return f"ValueError: sample_weight is given {where}, expected on all or none"
    settings = {"alpha": "alpha", "over": "over"}
    settings["two settings"] = "normalize, ignore_index"
    if kind in settings:
        return (
            f"ValueError: the ranks have different settings: {settings[kind]}; "
            "expected the same on all"
        )
    if rank != 1:
        return refused(ranks)
    if kind == "wrong setting":
        return "ValueError: alpha is -1.0, expected a finite number >= 0"
    return MISTAKES[kind]


def refused(ranks):
    where = f"on ranks [1] of {ranks}"
    return f"ValueError: the call is refused {where}, where the error says why"


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

WRONG = [
    *(("wrong", kind) for kind in (*small.WRONG, *DIFFERENT)),
    *(("wrong update", kind) for kind in ("label", "alpha", "weights missing")),
]


@pytest.mark.parametrize(("how", "kind"), WRONG)
def test_a_mistake_on_one_rank_is_raised_on_all(ranks, how, kind):
    """Nothing has changed, and the next call succeeds."""
    loss_fn = plain()
    loss_fn(*small.whole_batch(len(ranks), 0, weighted=True))
    for rank, results in enumerate(ranks):
        assert results[how, kind]["raised"] == expected_error(kind, rank, len(ranks))
        assert results[how, kind]["unchanged"]
    assert_shards([results[how, kind]["shard"] for results in ranks], loss_fn.centers)


def test_a_mistake_in_init_centers_is_raised_on_all(ranks):
    own = [
        "TypeError: labels is None, expected one label per row",
        # The first label of rank 1's batch.
        f"IndexError: labels[0] is {int(small.rows_of(1, 0)[1][0]) + CLASSES}, but "
        f"there are {CLASSES} classes (0 to {CLASSES - 1})",
    ]
    for rank, results in enumerate(ranks):
        expected = own if rank == 1 else [refused(len(ranks))] * 2
        assert results["wrong means"]["raised"] == expected
    assert_shards([result["wrong means"]["shard"] for result in ranks], first_centers())


def test_a_rank_that_could_not_move_its_centers(ranks):
    """All ranks have to load a checkpoint; then they go on."""
    incomplete = (
        "RuntimeError: the last change of the centers is incomplete on ranks [1] of "
        f"{len(ranks)}: load a checkpoint on all ranks"
    )
    loss_fn = plain()
    loss_fn(*small.whole_batch(len(ranks), 0))
    for rank, results in enumerate(ranks):
        first = "MemoryError: no memory left" if rank == 1 else None
        assert results["failed move"]["raised"] == [first, incomplete, incomplete]
    assert_shards([result["failed move"]["shard"] for result in ranks], loss_fn.centers)


def test_a_rank_that_cannot_write(ranks):
    for rank, results in enumerate(ranks):
        assert results["failed save"]["same"]
        assert results["failed save"]["raised"] == (
            "MemoryError: no memory left"
            if rank == 1
            else "RuntimeError: saving or loading failed on ranks [1] of "
            f"{len(ranks)}, where the error says why"
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "message", "seconds"),
    [("killed", "Connection closed|reset by peer", 2.0), ("still", "Timed out", 9.0)],
)
def test_a_rank_that_is_lost(tmp_path, how, message, seconds):
    """An error of the engine, at once or within its timeout of 5 seconds."""
    printed = run_module("tests.torch.isolated_lost_rank", tmp_path, how, timeout=120)
    print(printed)
    found = re.findall(r"^rank (\d) after ([\d.]+) s: (\w+): (.*)$", printed, re.M)
    assert sorted(rank for rank, *_ in found) == ["0", "2"]
    for _, time, kind, text in found:
        assert kind == "RuntimeError"
        assert re.search(message, text)
        assert float(time) < seconds


# --- checkpoints ---------------------------------------------------------------------


def check_loaded(written, sizes):
    """What was saved by some numbers of ranks, and loaded by others."""
    for shape in ((CLASSES, ROW), WHEN_FEW):
        for saved in sizes:
            of_saved = [written[rank][saved]["saved"][shape] for rank in range(saved)]
            centers = torch.cat([shard for _, shard in of_saved])
            assert not torch.equal(centers, first_centers(shape=shape))
            for loaded in sizes:
                found = [written[rank][loaded]["loaded"] for rank in range(loaded)]
                by_dcp = [result["dcp", shape, saved] for result in found]
                assert_shards(by_dcp, centers)
                by_load = [result["folder", shape, saved] for result in found]
                assert_shards([shard[:2] for shard in by_load], centers)
                assert {alpha for *_, alpha in by_load} == {0.25}


def test_loaded_by_another_number_of_ranks(written):
    check_loaded(written, SIZES["gate"])


@pytest.mark.slow
def test_loaded_by_any_other_number_of_ranks(all_written):
    check_loaded(all_written, SIZES["all"])


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
@pytest.mark.parametrize("shape", [(CLASSES, ROW), WHEN_FEW], ids=str)
@pytest.mark.parametrize("size", SIZES["gate"])
def test_loaded_by_one_process(written, folder, shape, size):
    """By NumPy's class, by CenterLoss, and by ShardedCenterLoss."""
    shards = [written[rank][size]["saved"][shape] for rank in range(size)]
    name = f"{shape[0]}-of-{size}"
    other = centerloss.CenterLoss.load(folder / f"folder-{name}")
    assert_shards(shards, torch.from_numpy(other.centers))
    for make in (centerloss.torch.CenterLoss, centerloss.torch.ShardedCenterLoss):
        state = make(*shape).state_dict()
        dcp.load({"loss_fn": state}, checkpoint_id=folder / f"dcp-{name}", no_dist=True)
        loss_fn = make(*shape)
        loss_fn.load_state_dict(state)
        assert_shards(shards, loss_fn.centers)


def test_from_one_process(ranks):
    """A checkpoint of CenterLoss, and a tensor of all centers."""
    loaded = [result["loaded"] for result in ranks]
    assert_shards([result["plain"] for result in loaded], first_centers() + 3)
    assert_shards([result["whole"] for result in loaded], first_centers() + 5)


def test_training_before_the_checkpoints_is_that_of_one_process():
    """Otherwise the checkpoints might hold the first centers."""
    loss_fn = trained(0, None)
    assert not torch.equal(loss_fn.shard, first_centers())


# --- what is exchanged ---------------------------------------------------------------


def test_collectives_and_bytes(ranks):
    """The bytes of labels, centers, rows and headers; sums of all come on top."""
    size = len(ranks)
    collectives = {
        ("rank", "step"): 4,
        ("rank", "eval"): 3,
        ("rank", "update"): 2,
        ("all", "step"): 4,
        ("all", "eval"): 4,
        ("all", "update"): 2,
    }
    for result in ranks:
        for (over, dtype, call), (n, received, distinct) in result["traffic"].items():
            assert n == collectives[over, call]
            labels_and_centers = (8 + 4 * WIDE) * distinct
            rows = (dtype.itemsize * WIDE + 16) * ROWS
            words = {
                "step": labels_and_centers + rows,
                "eval": labels_and_centers,
                "update": rows,
            }[call]
            bound = (size - 1) / size * words + 72 * (size - 1)
            if over == "all" and call != "update":  # values of incomplete runs
                bound += 2 * 8 * ROWS * (size - 1)
            assert received <= bound
            assert received > 0.8 * bound
    assert distinct == min(PER_OWNER * size, ROWS)

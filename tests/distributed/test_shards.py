"""Centers in shards have the bits of one process that has the whole batch.

Losses and gradients, too: those of the whole batch with over="all", and those of the
rank's own rows with over="rank". The ranks are threads.
"""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import centerloss
import centerloss.distributed
from centerloss import CenterLoss
from centerloss.distributed import ShardedCenterLoss
from tests.distributed.cases import (
    DTYPES,
    Case,
    differences_over_threads,
    new_shard,
    split,
    whole_batch,
)
from tests.helpers.batches import bits
from tests.helpers.thread_ranks import run_ranks

pytestmark = pytest.mark.kernels

overs = pytest.mark.parametrize("over", ["rank", "all"])
SIZES = [
    (40,),
    (30, 30),
    (3, 40, 0),
    (11, 0, 2, 60),
    (0, 1500, 700),  # complete and incomplete runs of the ordered sum
    (0, 0),
    (7,) * 9,  # more ranks than classes
]
# Weights, ignored rows, and rows that are not finite.
EXTRAS = [
    {},
    {"weighted": True},
    {"ignored": True},
    {"bad": True},
    {"weighted": True, "ignored": True, "bad": True},
]
SETTINGS = [{}, {"normalize": False, "alpha": 0.1}, {"skip_nonfinite": False}]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@overs
def test_same_bits_as_one_process(sizes, over):
    kinds = itertools.product(DTYPES, ("none", "sum", "mean"))
    extras, others = itertools.cycle(EXTRAS), itertools.cycle(SETTINGS)
    for dtypes, reduction in kinds:
        case = Case(
            sizes,
            classes=5 if len(sizes) > 5 else 30,
            dtypes=dtypes,
            **next(extras),
            settings={"reduction": reduction, "loss_weight": 0.7, **next(others)},
        )
        assert differences_over_threads(case, over) == [], case


cases = st.builds(
    Case,
    st.lists(st.integers(0, 60) | st.integers(900, 1200), min_size=1, max_size=5).map(
        tuple
    ),
    classes=st.integers(1, 100),
    columns=st.integers(0, 9),
    dtypes=st.sampled_from(DTYPES),
    weighted=st.booleans(),
    ignored=st.booleans(),
    bad=st.booleans(),
    settings=st.fixed_dictionaries(
        {
            "reduction": st.sampled_from(["none", "sum", "mean"]),
            "normalize": st.booleans(),
            "skip_nonfinite": st.booleans(),
            "alpha": st.floats(0, 1),
            "loss_weight": st.floats(0, 2),
        }
    ),
    seed=st.integers(0, 1000),
)


@given(cases, st.sampled_from(["rank", "all"]))
@settings(max_examples=60)
@example(Case((2, 3), settings={"loss_weight": 1e308, "reduction": "sum"}), "all")
def test_same_bits_for_random_batches(case, over):
    assert differences_over_threads(case, over) == []


# More than the 32768 rows that are added up at a time. float32 would hide another
# order of the sums.
LONG = [
    Case((41_000,), 3, 2, DTYPES[1]),
    Case((20_000, 25_000), 3, 2, DTYPES[1], weighted=True),
    Case((40_000, 0, 30_001), 300, 3, DTYPES[1], ignored=True),
    Case((9000, 33_000, 1, 8000), 2, 3, DTYPES[1], weighted=True, ignored=True),
]
long = pytest.mark.parametrize("case", LONG, ids=lambda case: str(case.sizes))


@long
@overs
def test_same_bits_for_long_batches(case, over):
    assert differences_over_threads(case, over) == []


@pytest.mark.parametrize("case", LONG[1:], ids=lambda case: str(case.sizes))
def test_long_batches_need_the_places(case, monkeypatch):
    """The control of the test above: it finds sums in another order."""
    update_centers = centerloss.update_centers

    def without_places(*arguments, places, **options):  # noqa: ARG001
        return update_centers(*arguments, **options)

    monkeypatch.setattr(centerloss.distributed, "update_centers_at", without_places)
    assert "centers after step" in differences_over_threads(case, "rank")


def test_a_batch_computed_by_hand():
    """All sums are exact: W, and the counts of the classes plus 1, are powers of 2."""
    x = np.array([[1, 2], [3, -1], [0, 4], [2, 2], [5, 0]], np.float64)
    y, w = np.array([0, 2, 2, 0, 2]), np.array([1, 2, 0, 4, 1])
    c = np.array([[0, 1], [7, 7], [1, -2]], np.float64)
    alpha, weight = Fraction(1, 4), int(w.sum())
    half_squares = [
        Fraction(int(sum((p - c[k]) ** 2)), 2) for p, k in zip(x, y, strict=True)
    ]
    total = sum(int(u) * h for u, h in zip(w, half_squares, strict=True))
    moved = c.copy()
    for k in (0, 2):
        of_class = y == k
        pull = (w[of_class, None] * (x[of_class] - c[k])).sum(axis=0)
        count = 1 + int(w[of_class].sum())
        moved[k] += [float(alpha * int(p) / count) for p in pull]

    def on_rank(comm):
        own = slice(0, 3) if comm.Get_rank() == 0 else slice(3, 5)
        loss_fn = ShardedCenterLoss(
            3, 2, comm, init=lambda a, b: c[a:b].copy(), alpha=alpha
        )
        loss, gradient = loss_fn.step(x[own], y[own], w[own])
        assert loss == float(total / weight)
        assert gradient.tolist() == (w[own, None] * (x[own] - c[y[own]]) / 8).tolist()
        return loss_fn.shard

    assert np.concatenate(run_ranks(2, on_rank)).tolist() == moved.tolist()


def test_without_a_communicator():
    """One process without MPI."""
    case = Case((50,), weighted=True, ignored=True)
    x, y, w, centers = whole_batch(case)
    one, other = new_shard(case, None), CenterLoss(30, 5, init=centers, ignore_index=-1)
    assert bits(one.step(x, y, w)) == bits(other.step(x, y, w))
    assert bits(one.shard) == bits(other.centers)
    assert one.class_range == range(30)


# --- forms of the arguments -----------------------------------------------------------


def shaped(batch, shape):
    """The batch with labels of this shape, and two axes of features for each."""
    x, y, w = batch
    return x.reshape(*shape, 2, -1), y.reshape(shape), w.reshape(shape)


def flat(loss, gradient, rows):
    loss = np.reshape(loss, -1)
    return bits((loss, gradient.reshape(rows, -1)))


@overs
@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_labels_of_several_axes(over, reduction):
    """Each rank may have another number of them, and of the axes of its features."""
    case = Case((6, 12), columns=4, weighted=True, settings={"reduction": reduction})
    shapes = (2, 3), (3, 2, 2)

    def on_rank(comm):
        rank = comm.Get_rank()
        batch, rows = split(case)[rank], case.sizes[rank]
        one, other = (new_shard(case, comm, over=over) for _ in range(2))
        loss, gradient = one.step(*shaped(batch, shapes[rank]))
        assert np.shape(loss) == (shapes[rank] if reduction == "none" else ())
        assert gradient.shape == (*shapes[rank], 2, 2)
        assert flat(loss, gradient, rows) == flat(*other.step(*batch), rows)
        assert bits(one.shard) == bits(other.shard)

    run_ranks(2, on_rank)


def test_lists_and_other_integers():
    case = Case((3, 4), dtypes=DTYPES[1], weighted=True)

    def on_rank(comm):
        x, y, w = split(case)[comm.Get_rank()]
        one, other = (new_shard(case, comm) for _ in range(2))
        batch = (x.tolist(), y.tolist(), w.tolist())
        if comm.Get_rank() == 0:
            batch = (x, y.astype(np.uint8), w.astype(np.float32).astype(np.float64))
            w = batch[-1]
        assert bits(one.step(*batch)) == bits(other.step(x, y, w))
        assert bits(one.shard) == bits(other.shard)

    run_ranks(2, on_rank)


@overs
@pytest.mark.parametrize("name", ["step", "value_and_grad"])
def test_out(over, name):
    case = Case((5, 9), weighted=True)

    def on_rank(comm):
        x, y, w = split(case)[comm.Get_rank()]
        one, other = (new_shard(case, comm, over=over) for _ in range(2))
        out = np.full_like(x, np.nan)
        loss, gradient = getattr(one, name)(x, y, w, out=out)
        assert gradient is out
        assert bits((loss, out)) == bits(getattr(other, name)(x, y, w))

    run_ranks(2, on_rank)


def test_settings_may_be_assigned():
    """They are read in each call, on all ranks."""
    case = Case((8, 5))
    x, y, _, centers = whole_batch(case)
    one = CenterLoss(30, 5, init=centers.copy(), alpha=0.1, reduction="sum")
    loss, _ = one.step(x, y)

    def on_rank(comm):
        loss_fn = new_shard(case, comm)
        loss_fn.alpha, loss_fn.reduction = 0.1, "sum"
        assert loss_fn.step(*split(case)[comm.Get_rank()])[0] == loss
        return loss_fn.shard

    assert bits(np.concatenate(run_ranks(2, on_rank))) == bits(one.centers)


# --- construction ---------------------------------------------------------------------


def shards(ranks, *arguments, **options):
    """The objects of all ranks."""
    return run_ranks(
        ranks,
        lambda comm: ShardedCenterLoss(*arguments, comm, **options),
    )


@pytest.mark.parametrize("classes", [0, 3, 255, 256, 257, 780])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_normal_centers_are_the_same_for_any_number_of_ranks(classes, dtype):
    blocks = [
        np.random.default_rng([7, block]).standard_normal((256, 3), dtype)
        for block in range(4)
    ]
    expected = np.concatenate(blocks)[:classes]
    for ranks in (1, 2, 3, 4, 5):
        found = shards(ranks, classes, 3, seed=7, dtype=dtype)
        assert bits(np.concatenate([one.shard for one in found])) == bits(expected)


def test_zeros():
    for one in shards(3, 5, 2, init="zeros", dtype="float64"):
        assert bits(one.shard) == bits(np.zeros((len(one.class_range), 2)))


def test_defaults():
    one, other = shards(1, 9, 4)[0], shards(1, 9, 4, init="normal", seed=0)[0]
    assert bits(one.shard) == bits(other.shard)
    assert one.shard.dtype == np.float32
    assert (one.num_classes, one.feat_dim, one.num_updated) == (9, 4, 0)


@pytest.mark.parametrize("ranks", [1, 3, 7])
def test_a_function_is_called_once_for_the_classes_of_the_rank(ranks):
    calls = []

    def init(first, last):
        rows = np.full((last - first, 2), first, np.float64)
        calls.append((first, last, rows))
        return rows

    for one in shards(ranks, 5, 2, init=init):
        own = one.class_range
        made = [call for call in calls if call[-1] is one.shard]
        assert [call[:2] for call in made] == [(own.start, own.stop)]
    assert len(calls) == ranks


def test_a_memory_mapped_shard_is_updated_in_its_file(tmp_path):
    case = Case((9, 12))
    x, y, _, centers = whole_batch(case)
    np.save(tmp_path / "centers.npy", centers)

    def on_rank(comm):
        def init(first, last):
            return np.load(tmp_path / "centers.npy", mmap_mode="r+")[first:last]

        loss_fn = ShardedCenterLoss(30, 5, comm, init=init)
        loss_fn.step(*split(case)[comm.Get_rank()])
        assert isinstance(loss_fn.shard, np.memmap)
        loss_fn.shard.flush()

    run_ranks(2, on_rank)
    one = CenterLoss(30, 5, init=centers)
    one.step(x, y)
    assert bits(np.load(tmp_path / "centers.npy")) == bits(one.centers)


def read_only(first, last):
    return np.broadcast_to(np.float32(1), (last - first, 2))


WRONG = {
    "init='uniform'": (
        {"init": "uniform"},
        ValueError,
        "init is 'uniform', expected 'normal', 'zeros' or a function of the first "
        "class and the one after the last",
    ),
    "init=array": (
        {"init": np.zeros(2)},
        TypeError,
        "init is a ndarray, expected 'normal', 'zeros' or a function of the first "
        "class and the one after the last",
    ),
    "a list": (
        {"init": lambda first, last: [first, last]},
        TypeError,
        "init(0, 3) is a list, expected a NumPy array",
    ),
    "shape": (
        {"init": lambda *_: np.ones((3, 4))},
        ValueError,
        "init(0, 3) has shape (3, 4), expected (3, 2)",
    ),
    "integers": (
        {"init": lambda *_: np.ones((3, 2), np.int64)},
        TypeError,
        "init(0, 3) has dtype int64, expected float32 or float64: make it with "
        "init(0, 3).astype(np.float32)",
    ),
    "columns": (
        {"init": lambda *_: np.ones((2, 3)).T},
        ValueError,
        "init(0, 3) has strided rows: each row must be contiguous in memory",
    ),
    "read-only": ({"init": read_only}, ValueError, "init(0, 3) is read-only"),
    "over='one'": (
        {"over": "one"},
        ValueError,
        "over is 'one', expected 'rank' or 'all'",
    ),
    "over=None": ({"over": None}, TypeError, "over is None, expected 'rank' or 'all'"),
    "alpha": ({"alpha": -1}, ValueError, "alpha is -1, expected a finite number >= 0"),
    "seed": ({"seed": 0.5}, TypeError, "seed is 0.5, expected an integer"),
    "dtype": (
        {"dtype": "f2"},
        TypeError,
        "dtype is 'f2', expected float32 or float64",
    ),
    "classes": (
        {"num_classes": -1},
        ValueError,
        "num_classes is -1, expected an integer >= 0",
    ),
    "more classes": (
        {"num_classes": 2**31 + 1},
        ValueError,
        "num_classes is 2147483649, expected at most 2**31 per rank",
    ),
    "comm": (
        {"comm": "world"},
        TypeError,
        "comm is 'world', expected an mpi4py communicator such as "
        "mpi4py.MPI.COMM_WORLD, or None",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments(name):
    options, error, message = WRONG[name]
    arguments = {"num_classes": 3, "feat_dim": 2, "comm": None} | options
    with pytest.raises(error) as caught:
        ShardedCenterLoss(**arguments)
    assert str(caught.value) == message


def test_an_error_of_the_function_is_raised():
    with pytest.raises(ZeroDivisionError):
        ShardedCenterLoss(3, 2, None, init=lambda first, last: first // 0 + last)


@pytest.mark.parametrize(("name", "value"), [("num_classes", 4), ("class_range", 3)])
def test_sizes_cannot_be_assigned(name, value):
    with pytest.raises(AttributeError):
        setattr(ShardedCenterLoss(3, 2, None), name, value)


def test_repr():
    one, other = shards(2, 5, 2, ignore_index=-1, over="rank", dtype="float64")
    assert repr(one) == (
        "<ShardedCenterLoss(5, 2, alpha=0.5, loss_weight=1.0, reduction='mean', "
        "normalize=True, ignore_index=-1, skip_nonfinite=True, over='rank', "
        "dtype='float64') with range(0, 3)>"
    )
    assert repr(other).endswith("with range(3, 5)>")

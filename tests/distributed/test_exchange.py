"""What the ranks exchange: how often, how much, and that they agree before it."""

import functools
import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from centerloss._core import ordered_sum, ordered_sum_of_runs
from centerloss._sharding import Blocks, OneProcess, Shards
from centerloss._sharding.blocks import find_route
from centerloss._sharding.headers import (
    DONE,
    GOOD,
    INCOMPLETE,
    KINDS,
    REFUSED,
    TYPES,
    Header,
    check_headers,
    hashes,
)
from centerloss._sharding.sums import RUN, spans_of, sum_of_ranks, words_to_send
from tests.distributed.cases import DTYPES, Case, new_shard, split, whole_batch
from tests.helpers.thread_ranks import run_ranks

# --- collectives and bytes ------------------------------------------------------------


def calls_counted(case, over, method):
    """The collectives and the bytes received of each rank in one call."""

    def on_rank(comm):
        loss_fn = new_shard(case, comm, over=over)
        method(loss_fn, *split(case)[comm.Get_rank()])
        return comm.collectives, comm.bytes_received

    return run_ranks(case.ranks, on_rank)


CALLS = {
    "call": (lambda loss_fn, *batch: loss_fn(*batch), 3, 4),
    "value_and_grad": (lambda loss_fn, *batch: loss_fn.value_and_grad(*batch), 3, 4),
    "step": (lambda loss_fn, *batch: loss_fn.step(*batch), 4, 4),
    "update": (lambda loss_fn, *batch: loss_fn.update(*batch), 2, 2),
    "init_centers": (lambda loss_fn, x, y, _: loss_fn.init_centers(x, y), 2, 2),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("sizes", [(9,), (4, 30), (5, 0, 12, 900)], ids=str)
def test_number_of_collectives(name, sizes):
    """The same for all batches; with reduction="none", there is no sum of all ranks."""
    call, over_rank, over_all = CALLS[name]
    case = Case(sizes, weighted=True)
    none = case._replace(settings={"reduction": "none"})
    for batches, over, expected in [
        (case, "rank", over_rank),
        (case, "all", over_all),
        (none, "all", over_rank),
    ]:
        counted = calls_counted(batches, over, call)
        assert {collectives for collectives, _ in counted} == {expected}


HEADER = 72  # bytes


def row_bytes(columns, dtype):
    """A row's values, in whole words."""
    size = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}[dtype]
    return -(-columns * size // 8) * 8


def traffic(case):
    """Bytes that each rank receives from others: headers, labels, centers and rows."""
    owners = [case.class_range(rank) for rank in range(case.ranks)]
    counted = [y[y >= 0] for _, y, _ in split(case)]
    rows = [[sum(k in own for k in y.tolist()) for own in owners] for y in counted]
    asked = [
        [sum(k in own for k in set(y.tolist())) for own in owners] for y in counted
    ]
    columns, (x_dtype, dtype) = case.columns, case.dtypes
    for rank in range(case.ranks):
        others = [q for q in range(case.ranks) if q != rank]
        head = 16 if case.weighted else 8
        yield (
            HEADER * len(others),
            8 * sum(asked[q][rank] for q in others),
            row_bytes(columns, dtype) * sum(asked[rank][q] for q in others),
            (head + row_bytes(columns, x_dtype)) * sum(rows[q][rank] for q in others),
        )


def bytes_of_sum(case, rank):
    """What over="all" adds: for each sum, a run's sum, or the values in shared runs."""
    places = np.repeat(np.arange(case.ranks), case.sizes)
    words = 0
    for start in range(0, len(places), 1024):
        ranks, counts = np.unique(places[start : start + 1024], return_counts=True)
        for other, count in zip(ranks, counts, strict=True):
            if other != rank:
                words += 1 if len(ranks) == 1 else count
    return 8 * words


BATCHES = [
    Case((6,)),
    Case((20, 9)),
    Case((0, 3000, 700), weighted=True, ignored=True),
    Case((50, 0, 2, 31), 7, 3, DTYPES[1], weighted=True),
    Case((12, 13), 9, 5, DTYPES[2]),
    Case((5, 9, 7, 2), 3, 6, DTYPES[3], weighted=True),
]
batches = pytest.mark.parametrize("case", BATCHES, ids=lambda case: str(case.sizes))


@batches
def test_bytes_received(case):
    for name, parts in [("call", 3), ("value_and_grad", 3), ("step", 4)]:
        counted = calls_counted(case, "rank", CALLS[name][0])
        assert [n for _, n in counted] == [sum(t[:parts]) for t in traffic(case)]
    counted = calls_counted(case, "rank", CALLS["update"][0])
    assert [n for _, n in counted] == [t[0] + t[-1] for t in traffic(case)]


@batches
def test_bytes_received_over_all(case):
    """A sum of the terms and, if there are weights, one of the weights."""
    sums = 2 if case.weighted else 1
    counted = calls_counted(case, "all", CALLS["step"][0])
    for rank, ((_, received), own) in enumerate(
        zip(counted, traffic(case), strict=True)
    ):
        added = bytes_of_sum(case, rank)
        assert received == sum(own) + sums * added
        others = sum(case.sizes) - case.sizes[rank]
        assert added <= 8 * (1023 * 2 * (case.ranks - 1) + others / 1024)


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("dtypes", DTYPES, ids=str)
def test_bytes_received_are_within_the_bound(ranks, dtypes):
    """With U classes and B rows on each rank, spread evenly over the owners."""
    each, columns, classes = 64, 8, 8 * ranks
    case = Case((each,) * ranks, classes, columns, dtypes, weighted=True)
    batch = whole_batch(case)
    batch[1][:] = np.tile(np.arange(classes), sum(case.sizes) // classes)
    counted = calls_counted(case, "rank", CALLS["step"][0])
    from_others = (ranks - 1) / ranks
    rows = each * (row_bytes(columns, dtypes[0]) + 16)
    centers = classes * (8 + row_bytes(columns, dtypes[1]))
    bound = from_others * (centers + rows) + HEADER * (ranks - 1)
    assert {received for _, received in counted} == {bound}


# --- the ordered sum ------------------------------------------------------------------


def sum_over_ranks(values, counts):
    spans = spans_of(counts)
    parts = np.split(values, np.cumsum(counts)[:-1])
    words = [words_to_send(part, span) for part, span in zip(parts, spans, strict=True)]
    assert [len(of_rank) for of_rank in words] == [span.words() for span in spans]
    return sum_of_ranks(words, spans)


def values_of_all_sizes(n, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal(n) * np.exp(10 * rng.normal(size=n))


sizes = (
    st.integers(0, 5)
    | st.integers(0, 3000)
    | st.sampled_from([1023, 1024, 1025, 2048, 5120])
)


@given(st.lists(sizes, min_size=1, max_size=6), st.integers(0, 100))
@settings(max_examples=60)
def test_sum_of_ranks(counts, seed):
    values = values_of_all_sizes(sum(counts), seed)
    assert sum_over_ranks(values, counts) == ordered_sum(values)


@pytest.mark.parametrize("ranks", [1, 2, 1023, 1024, 2500])
def test_sum_of_a_value_on_each_rank(ranks):
    values = values_of_all_sizes(ranks)
    assert sum_over_ranks(values, [1] * ranks) == ordered_sum(values)


def test_sum_of_ranks_with_nan():
    values = values_of_all_sizes(3000)
    values[1500] = np.nan
    assert math.isnan(sum_over_ranks(values, [1400, 1600]))


def in_c_order(values):
    """The ordered sum by its description in centerloss.h, operation by operation."""
    n = len(values)
    if n > 1024:
        half = -(-(n // 2) // 1024) * 1024
        return in_c_order(values[:half]) + in_c_order(values[half:])
    lanes, others = [0.0] * 8, 0.0
    for i, value in enumerate(values):
        if i < n // 8 * 8:
            lanes[i % 8] += value
        else:
            others += value
    a, b, c, d, e, f, g, h = lanes
    return (((a + e) + (c + g)) + ((b + f) + (d + h))) + others


@pytest.mark.parametrize("n", [0, 1, 9, 1024, 1025, 2047, 2049, 3071, 5000])
def test_runs_are_those_of_the_c(n):
    """The bits of another length of the runs differ."""
    values = values_of_all_sizes(n, n)
    assert ordered_sum(values) == in_c_order(values.tolist())
    runs = [ordered_sum(values[k : k + RUN]) for k in range(0, n, RUN)]
    assert ordered_sum_of_runs(np.array(runs), n) == ordered_sum(values)


# --- headers --------------------------------------------------------------------------

word = st.integers(-(2**63), 2**63 - 1)
byte = st.integers(0, 255)
headers = st.builds(Header, *[byte] * 4, *[word] * 8)


@given(headers)
def test_words_of_a_header(header):
    words = np.array(header.words(), np.int64)
    assert words.nbytes == HEADER
    assert Header.from_words(words.tolist()) == header


def header(settings=(), **values):
    good = Header(GOOD, 0, 0, 0, 3, 2, *hashes(dict(settings)), 5, 5, 1, 2)
    return good._replace(**values)


SETTINGS = {
    "alpha": 0.5,
    "loss_weight": 1.0,
    "reduction": "mean",
    "normalize": True,
    "ignore_index": None,
    "skip_nonfinite": True,
    "over": "all",
}
OTHERS = {
    "alpha": 0.25,
    "loss_weight": 2.0,
    "reduction": "sum",
    "normalize": False,
    "ignore_index": 0,
    "skip_nonfinite": False,
    "over": "rank",
}


@pytest.mark.parametrize(
    "names", [[name] for name in SETTINGS] + [["alpha", "over"], list(SETTINGS)]
)
def test_names_of_settings_that_differ(names):
    other = {
        name: OTHERS[name] if name in names else SETTINGS[name] for name in SETTINGS
    }
    with pytest.raises(ValueError, match="different") as caught:
        check_headers(
            [header(SETTINGS), header(other), header(SETTINGS)], list(SETTINGS)
        )
    assert str(caught.value) == (
        f"the ranks have different settings: {', '.join(names)}; expected the same on "
        "all"
    )


def test_settings_whose_short_hashes_are_the_same():
    """A byte is kept of each setting: which one differs may not be known."""
    one = header(SETTINGS)
    with pytest.raises(ValueError, match="settings: alpha, over; expected"):
        check_headers([one, one._replace(settings=one.settings ^ 1)], ["alpha", "over"])


DISAGREEMENTS = {
    "refused": (
        {"state": REFUSED},
        ValueError,
        "the call is refused on ranks [1] of 2, where the error says why",
    ),
    "incomplete": (
        {"state": INCOMPLETE},
        RuntimeError,
        "the last change of the centers is incomplete on ranks [1] of 2: load a "
        "checkpoint on all ranks",
    ),
    "kind": (
        {"kind": KINDS.index("step")},
        ValueError,
        "the ranks call ['loss', 'step'], expected the same on all",
    ),
    "type": (
        {"type": TYPES.index("float16")},
        ValueError,
        "the batches have dtypes ['float32', 'float16'] on the ranks, expected one",
    ),
    "weighted": (
        {"weighted": 1},
        ValueError,
        "sample_weight is given on ranks [1] of 2, expected on all or none",
    ),
    "classes": (
        {"classes": 4},
        ValueError,
        "(num_classes, feat_dim) is [(3, 2), (4, 2)] on the ranks, expected the same "
        "on all",
    ),
}


@pytest.mark.parametrize("name", DISAGREEMENTS)
def test_disagreements(name):
    values, error, message = DISAGREEMENTS[name]
    with pytest.raises(error) as caught:
        check_headers([header(), header(**values)], [])
    assert str(caught.value) == message


def test_what_may_differ():
    check_headers([header(), header(rows=9, counted=0, state=DONE)], [])


def test_load_is_possible_when_centers_are_incomplete():
    kind = KINDS.index("load")
    check_headers([header(kind=kind), header(kind=kind, state=INCOMPLETE)], [])


# --- owners ---------------------------------------------------------------------------


@given(st.integers(0, 40), st.integers(1, 12))
def test_blocks(classes, ranks):
    """As torch.chunk cuts them; every class has one owner."""
    blocks = Blocks(classes, ranks)
    ranges = [blocks.of(rank) for rank in range(ranks)]
    expected = Case((0,) * ranks, classes)
    assert [range(*ends) for ends in ranges] == [
        expected.class_range(rank) for rank in range(ranks)
    ]
    assert [k for ends in ranges for k in range(*ends)] == list(range(classes))


@given(st.lists(st.integers(-1, 19), max_size=50), st.integers(1, 6))
def test_route(labels, ranks):
    """Rows go to the owners of their classes, in order; ignored rows are not sent."""
    blocks = Blocks(20, ranks)
    route = find_route(np.array(labels, np.int64), blocks)
    order, rows, asked = route.order.tolist(), [], []
    owner_of_asked = np.repeat(np.arange(ranks), route.asked_counts)
    for rank in range(ranks):
        own = range(*blocks.of(rank))
        rows += [i for i, k in enumerate(labels) if k in own]
        asked += [(rank, k - own.start) for k in own if k in labels]
        assert route.row_counts[rank] == sum(k in own for k in labels)
    assert order == rows
    assert (
        list(zip(owner_of_asked.tolist(), route.asked.tolist(), strict=True)) == asked
    )
    for i, k in enumerate(labels):
        position = route.positions[i]
        if k < 0:
            assert position == -1
        else:
            assert asked[position] == (k // blocks.rows, k % blocks.rows)
    assert route.labels.tolist() == [labels[i] % blocks.rows for i in order]


def test_batches_of_more_rows_than_have_a_number(monkeypatch):
    monkeypatch.setattr("centerloss._sharding.shards.MAX_ROWS", 30)
    case = Case((31,))
    with pytest.raises(ValueError, match="the batch has 31 rows, expected at most 2"):
        new_shard(case, None)(*split(case)[0])


def test_a_process_that_has_become_another_rank():
    engines = [OneProcess(), SimpleNamespace(rank=1, size=2)]
    shards = Shards((3, 2), functools.partial(engines.pop, 0))
    with pytest.raises(RuntimeError) as caught:
        _ = shards.engine
    assert str(caught.value) == (
        "this is the shard of rank 0 of 1, but the process is rank 1 of 2 now: save() "
        "on the old ranks, and load() on the new ones"
    )

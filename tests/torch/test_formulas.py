"""Loss, gradient and centers: as the NumPy functions, as other implementations."""

import numpy as np
import pytest
import torch

import centerloss
from centerloss import reference
from centerloss.torch import CenterLoss, _cpu
from tests.torch.batches import (
    DTYPES,
    REDUCTIONS,
    assert_same_bits,
    batch,
    copied,
    dtypes,
    learned_or_not,
    module,
    reductions,
    run,
    same_bits,
)

SETTINGS = [
    {},
    {"loss_weight": 0.25, "alpha": 0.75},
    {"normalize": False, "alpha": 0.125},
    {"ignore_index": 2},
    {"ignore_index": -100},
]
# Every pair of values of two parameters is in one of these 20 cases.
cases = pytest.mark.parametrize(
    ("dtype", "centers_dtype", "reduction", "settings", "weighted"),
    [
        (*DTYPES[j], REDUCTIONS[(i + j) % 3], SETTINGS[i], (i + j) % 2 == 1)
        for i in range(len(SETTINGS))
        for j in range(len(DTYPES))
    ],
)
# Bounds of the rounding errors, relative to the largest number involved.
ROUNDING = {
    torch.float64: 1e-13,
    torch.float32: 2e-6,
    torch.float16: 2**-10,
    torch.bfloat16: 2**-7,
}


def with_ignored(labels, ignore_index):
    """Every fourth row ignored."""
    if ignore_index is None:
        return labels
    return labels.clone().index_fill_(0, torch.arange(0, len(labels), 4), ignore_index)


def assert_near(ours, expected, dtype):
    expected = np.asarray(expected, np.float64)
    largest = abs(expected).max(initial=1.0)
    error = abs(copied(ours).astype(np.float64) - expected).max(initial=0.0)
    assert error <= ROUNDING[dtype] * largest


@cases
def test_same_numbers_as_the_numpy_functions(
    path, device, dtype, centers_dtype, reduction, settings, weighted
):
    """Near those of the reference; in C bit by bit those of the C functions."""
    loss_fn = module(dtype=centers_dtype, reduction=reduction, **settings)
    embeddings, labels, weights = batch(dtype=dtype)
    labels = with_ignored(labels, loss_fn.ignore_index)
    weights = weights if weighted else None
    x, y, before = copied(embeddings), copied(labels), copied(loss_fn.centers)
    w = copied(weights) if weighted else None
    given = {"reduction": reduction, "sample_weight": w, **settings}
    c, c_reference = before.copy(), before.copy()
    loss, gradient = centerloss.step(x, y, c, **given)
    expected = reference.step(x, y, c_reference, **given)

    ours, ours_gradient, centers = run(loss_fn, embeddings, labels, weights)

    assert (ours.dtype, ours_gradient.dtype) == (centers_dtype, dtype)
    if path == "C" and device == "cpu":
        assert same_bits(ours, torch.as_tensor(loss, dtype=centers_dtype))
        assert copied(ours_gradient).tobytes() == gradient.tobytes()
        assert copied(centers).tobytes() == c.tobytes()
    assert_near(ours, expected[0], centers_dtype)
    assert_near(ours_gradient, expected[1].astype(np.float64), dtype)
    assert_near(centers, c_reference, centers_dtype)
    assert not np.array_equal(copied(centers), before)
    assert loss_fn.num_updated == len(set(y.tolist()) - {loss_fn.ignore_index})


@reductions
def test_a_gradient_for_the_weights_changes_neither_loss_nor_centers(reduction):
    """The module then uses PyTorch's operations."""
    expected = run(module(reduction=reduction), *batch())
    ours = run(module(reduction=reduction), *batch(learned=True))
    for a, b in zip(ours, expected, strict=True):
        assert_near(a, copied(b), torch.float32)


@pytest.mark.parametrize("needs_gradient", [False, True])
def test_weights_in_bfloat16(needs_gradient):
    """A dtype that NumPy lacks."""
    embeddings, labels, weights = batch()
    weights = weights.bfloat16().requires_grad_(needs_gradient)
    results = []
    for given in (weights, weights.float()):
        loss_fn = module()
        loss = loss_fn(embeddings, labels, given)
        loss_fn.update(embeddings, labels, given)
        results.append((loss.detach(), loss_fn.centers))
    assert_same_bits(*results)


@learned_or_not
@pytest.mark.parametrize("shape", [(2, 3, 2, 2), (2, 12), (2, 3, 4), (2, 12, 1)])
def test_rows_of_any_shape(learned, shape):
    source, labels, weights = batch(2, 12, learned=learned)
    expected = run(module(12), source, labels, weights)
    embeddings = source.detach().reshape(shape).requires_grad_()
    loss, gradient, centers = run(module(12), embeddings, labels, weights)
    assert gradient.shape == shape
    assert_same_bits((loss, gradient.reshape(2, 12), centers), expected)


@reductions
@learned_or_not
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("auto_update", [True, False])
def test_a_loss_beyond_the_range_of_float32(reduction, learned, training, auto_update):
    """Infinity, with a gradient within the range; the centers move."""
    rows = torch.full((4, 8), 1e20).requires_grad_()
    labels, weights = torch.arange(4), torch.ones(4, requires_grad=learned)
    loss_fn = CenterLoss(10, 8, init="zeros", reduction=reduction)
    loss_fn.auto_update = auto_update
    loss, gradient, centers = run(loss_fn.train(training), rows, labels, weights)
    assert loss.dtype is torch.float32
    assert (loss == torch.inf).all()
    assert torch.equal(gradient, rows.detach() / (4 if reduction == "mean" else 1))
    moved = 4 if training and auto_update else 0
    assert loss_fn.num_updated == moved
    assert torch.equal(centers[:moved], rows.detach()[:moved] / 4)
    assert not centers[moved:].any()


@pytest.mark.parametrize("loss", [3.4e38, 1e39, float("inf"), float("nan"), -0.0, 7.0])
def test_losses_from_c_are_rounded_as_arrays_are(loss):
    with np.errstate(over="ignore"):
        expected = torch.from_numpy(np.array(loss).astype(np.float32))
    ours = _cpu.loss_tensor(loss, torch.zeros(1))
    assert same_bits(ours, expected)
    wide = torch.tensor(loss, dtype=torch.float64)
    assert same_bits(_cpu.loss_tensor(loss, wide), wide)


LAYOUTS = {
    "transposed": lambda x: x.t().contiguous().t(),
    "every second column": lambda x: x.repeat_interleave(2, 1)[:, ::2],
    "every second row": lambda x: x.repeat_interleave(2, 0)[::2],
    "not aligned to a cache line": lambda x: torch.cat([x.new_zeros(1), x.flatten()])[
        1:
    ].view_as(x),
    "expanded rows": lambda x: x[:1].expand_as(x),
    "expanded columns": lambda x: x[:, :1].expand_as(x),
    "channels last": lambda x: x.reshape(-1, 3, 2, 1).contiguous(
        memory_format=torch.channels_last
    ),
}


@learned_or_not
@dtypes
@pytest.mark.parametrize("layout", LAYOUTS)
def test_same_bits_for_any_layout(layout, dtype, centers_dtype, learned):
    x, labels, weights = batch(dtype=dtype, learned=learned)
    view = LAYOUTS[layout](x.detach())
    packed = view.clone(memory_format=torch.contiguous_format)
    assert view.stride() != packed.stride() or view.storage_offset() > 0
    ours, expected = (
        run(module(dtype=centers_dtype), given.requires_grad_(), labels, weights)
        for given in (view, packed)
    )
    assert_same_bits(ours, expected)


@learned_or_not
@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "int16", "int32", "uint16", "uint32", "uint64"]
)
def test_labels_of_any_integer_dtype_and_layout(dtype, learned):
    x, labels, weights = batch(learned=learned)
    expected = run(module(ignore_index=3), x, labels, weights)
    loss_fn = module(ignore_index=3)
    given = labels.to(getattr(torch, dtype))
    given = torch.stack([given, given], dim=1)[:, 0]
    assert not given.is_contiguous()
    ours = run(loss_fn, x, given, weights)
    assert_same_bits(ours, expected)
    assert loss_fn.num_updated == len(set(labels.tolist()) - {3})


@learned_or_not
@pytest.mark.parametrize(
    ("dtype", "label", "ignore_index"), [("uint8", 255, -1), ("int8", -1, 255)]
)
def test_a_label_is_not_ignored_by_a_number_with_the_same_bits(
    dtype, label, ignore_index, learned
):
    x, labels, weights = batch(5, learned=learned)
    labels[1] = label
    given = labels.to(getattr(torch, dtype))
    loss_fn = module(ignore_index=ignore_index)
    before = loss_fn.centers.clone()
    with pytest.raises(IndexError, match=rf"labels\[1\] is {label}, but there are 7"):
        loss_fn(x, given, weights)
    assert same_bits(loss_fn.centers, before)
    assert loss_fn.num_updated == 0


@learned_or_not
def test_no_label_is_ignored_by_a_number_out_of_range_of_its_dtype(learned):
    """256 is 0 in eight bits."""
    x, labels, weights = batch(learned=learned)
    expected = run(module(), x, labels, weights)
    ours = run(module(ignore_index=256), x, labels.to(torch.uint8), weights)
    assert_same_bits(ours, expected)


@learned_or_not
@reductions
@pytest.mark.parametrize("kind", ["no rows", "all ignored", "no weight"])
def test_batches_without_rows_that_count(kind, reduction, learned):
    """Loss and gradient are zero, and no center moves."""
    rows = 0 if kind == "no rows" else 5
    x, labels, weights = batch(rows, learned=learned)
    if kind == "all ignored":
        labels = torch.full_like(labels, -1)
        x = torch.full_like(x, torch.nan, requires_grad=True)
    if kind == "no weight":
        weights = torch.zeros(rows, requires_grad=learned)
    loss_fn = module(reduction=reduction, ignore_index=-1)
    before = loss_fn.centers.clone()
    loss, gradient, centers = run(loss_fn, x, labels, weights)
    assert torch.equal(loss, torch.zeros(rows if reduction == "none" else ()))
    assert torch.equal(gradient, torch.zeros(rows, 6))
    assert torch.equal(centers, before)


@learned_or_not
@pytest.mark.usefixtures("path")
@pytest.mark.parametrize(("classes", "row"), [(0, 3), (3, 0)])
def test_sizes_of_zero(classes, row, learned):
    rows = 0 if classes == 0 else 2
    x = torch.empty(rows, row, requires_grad=True)
    labels, weights = torch.arange(rows), torch.ones(rows, requires_grad=learned)
    loss, gradient, _ = run(CenterLoss(classes, row), x, labels, weights)
    assert loss == 0
    assert gradient.shape == (rows, row)


@learned_or_not
def test_nan_and_infinity_stay_in_their_row_and_class(learned):
    x, _, weights = batch(learned=learned)
    labels = torch.arange(24) % 6
    changed = x.detach().clone()
    changed[4] = torch.nan  # class 4 has rows 10, 16 and 22 too
    changed[9] = torch.inf  # class 3
    settings = {"reduction": "none", "skip_nonfinite": False}
    clean = run(module(**settings), x, labels, weights)
    ours = run(module(**settings), changed.requires_grad_(), labels, weights)
    rows = torch.tensor([i for i in range(24) if i not in (4, 9)])
    classes = torch.tensor([0, 1, 2, 5, 6])
    assert ours[0][4].isnan()
    assert ours[0][9] == torch.inf
    assert ours[2][4].isnan().all()
    assert same_bits(ours[0][rows], clean[0][rows])
    assert same_bits(ours[1][rows], clean[1][rows])
    assert same_bits(ours[2][classes], clean[2][classes])


@learned_or_not
def test_mean_of_nan_rows_without_weight_is_zero(learned):
    """As with `centerloss.loss`."""
    x = torch.full((3, 6), torch.nan, requires_grad=True)
    weights = torch.zeros(3, requires_grad=learned)
    assert module()(x, torch.arange(3), weights) == 0


# --- common implementations, written anew --------------------------------------------


def eq_4(x, y, c):
    """The paper's delta: dense sums, divided by counts that start at 1."""
    sums, counts = torch.zeros_like(c), torch.ones(len(c), dtype=c.dtype)
    sums.index_add_(0, y, c.index_select(0, y) - x)
    counts.scatter_add_(0, y, torch.ones(len(y), dtype=c.dtype))
    return sums / counts[:, None]


class _CountedCenters(torch.autograd.Function):
    """A loss whose gradient by the centers is replaced by Eq. 4, over ``size``."""

    @staticmethod
    def forward(ctx, x, y, c, size):
        ctx.save_for_backward(x, y, c)
        ctx.size = size
        return (x - c.index_select(0, y)).pow(2).sum() / 2 / size

    @staticmethod
    def backward(ctx, grad):
        x, y, c = ctx.saved_tensors
        d = x - c.index_select(0, y)
        return grad * d / ctx.size, None, eq_4(x, y, c) / ctx.size, None


def jxgu1016(x, y, c, lam, alpha):
    """Mean of the halved squares; SGD on Eq. 4, divided by the batch size again."""
    return descend(_CountedCenters.apply(x, y, c, len(x)), lam, x, c, alpha)


def catalyst(x, y, c, lam, alpha):
    """Sum of the halved squares; SGD on Eq. 4."""
    return descend(_CountedCenters.apply(x, y, c, 1), lam, x, c, alpha)


def kaiyang(x, y, c, lam, alpha):
    """A B x K matrix of squared distances and a mask; SGD on the true gradient.

    Its clamp to 1e-12 and 1e12 is left out.
    """
    distances = (x[:, None] - c).pow(2).sum(2)
    mask = y[:, None] == torch.arange(len(c))
    return descend((distances * mask).sum() / len(x), lam, x, c, alpha)


def louis_she(x, y, c, lam, alpha):
    """Mean over rows and features; the user subtracts Eq. 4."""
    return subtract_eq_4((x - c[y]).pow(2).mean(), lam, x, y, c, alpha)


def metric_learning(x, y, c, lam, alpha):
    """Half squares of each row, averaged by a reducer; Eq. 4 on request."""
    return subtract_eq_4((x - c[y]).pow(2).sum(1).mean() / 2, lam, x, y, c, alpha)


def subtract_eq_4(loss, lam, x, y, c, alpha):
    (gradient,) = torch.autograd.grad(lam * loss, x)
    with torch.no_grad():
        return lam * loss, gradient, c - alpha * eq_4(x, y, c)


def descend(loss, lam, x, c, alpha):
    """Gradient of the weighted loss; one step of plain SGD on the centers."""
    gradient, for_centers = torch.autograd.grad(lam * loss, [x, c])
    return lam * loss.detach(), gradient, c.detach() - alpha * for_centers


# Equivalent loss_weight, alpha and other settings: the page "Which center loss?".
SUMS = {"normalize": False}
CONVERSIONS = {
    jxgu1016: lambda lam, alpha, rows, _: (lam, alpha / rows, {}),
    kaiyang: lambda lam, alpha, rows, _: (2 * lam, 2 * lam * alpha / rows, SUMS),
    louis_she: lambda lam, alpha, _, row: (2 * lam / row, alpha, {}),
    catalyst: lambda lam, alpha, *_: (lam, alpha, {"reduction": "sum"}),
    metric_learning: lambda lam, alpha, *_: (lam, alpha, {}),
}


@pytest.mark.parametrize("copy", CONVERSIONS)
@pytest.mark.parametrize(("lam", "alpha"), [(1.0, 0.5), (0.03, 0.4)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_formulas_of_common_implementations(copy, lam, alpha, dtype):
    """Within 1e-6 over five steps that change embeddings and centers."""
    rows, row = 30, 5
    x, y, _ = batch(rows, row, dtype=dtype)
    loss_weight, rate, other = CONVERSIONS[copy](lam, alpha, rows, row)
    settings = {"loss_weight": loss_weight, "alpha": rate, "dtype": dtype, **other}
    loss_fn = module(row, **settings)
    theirs_x, theirs_c = x.detach(), loss_fn.centers.clone()
    ours_x = x.detach()
    for _ in range(5):
        ours_x, theirs_x = ours_x.requires_grad_(), theirs_x.requires_grad_()
        theirs_c.requires_grad_()
        theirs, gradient, theirs_c = copy(theirs_x, y, theirs_c, lam, alpha)
        loss, ours_gradient, centers = run(loss_fn, ours_x, y)
        close = {"rtol": 1e-6, "atol": 1e-6}
        torch.testing.assert_close(loss, theirs, **close)
        torch.testing.assert_close(ours_gradient, gradient, **close)
        torch.testing.assert_close(centers, theirs_c, **close)
        ours_x = ours_x.detach() - 0.1 * ours_gradient
        theirs_x = theirs_x.detach() - 0.1 * gradient


class Subclass(torch.Tensor):
    """A tensor whose operations PyTorch dispatches, so it has to find operators."""


@pytest.mark.parametrize("auto_update", [True, False])
def test_subclasses_of_tensors_go_through_the_operators(auto_update):
    embeddings, labels, _ = batch()
    wrapped = embeddings.detach().as_subclass(Subclass).requires_grad_()
    plain, other = module(auto_update=auto_update), module(auto_update=auto_update)
    loss, expected = other(wrapped, labels), plain(embeddings, labels)
    loss.backward()
    expected.backward()
    with torch.no_grad():
        assert same_bits(other(wrapped, labels), plain(embeddings, labels))
    assert other.update(wrapped, labels) == plain.update(embeddings, labels)
    assert same_bits(loss, expected)
    assert same_bits(wrapped.grad, embeddings.grad)
    assert same_bits(other.centers, plain.centers)

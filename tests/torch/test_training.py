"""Training: compiled, in mixed precision, with checkpointing, threads and loaders."""

import os
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from torch.nn.functional import cross_entropy  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

import centerloss  # noqa: E402
from centerloss.torch import CenterLoss  # noqa: E402
from tests.torch import isolated_worker  # noqa: E402
from tests.torch.batches import (  # noqa: E402
    DTYPES,
    batch,
    copied,
    module,
    same_bits,
)

# Warnings about PyTorch's own code, when it compiles.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.torch.jit.script. is deprecated:DeprecationWarning",
    "ignore:.torch.jit.script_method. is deprecated:DeprecationWarning",
)


# --- compiled ------------------------------------------------------------------------


@pytest.fixture
def compiling():
    """torch.compile without graphs of earlier tests."""
    torch._dynamo.reset()
    yield torch.compile
    torch._dynamo.reset()


def one_call(loss_fn, call, dtype, weighted=True):
    """Loss, gradient, centers and the number of those that moved."""
    embeddings, labels, weights = batch(dtype=dtype)
    loss = call(embeddings, labels, weights if weighted else None)
    if loss.requires_grad:
        loss.sum().backward()
    return loss, embeddings.grad, loss_fn.centers, loss_fn.num_updated


def assert_same(ours, expected):
    for a, b in zip(ours[:-1], expected[:-1], strict=True):
        assert (a is b is None) or same_bits(a, b)
    assert ours[-1] == expected[-1]


@pytest.mark.parametrize(
    ("dtype", "centers_dtype", "reduction"),
    [
        (*DTYPES[0], "mean"),
        (*DTYPES[0], "none"),
        (*DTYPES[1], "sum"),
        (*DTYPES[2], "none"),
        (*DTYPES[3], "mean"),
    ],
)
def test_compiled_in_one_graph(compiling, dtype, centers_dtype, reduction):
    """Same bits as an eager call, in training and in eval mode."""
    settings = {"reduction": reduction, "ignore_index": 2, "dtype": centers_dtype}
    loss_fn, eager = module(**settings), module(**settings)
    call = compiling(loss_fn, fullgraph=True, backend="aot_eager")
    assert_same(one_call(loss_fn, call, dtype), one_call(eager, eager, dtype))
    assert not torch.equal(loss_fn.centers, module(dtype=centers_dtype).centers)
    loss_fn.eval(), eager.eval()
    assert_same(one_call(loss_fn, call, dtype), one_call(eager, eager, dtype))
    with torch.no_grad():
        assert_same(one_call(loss_fn, call, dtype), one_call(eager, eager, dtype))


# Between two graphs, Dynamo reads .grad of a tensor that is not a leaf.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_compiled_with_weights_that_need_a_gradient(compiling):
    """In more than one graph, and with the same numbers."""
    embeddings, labels, weights = batch()
    weights.requires_grad_()
    loss_fn, eager = module(), module()
    call = compiling(loss_fn, backend="aot_eager")
    results = []
    for run in (call, eager):
        loss = run(embeddings, labels, weights)
        results.append([loss, *torch.autograd.grad(loss, [embeddings, weights])])
    torch.testing.assert_close(*results)
    assert same_bits(loss_fn.centers, eager.centers)


@pytest.mark.parametrize(
    ("name", "value"), [("alpha", 0.125), ("loss_weight", 3.0), ("reduction", "sum")]
)
def test_compiled_with_settings_that_change(compiling, name, value):
    """They are constants of the graph, and a new value is noticed."""
    embeddings, labels, _ = batch()
    loss_fn, eager = module(), module()
    call = compiling(loss_fn, fullgraph=True, backend="aot_eager")
    for _ in range(2):
        assert same_bits(call(embeddings, labels), eager(embeddings, labels))
        assert same_bits(loss_fn.centers, eager.centers)
        setattr(loss_fn, name, value)
        setattr(eager, name, value)
    assert same_bits(call(embeddings, labels), eager(embeddings, labels))


def test_compiled_between_explicit_updates(compiling):
    """The compiled call reads the current centers."""
    embeddings, labels, _ = batch()
    loss_fn, eager = module(auto_update=False), module(auto_update=False)
    call = compiling(loss_fn, fullgraph=True, backend="aot_eager")
    for _ in range(2):
        assert same_bits(call(embeddings, labels), eager(embeddings, labels))
        assert loss_fn.update(embeddings, labels) == eager.update(embeddings, labels)


def test_batches_of_any_size_compile_a_bounded_number_of_times(compiling):
    """At most four times: one size, any size, one row, no rows."""
    from torch._dynamo.testing import CompileCounter

    backend = CompileCounter()
    loss_fn, eager = module(), module()
    call = compiling(loss_fn, fullgraph=True, backend=backend)
    for rows in (24, 23, 7, 100, 1, 0, 24, 5, 1, 64, 3, 0):
        embeddings, labels, _ = batch(rows)
        assert same_bits(call(embeddings, labels), eager(embeddings, labels))
    assert same_bits(loss_fn.centers, eager.centers)
    assert 1 <= backend.frame_count <= 4


def test_compiled_call_raises_and_changes_nothing(compiling):
    loss_fn = module()
    call = compiling(loss_fn, fullgraph=True, backend="aot_eager")
    embeddings, labels, _ = batch()
    labels[5] = 7
    with pytest.raises(IndexError, match="^labels\\[5\\] is 7, but there are 7 class"):
        call(embeddings, labels)
    assert torch.equal(loss_fn.centers, module().centers)


class Network(torch.nn.Module):
    """Embeddings and logits."""

    def __init__(self, inputs=8, row=6, classes=7):
        super().__init__()
        self.body = torch.nn.Sequential(
            torch.nn.Linear(inputs, 32), torch.nn.PReLU(), torch.nn.Linear(32, row)
        )
        self.head = torch.nn.Linear(row, classes)

    def forward(self, x):
        """Return embeddings and logits."""
        embeddings = self.body(x)
        return embeddings, self.head(embeddings)


def trained(compiled=None, steps=6):
    """Losses and centers of a short training, the last batch smaller."""
    torch.manual_seed(0)
    network, loss_fn = Network(), module(loss_weight=0.1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)

    def objective(x, y):
        embeddings, logits = network(x)
        return cross_entropy(logits, y) + loss_fn(embeddings, y)

    call = objective
    if compiled is not None:
        call = compiled(objective, fullgraph=True, dynamic=True)
    losses = []
    for step in range(steps):
        rows = 32 if step % 3 != 2 else 11
        x, y = torch.randn(rows, 8), torch.randint(0, 6, (rows,))
        optimizer.zero_grad()
        loss = call(x, y)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses), loss_fn.centers


def test_network_and_loss_compiled_together(compiling):
    """By the default backend, to C++, for batches of any size."""
    for ours, expected in zip(trained(compiling), trained(), strict=True):
        torch.testing.assert_close(ours, expected)


def test_compiled_call_makes_no_copy_of_the_centers(compiling):
    """Centers of 100 MB: no second buffer of that size at any time."""
    loss_fn = CenterLoss(200_000, 128, init="zeros")
    address, size = loss_fn.centers.data_ptr(), loss_fn.centers.nbytes
    call = compiling(loss_fn, fullgraph=True)
    embeddings, labels, _ = batch(24, 128)
    call(embeddings, labels).backward()
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as seen:
        call(embeddings, labels).backward()
    allocated = [event.self_cpu_memory_usage for event in seen.events()]
    assert 24 * 128 * 4 <= max(allocated) < size / 100
    assert loss_fn.centers.data_ptr() == address
    assert loss_fn.centers.any()


# --- mixed precision -----------------------------------------------------------------


def test_autocast_to_bfloat16():
    """Embeddings in bfloat16 are passed to C without a copy; the loss is float32."""
    torch.manual_seed(0)
    network, loss_fn = Network(), module()
    expected = module()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    x, y = torch.randn(64, 8), torch.randint(0, 7, (64,))
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            embeddings, logits = network(x)
            center_loss = loss_fn(embeddings, y)
            loss = cross_entropy(logits, y) + center_loss
        assert embeddings.dtype is torch.bfloat16
        assert center_loss.dtype is torch.float32
        centerloss.step(copied(embeddings), y.numpy(), expected.centers.numpy())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert same_bits(loss_fn.centers, expected.centers)
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
def test_grad_scaler(dtype):
    """Gradients of 1e-3 / 256 * d underflow in float16, but not after scaling."""
    rows = 256
    embeddings, labels, _ = batch(rows, dtype=dtype)
    loss_fn = module(loss_weight=1e-3)
    d = embeddings.detach().double() - loss_fn.centers[labels].double()
    expected = 1e-3 / rows * d * 2.0**16
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    scaler.scale(loss_fn(embeddings, labels)).backward()
    rounding = torch.finfo(dtype).eps
    torch.testing.assert_close(
        embeddings.grad.double(), expected, rtol=2 * rounding, atol=1e-5
    )
    assert same_bits(loss_fn.centers, updated(dtype, rows))


def updated(dtype, rows):
    loss_fn = module()
    loss_fn.update(*batch(rows, dtype=dtype)[:2])
    return loss_fn.centers


def test_training_with_a_grad_scaler():
    """It unscales, and skips the steps whose gradients overflow."""
    torch.manual_seed(0)
    network, loss_fn = torch.nn.Linear(8, 6), module(loss_weight=10.0)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**17)
    x, y = torch.randn(64, 8), torch.randint(0, 7, (64,))
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.float16):
            embeddings = network(x)
            loss = loss_fn(embeddings, y)
        assert embeddings.dtype is torch.float16
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    assert scaler.get_scale() < 2.0**17
    assert losses[-1] < losses[0] / 2


# --- accumulation, checkpointing, loaders, threads -----------------------------------


def test_gradient_accumulation():
    """Gradients of two halves add up; centers are updated by each half."""
    embeddings, labels, _ = batch()
    still = module(auto_update=False, reduction="sum")
    still(embeddings, labels).backward()
    expected, embeddings.grad = embeddings.grad, None
    for half in (slice(0, 10), slice(10, 24)):
        still(embeddings[half], labels[half]).backward()
    assert same_bits(embeddings.grad, expected)

    moving, by_hand = module(), module()
    for half in (slice(0, 10), slice(10, 24)):
        moving(embeddings[half], labels[half]).backward()
        by_hand.update(embeddings[half], labels[half])
    assert same_bits(moving.centers, by_hand.centers)


def test_gradient_accumulation_with_one_update():
    embeddings, labels, _ = batch()
    loss_fn, expected = module(auto_update=False), module()
    for half in (slice(0, 10), slice(10, 24)):
        loss_fn(embeddings[half], labels[half]).backward()
    loss_fn.update(embeddings, labels)
    expected(embeddings, labels)
    assert same_bits(loss_fn.centers, expected.centers)


def test_checkpointing_of_the_network():
    """The network's forward pass runs twice, the loss once: one update."""
    torch.manual_seed(0)
    network, runs = Network(), []
    network.body.register_forward_pre_hook(lambda *_: runs.append(1))
    x, y = torch.randn(24, 8), torch.randint(0, 7, (24,))
    grads, centers = [], []
    for again in (False, True):
        network.zero_grad()
        loss_fn = module()
        rows = (
            checkpoint(network.body, x, use_reentrant=False)
            if again
            else network.body(x)
        )
        loss_fn(rows, y).backward()
        grads.append(network.body[0].weight.grad.clone())
        centers.append(loss_fn.centers)
    assert len(runs) == 3
    assert same_bits(*centers)
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize("auto_update", [True, False])
def test_checkpointing_of_the_loss_itself(auto_update):
    """It runs twice: two updates, or none with `auto_update=False`."""
    embeddings, labels, _ = batch()
    loss_fn = module(auto_update=auto_update)
    twice = module(auto_update=False)
    checkpoint(loss_fn, embeddings, labels, use_reentrant=False).backward()
    if auto_update:
        twice.update(embeddings, labels)
        twice.update(embeddings, labels)
    assert same_bits(loss_fn.centers, twice.centers)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_workers_of_a_loader():
    """In a fresh interpreter: the module in the parent and in workers."""
    done = subprocess.run(
        [sys.executable, isolated_worker.__file__],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "True True\n"


@pytest.fixture
def threads():
    """A function that sets both numbers of threads; they are restored afterwards."""
    before = torch.get_num_threads(), centerloss.get_num_threads()

    def set_both(torch_threads, our_threads):
        torch.set_num_threads(torch_threads)
        centerloss.set_num_threads(our_threads)

    yield set_both
    set_both(*before)


def test_same_bits_on_any_number_of_threads(threads):
    """PyTorch's threads and ours, in a batch that is large enough for several."""
    results = []
    for numbers in [(1, 1), (2, 1), (1, 2), (2, 4)]:
        threads(*numbers)
        embeddings, labels, weights = batch(4100, 128, 900)
        loss_fn = module(128, 900)
        loss = loss_fn(embeddings, labels, weights)
        (2 * loss).backward()
        results.append((loss.detach(), embeddings.grad, loss_fn.centers))
    for other in results[1:]:
        pairs = zip(other, results[0], strict=True)
        assert [same_bits(a, b) for a, b in pairs] == [True] * 3


# --- the purpose: compact classes ----------------------------------------------------


def scatter(x, y):
    """Scatter within the classes over scatter between them."""
    means = np.stack([x[y == j].mean(0) for j in range(10)])
    within = np.square(x - means[y]).sum(1).mean()
    return within / np.square(means[y] - x.mean(0)).sum(1).mean()


def digits_after_training(loss_weight):
    """Scatter and accuracy on the test half."""
    images, labels = pytest.importorskip(
        "sklearn.datasets", reason="scikit-learn is not installed"
    ).load_digits(return_X_y=True)
    x, y = torch.from_numpy(images).float() / 16, torch.from_numpy(labels)
    torch.manual_seed(0)
    network = Network(64, 2, 10)
    loss_fn = CenterLoss(10, 2, loss_weight=loss_weight, init="zeros")
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(20):
        for rows in torch.randperm(900).split(64):
            embeddings, logits = network(x[rows])
            loss = cross_entropy(logits, y[rows]) + loss_fn(embeddings, y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        embeddings, logits = network(x[900:])
    right = (logits.argmax(1) == y[900:]).double().mean().item()
    return scatter(embeddings.double().numpy(), labels[900:]), right


def test_classes_become_compact(threads):
    """On handwritten digits: more compact than softmax alone, as accurate."""
    threads(1, 1)  # faster for so small a network
    softmax_alone, right_alone = digits_after_training(0.0)
    ours, right = digits_after_training(0.3)
    assert ours < 0.7 * softmax_alone
    assert right > max(0.8, right_alone)

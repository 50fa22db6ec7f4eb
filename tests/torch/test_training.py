"""Training: compiled, in mixed precision, with checkpointing, threads and loaders."""

import os
from functools import partial

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

import centerloss
from centerloss.torch import CenterLoss
from tests.helpers.processes import run_module
from tests.torch.batches import (
    DTYPES,
    assert_same_bits,
    batch,
    copied,
    module,
    reductions,
    run,
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


@pytest.fixture
def pair(compiling):
    """A function that returns a compiled module, and the same one that is not."""

    def make(backend="aot_eager", fullgraph=True, **settings):
        compiled = compiling(module(**settings), backend=backend, fullgraph=fullgraph)
        return compiled, module(**settings)

    return make


def one_call(loss_fn, dtype):
    """Loss, gradient, centers and the number of those that moved."""
    embeddings, labels, weights = batch(dtype=dtype)
    loss = loss_fn(embeddings, labels, weights)
    updated = torch.tensor(loss_fn.num_updated)
    if not loss.requires_grad:
        return loss, loss_fn.centers, updated
    loss.sum().backward()
    return loss, embeddings.grad, loss_fn.centers, updated


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
def test_compiled_in_one_graph(pair, dtype, centers_dtype, reduction):
    """Same bits as an eager call, in training and in eval mode."""
    loss_fn, eager = pair(reduction=reduction, ignore_index=2, dtype=centers_dtype)
    assert_same_bits(one_call(loss_fn, dtype), one_call(eager, dtype))
    assert not torch.equal(loss_fn.centers, module(dtype=centers_dtype).centers)
    loss_fn.eval(), eager.eval()
    assert_same_bits(one_call(loss_fn, dtype), one_call(eager, dtype))
    with torch.no_grad():
        assert_same_bits(one_call(loss_fn, dtype), one_call(eager, dtype))


# This backend decides what to save for the backward pass as Inductor does.
PARTITIONS = "aot_eager_decomp_partition"


@pytest.fixture
def as_elsewhere(monkeypatch):
    """Operators compute as on devices other than the CPU."""
    monkeypatch.setattr("centerloss.torch._ops._in_c", lambda _: False)


@pytest.mark.usefixtures("as_elsewhere")
@pytest.mark.parametrize(
    ("dtype", "centers_dtype", "reduction"),
    [(*DTYPES[1], "mean"), (*DTYPES[2], "mean"), (*DTYPES[3], "none")],
)
def test_compiled_in_one_graph_elsewhere(pair, dtype, centers_dtype, reduction):
    """In training and in eval mode, with weights and ignored rows."""
    settings = {"reduction": reduction, "ignore_index": 2, "dtype": centers_dtype}
    loss_fn, eager = pair(PARTITIONS, **settings)
    torch.testing.assert_close(one_call(loss_fn, dtype), one_call(eager, dtype))
    assert not torch.equal(loss_fn.centers, module(dtype=centers_dtype).centers)
    loss_fn.eval(), eager.eval()
    torch.testing.assert_close(one_call(loss_fn, dtype), one_call(eager, dtype))


@pytest.mark.usefixtures("device")
def test_compiled_on_each_device(pair):
    loss_fn, eager = pair(PARTITIONS)
    embeddings, labels, weights = batch(learned=False)
    for _ in range(2):
        ours = run(loss_fn, embeddings, labels, weights)
        torch.testing.assert_close(ours, run(eager, embeddings, labels, weights))
    embeddings, labels, _ = batch()
    with pytest.raises(ValueError, match="^labels has shape .23,., expected .24,.: "):
        loss_fn(embeddings, labels[1:])


# Between two graphs, Dynamo reads .grad of a tensor that is not a leaf.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_compiled_with_weights_that_need_a_gradient(pair):
    """In more than one graph, and with the same numbers."""
    embeddings, labels, weights = batch(learned=True)
    loss_fn, eager = pair(PARTITIONS, fullgraph=False)
    results = []
    for call in (loss_fn, eager):
        loss = call(embeddings, labels, weights)
        results.append([loss, *torch.autograd.grad(loss, [embeddings, weights])])
    torch.testing.assert_close(*results)
    assert same_bits(loss_fn.centers, eager.centers)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dynamic", [None, True, False])
def test_compiled_with_schedules_of_alpha_and_loss_weight(compiling, training, dynamic):
    """They are inputs of the graph: 20 values compile it once."""
    from torch._dynamo.testing import CompileCounterWithBackend

    backend = CompileCounterWithBackend("aot_eager")
    loss_fn, eager = module().train(training), module().train(training)
    call = compiling(loss_fn, fullgraph=True, backend=backend, dynamic=dynamic)
    for step in range(20):
        embeddings, labels, _ = batch(seed=step)
        for each in (loss_fn, eager):
            each.alpha, each.loss_weight = 0.5 / (1 + step), 0.01 * step
        assert_same_bits(run(call, embeddings, labels), run(eager, embeddings, labels))
        assert call.num_updated == eager.num_updated
    assert backend.frame_count == 1


@pytest.mark.parametrize("name", ["alpha", "loss_weight"])
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf"), 10**400])
def test_compiled_with_a_wrong_value_of_a_schedule(pair, name, value):
    embeddings, labels, _ = batch()
    loss_fn, eager = pair()
    loss_fn(embeddings, labels)
    before = loss_fn.centers.clone()
    setattr(loss_fn, name, value)
    message = f"^{name} is {'inf' if value > 1 else value}, expected a finite "
    with pytest.raises(ValueError, match=message):
        loss_fn(embeddings, labels)
    assert same_bits(loss_fn.centers, before)
    setattr(loss_fn, name, getattr(eager, name))
    loss_fn(embeddings, labels)


@pytest.mark.parametrize(
    ("name", "value"), [("alpha", 0.125), ("loss_weight", 3.0), ("reduction", "sum")]
)
def test_compiled_with_settings_that_change(pair, name, value):
    """A new value is noticed."""
    embeddings, labels, _ = batch()
    loss_fn, eager = pair()
    for _ in range(2):
        assert same_bits(loss_fn(embeddings, labels), eager(embeddings, labels))
        assert same_bits(loss_fn.centers, eager.centers)
        setattr(loss_fn, name, value)
        setattr(eager, name, value)
    assert same_bits(loss_fn(embeddings, labels), eager(embeddings, labels))


def test_compiled_between_explicit_updates(pair):
    """The compiled call reads the current centers."""
    embeddings, labels, _ = batch()
    loss_fn, eager = pair(auto_update=False)
    for _ in range(2):
        assert same_bits(loss_fn(embeddings, labels), eager(embeddings, labels))
        assert loss_fn.update(embeddings, labels) == eager.update(embeddings, labels)


def test_batches_of_any_size_compile_a_bounded_number_of_times(pair):
    """At most four times: one size, any size, one row, no rows."""
    from torch._dynamo.testing import CompileCounter

    backend = CompileCounter()
    loss_fn, eager = pair(backend)
    for rows in (24, 23, 7, 100, 1, 0, 24, 5, 1, 64, 3, 0):
        embeddings, labels, _ = batch(rows)
        assert same_bits(loss_fn(embeddings, labels), eager(embeddings, labels))
    assert same_bits(loss_fn.centers, eager.centers)
    assert 1 <= backend.frame_count <= 4


def test_compiled_call_raises_and_changes_nothing(pair):
    loss_fn, eager = pair()
    embeddings, labels, _ = batch()
    labels[5] = 7
    with pytest.raises(IndexError, match="^labels\\[5\\] is 7, but there are 7 class"):
        loss_fn(embeddings, labels)
    assert torch.equal(loss_fn.centers, eager.centers)


class Network(torch.nn.Module):
    """Embeddings and logits."""

    def __init__(self, inputs=8, row=6, classes=7):
        super().__init__()
        self.body = torch.nn.Sequential(
            torch.nn.Linear(inputs, 32), torch.nn.PReLU(), torch.nn.Linear(32, row)
        )
        self.head = torch.nn.Linear(row, classes)

    def forward(self, x):
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

    if compiled is not None:
        objective = compiled(objective, fullgraph=True, dynamic=True)
    losses = []
    for step in range(steps):
        rows = 32 if step % 3 != 2 else 11
        x, y = torch.randn(rows, 8), torch.randint(0, 6, (rows,))
        optimizer.zero_grad()
        losses.append(objective(x, y))
        losses[-1].backward()
        optimizer.step()
    return torch.stack(losses), loss_fn.centers


def test_network_and_loss_compiled_together(compiling):
    """By the default backend, to C++, for batches of any size."""
    torch.testing.assert_close(trained(compiling), trained())


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


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast(dtype):
    """The loss is float32. A scaler skips the steps whose gradients overflow."""
    torch.manual_seed(0)
    network, loss_fn, expected = torch.nn.Linear(8, 6), module(loss_weight=10), module()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    scaled = dtype is torch.float16
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**17, enabled=scaled)
    x, y = torch.randn(64, 8), torch.randint(0, 7, (64,))
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype):
            embeddings = network(x)
            loss = loss_fn(embeddings, y)
        assert (embeddings.dtype, loss.dtype) == (dtype, torch.float32)
        centerloss.step(copied(embeddings), y.numpy(), expected.centers.numpy())
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    assert same_bits(loss_fn.centers, expected.centers)
    assert losses[-1] < losses[0] / 2
    assert not scaled or scaler.get_scale() < 2.0**17


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
    updated = module()
    updated.update(embeddings, labels)
    assert same_bits(loss_fn.centers, updated.centers)


# --- checkpointing, loaders, threads -------------------------------------------------


def test_checkpointing_of_the_network():
    """The network's forward pass runs twice, the loss once: one update."""
    torch.manual_seed(0)
    network, runs = Network(), []
    network.body.register_forward_pre_hook(lambda *_: runs.append(1))
    x, y = torch.randn(24, 8), torch.randint(0, 7, (24,))
    results = []
    checkpointed = partial(checkpoint, network.body, use_reentrant=False)
    for body in (network.body, checkpointed):
        network.zero_grad()
        loss_fn = module()
        loss_fn(body(x), y).backward()
        results.append((network.body[0].weight.grad.clone(), loss_fn.centers))
    assert len(runs) == 3
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("auto_update", [True, False])
def test_checkpointing_of_the_loss_itself(auto_update):
    """It runs twice: two updates, or none with `auto_update=False`."""
    embeddings, labels, _ = batch()
    loss_fn = module(auto_update=auto_update)
    twice = module(auto_update=False)
    checkpoint(loss_fn, embeddings, labels, use_reentrant=False).backward()
    for _ in range(2 if auto_update else 0):
        twice.update(embeddings, labels)
    assert same_bits(loss_fn.centers, twice.centers)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_workers_of_a_loader():
    """In a fresh interpreter: the module in the parent and in workers."""
    printed = run_module("tests.torch.isolated_worker", timeout=120)
    assert printed == "True True\n"


@pytest.fixture
def threads():
    """A function that sets both numbers of threads; they are restored afterwards."""
    before = torch.get_num_threads(), centerloss.get_num_threads()

    def set_both(torch_threads, our_threads):
        torch.set_num_threads(torch_threads)
        centerloss.set_num_threads(our_threads)

    yield set_both
    set_both(*before)


@reductions
def test_same_bits_on_any_number_of_threads(threads, reduction):
    """PyTorch's threads and ours, in a batch that is large enough for several."""
    results = []
    for numbers in [(1, 1), (2, 1), (1, 2), (2, 4)]:
        threads(*numbers)
        loss_fn = module(128, 900, reduction=reduction)
        results.append(run(loss_fn, *batch(4100, 128, 900)))
    for other in results[1:]:
        assert_same_bits(other, results[0])


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

"""The programs of docs/frameworks.md run, and its messages are those that appear."""

import functools
import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel

import centerloss
from centerloss.torch import CenterLoss
from tests.helpers.processes import run_module
from tests.torch.batches import assert_same_bits, batch, module, same_bits
from tests.torch.isolated_frameworks import (
    BLOCKS,
    SECTIONS,
    new_model,
    rows_of,
    run_block,
    train,
)

# Warnings of the packages' own code. Ours are errors.
others_warn = pytest.mark.filterwarnings("ignore", "error:.*center:UserWarning")
in_two_processes = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
    reason="this PyTorch has no gloo",
)


# --- the blocks ----------------------------------------------------------------------

# What the blocks need beside PyTorch.
PACKAGES = {
    "Lightning": "lightning",
    "transformers": "transformers",
    "accelerate": "accelerate",
    "pytorch-metric-learning": "pytorch_metric_learning",
    "skorch": "skorch",
}
ON_TWO_RANKS = ("DistributedDataParallel", "FSDP2")
OF_PYTORCH = sorted(BLOCKS.keys() - PACKAGES.keys() - {*ON_TWO_RANKS})


@pytest.fixture
def run_in_folder(monkeypatch, tmp_path):
    """A function that runs a block in an empty folder, without the network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return run_block


def test_every_section_with_code_is_run():
    """Each section has one block, but for those without any."""
    without = {"Keras and JAX", "If you see this message"}
    assert SECTIONS.keys() - BLOCKS.keys() == without
    assert sum(text.count("```python") for text in SECTIONS.values()) == len(BLOCKS)
    assert {*PACKAGES, *ON_TWO_RANKS} < BLOCKS.keys()


# PyTorch's compiler imports what PyTorch itself calls deprecated.
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.parametrize("section", OF_PYTORCH)
def test_blocks(section, monkeypatch):
    # Compiling to C++ takes a minute; test_training.py does that.
    eager = functools.partial(torch.compile, backend="aot_eager")
    monkeypatch.setattr(torch, "compile", eager)
    variables = run_block(section)
    loss_fn = variables.get("center_loss") or variables["model"].center_loss
    assert loss_fn.centers.isfinite().all()


@pytest.mark.slow
@others_warn
@pytest.mark.parametrize("section", PACKAGES)
def test_blocks_that_need_a_package(section, run_in_folder):
    pytest.importorskip(PACKAGES[section], reason="it is not installed")
    run_in_folder(section)


def train_in_lightning(precision):
    """The page's model after another training in this precision."""
    variables = run_block("Lightning")
    model = variables["Model"]()
    before = model.center_loss.centers.clone()
    trainer = variables["lightning"].Trainer(
        max_epochs=1, precision=precision, logger=False, enable_checkpointing=False
    )
    trainer.fit(model, torch.utils.data.DataLoader(variables["data"], batch_size=16))
    return before, model.center_loss


@pytest.mark.slow
@others_warn
@pytest.mark.parametrize(
    "precision",
    ["32-true", "64-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true"],
)
@pytest.mark.usefixtures("run_in_folder")
def test_precisions_of_lightning(precision):
    """Centers are in float32, or in float64 with the network, and move."""
    pytest.importorskip("lightning", reason="it is not installed")
    before, loss_fn = train_in_lightning(precision)
    wide = torch.float64 if precision == "64-true" else torch.float32
    assert loss_fn.centers.dtype is wide
    assert loss_fn.num_updated == 10
    assert loss_fn.centers.isfinite().all()
    assert (loss_fn.centers != before).any(1).all()


@pytest.mark.slow
@others_warn
def test_from_pretrained_without_centers_and_with(run_in_folder, tmp_path):
    """Without: drawn from the normal distribution, not what is left in the memory."""
    pytest.importorskip("transformers", reason="it is not installed")
    Model = run_in_folder("transformers")["Model"]
    for dtype in (torch.float32, torch.bfloat16):
        for seed in range(3):
            nan = [torch.full((10, 8), torch.nan) for _ in range(50)]
            del nan  # so that its memory is used again
            torch.manual_seed(seed)
            model = Model.from_pretrained("pretrained", num_labels=10, dtype=dtype)
            centers = model.center_loss.centers
            assert centers.dtype is torch.float32
            assert 0.7 < centers.std() < 1.3
            assert len(centers.unique()) == 80
    model.save_pretrained(tmp_path / "saved")
    loaded = Model.from_pretrained(tmp_path / "saved", dtype=torch.bfloat16)
    assert same_bits(loaded.center_loss.centers, centers)


@pytest.mark.slow
@others_warn
def test_state_of_accelerate_has_the_centers(run_in_folder):
    pytest.importorskip("accelerate", reason="it is not installed")
    variables = run_in_folder("accelerate")
    centers = variables["center_loss"].centers
    saved = centers.clone()
    centers.zero_()
    variables["accelerator"].load_state("state")
    assert same_bits(variables["center_loss"].centers, saved)


@pytest.mark.slow
@others_warn
def test_onnx_without_labels(run_in_folder):
    onnx = pytest.importorskip("onnx.reference", reason="onnx is not installed")
    pytest.importorskip("onnxscript", reason="it is not installed")
    variables = run_in_folder("torch.export and ONNX")
    model, inputs = variables["model"], variables["inputs"]
    torch.onnx.export(model, (inputs,), "model.onnx")
    session = onnx.ReferenceEvaluator("model.onnx")
    (logits,) = session.run(None, {session.input_names[0]: inputs.numpy()})
    np.testing.assert_allclose(logits, model(inputs).detach().numpy(), atol=1e-6)


# --- two ranks -----------------------------------------------------------------------


def on_two_ranks(name, folder):
    """The results of a program of isolated_frameworks.py, by rank."""
    run_module("tests.torch.isolated_frameworks", name, folder, timeout=300)
    return [torch.load(folder / f"rank{rank}.pt") for rank in range(2)]


def rows_of_both(step):
    inputs, labels = zip(*(rows_of(step, rank) for rank in range(2)), strict=True)
    return torch.cat(inputs), torch.cat(labels)


@pytest.mark.slow
@in_two_processes
@pytest.mark.parametrize("section", ON_TWO_RANKS)
def test_blocks_on_two_ranks(section, tmp_path):
    """The centers are those of one update with the rows of both ranks."""
    embeddings, labels, centers = zip(*on_two_ranks(section, tmp_path), strict=True)
    torch.manual_seed(0)
    nn.Linear(20, 8), nn.Linear(8, 10)
    expected = CenterLoss(10, 8)
    assert expected.update(torch.cat(embeddings), torch.cat(labels)) == 10
    assert_same_bits(centers, [expected.centers] * 2)


@pytest.mark.slow
@in_two_processes
@pytest.mark.parametrize(
    ("name", "passes"),
    [("DDP", 1), ("two passes", 2), ("static_graph", 1), ("find_unused_parameters", 1)],
)
def test_loss_inside_of_ddp(name, passes, tmp_path):
    """As one process with the rows of both, but for the rounding of gradients."""
    (centers, weights), other = on_two_ranks(name, tmp_path)
    assert_same_bits(other, (centers, weights))
    model = new_model()
    expected = train(model, model, rows_of_both, passes)
    torch.testing.assert_close((centers, weights), expected)


@pytest.mark.slow
@in_two_processes
@pytest.mark.parametrize("name", ["scaler", "guard"])
def test_a_bad_row_on_one_rank_costs_one_step(name, tmp_path):
    """Both ranks lose that step and no other, and have the same finite centers."""
    (lost, *state), (other_lost, *other) = on_two_ranks(name, tmp_path)
    assert lost == other_lost == [3]
    assert_same_bits(state, other)
    assert all(tensor.isfinite().all() for tensor in state)


@pytest.mark.slow
@in_two_processes
@pytest.mark.parametrize("precision", ["32-true", "bf16-true"])
def test_lightning_on_two_ranks(precision, tmp_path):
    """Its sampler gives each rank half of the rows; both have the centers of all."""
    pytest.importorskip("lightning", reason="it is not installed")
    results = on_two_ranks(f"Lightning, {precision}", tmp_path)
    assert_same_bits(*results)
    centers, weights = results[0]
    assert (centers.dtype, weights.dtype) == (
        torch.float32,
        torch.bfloat16 if precision == "bf16-true" else torch.float32,
    )
    if precision == "32-true":
        torch.testing.assert_close((centers, weights), in_one_process())


def in_one_process():
    """The step of `in_lightning`, without Lightning."""
    torch.manual_seed(0)
    network, classifier = nn.Linear(20, 8), nn.Linear(8, 10)
    loss_fn = CenterLoss(10, 8, loss_weight=0.01)
    parameters = [*network.parameters(), *classifier.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    inputs, labels = rows_of(0, 0)
    embeddings = network(inputs)
    loss = F.cross_entropy(classifier(embeddings), labels)
    (loss + loss_fn(embeddings, labels)).backward()
    optimizer.step()
    return loss_fn.centers, network.weight.detach()


# --- other programs ------------------------------------------------------------------


def training(model, loss_fn, optimizer, steps):
    """Some steps on batches that are the same in every training."""
    for step in steps:
        inputs, labels = rows_of(step, 0)
        optimizer.zero_grad()
        loss_fn(model(inputs), labels).backward()
        optimizer.step()


def test_exact_resume(tmp_path):
    """Through a file after three of six steps: the same bits as without a break."""

    def new(seed):
        torch.manual_seed(seed)
        model = nn.Linear(20, 8)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        return model, CenterLoss(10, 8), optimizer

    whole = new(0)
    training(*whole, range(3))
    torch.save([part.state_dict() for part in whole], tmp_path / "checkpoint.pt")
    training(*whole, range(3, 6))
    resumed = new(1)
    states = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    for part, state in zip(resumed, states, strict=True):
        part.load_state_dict(state)
    training(*resumed, range(3, 6))
    assert same_bits(resumed[1].centers, whole[1].centers)
    assert same_bits(resumed[0].weight, whole[0].weight)


def test_average_of_the_buffers_too():
    """`use_buffers=True` averages the centers: here the mean of three states."""
    model = new_model()
    averaged = AveragedModel(model, use_buffers=True)
    states = []
    for step in range(3):
        model(*rows_of(step, 0)).backward()
        averaged.update_parameters(model)
        states.append(model.center_loss.centers.double())
    mean = torch.stack(states).mean(0).float()
    torch.testing.assert_close(averaged.module.center_loss.centers, mean)


def test_one_class():
    """Deep SVDD: the loss is half the mean squared distance to the only center."""
    embeddings, _, _ = batch(24, 6)
    loss_fn = CenterLoss(1, 6, init="zeros")
    loss = loss_fn(embeddings, torch.zeros(24, dtype=torch.int64))
    rows = embeddings.detach().double()
    torch.testing.assert_close(loss.double(), rows.square().sum() / 48)
    expected = 0.5 * rows.sum(0) / (1 + 24)
    torch.testing.assert_close(loss_fn.centers[0].double(), expected)


def test_rows_with_several_labels():
    """One pair per row and label; the gradient of a row is the sum of its pairs."""
    embeddings, _, _ = batch(3, 6)
    has_label = torch.tensor([[1, 1, 0], [0, 1, 1], [0, 0, 0]], dtype=torch.bool)
    rows, labels = has_label.nonzero(as_tuple=True)
    loss_fn = module(classes=3, reduction="sum")
    centers = loss_fn.centers.clone()
    loss_fn(embeddings[rows], labels).backward()
    d = embeddings.detach()[:, None] - centers
    expected = (d * has_label[:, :, None]).sum(1)
    torch.testing.assert_close(embeddings.grad, expected)
    assert loss_fn.num_updated == 3


@pytest.mark.slow
def test_columns_of_pandas():
    """A frame is features, a series is labels or weights."""
    pandas = pytest.importorskip("pandas", reason="it is not installed")
    x, centers = np.eye(4, 3, dtype=np.float32), np.ones((2, 3), np.float32)
    frame = pandas.DataFrame(x).assign(label=[0, 1, 0, 1], weight=[1.0, 2, 3, 4])
    columns = frame[[0, 1, 2]], frame["label"], centers
    ours = centerloss.value_and_grad(*columns, sample_weight=frame["weight"])
    weights = np.array([1.0, 2, 3, 4])
    d = x.astype(float) - 1
    expected = (weights @ np.square(d).sum(1)) / 2 / 10
    assert ours[0] == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(ours[1], weights[:, None] * d / 10, rtol=1e-6)


# --- "If you see this message" -------------------------------------------------------


def call(change=lambda embeddings, labels: (embeddings, labels), **settings):
    """A call on changed tensors."""
    embeddings = torch.randn(64, 8, requires_grad=True)
    loss_fn = CenterLoss(10, 8, **settings)
    return loss_fn(*change(embeddings, torch.arange(64) % 10))


def with_label(place, label):
    def change(embeddings, labels):
        labels[place] = label
        return embeddings, labels

    return lambda: call(change)


def load(state):
    return CenterLoss(10, 8).load_state_dict(state)


def replicated():
    """A call of a replica, as DataParallel makes them on several devices."""
    replica = CenterLoss(10, 8)._replicate_for_data_parallel()
    replica.centers = torch.zeros(10, 8)
    replica(torch.randn(64, 8, requires_grad=True), torch.arange(64) % 10)


def own_term_first():
    embeddings, loss_fn = torch.randn(4, 8, requires_grad=True), CenterLoss(10, 8)
    own = torch.cdist(embeddings, loss_fn.centers).mean()
    (own + loss_fn(embeddings, torch.arange(4))).backward()


def functional():
    torch.func.grad(CenterLoss(10, 8))(torch.randn(4, 8), torch.arange(4))


# What makes each message of the page, by words of it.
CAUSES = {
    "use_gpu": lambda: CenterLoss(10, 8, use_gpu=True),
    "size_average": lambda: CenterLoss(10, 8, size_average=True),
    "lambda_c": lambda: CenterLoss(10, 8, lambda_c=1.0),
    "empty parameter": lambda: torch.optim.SGD(CenterLoss(10, 8).parameters(), 0.5),
    "look swapped": lambda: call(lambda embeddings, labels: (labels, embeddings)),
    "is -100": with_label(0, -100),
    "is 10,": with_label(9, 10),
    "need no gradient": lambda: call(lambda x, labels: (x.detach(), labels)),
    "on meta": lambda: call(lambda x, labels: (x.to("meta"), labels)),
    "float64": lambda: call(lambda x, labels: (x.double(), labels)),
    "numpy()": lambda: np.asarray(torch.ones(2, requires_grad=True)),
    "element 0": lambda: call(
        lambda x, y: (x.detach(), y), auto_update=False
    ).backward(),
    "Missing key": lambda: load({}),
    "size mismatch": lambda: load({"centers": torch.zeros(11, 8)}),
    "replica": replicated,
    "inplace": own_term_first,
    "transform": functional,
    "Literal": lambda: torch.jit.script(CenterLoss(10, 8)),
}
ROWS = re.findall(r"^\| `(.*?)` \| ", SECTIONS["If you see this message"], re.M)


def test_every_message_has_a_cause():
    assert all(sum(words in row for row in ROWS) == 1 for words in CAUSES)
    assert len(ROWS) == len(CAUSES)


# PyTorch calls jit.script deprecated.
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.parametrize("words", CAUSES)
def test_messages(words):
    """The page's message is part of the one that appears; ... stands for anything."""
    (message,) = [row for row in ROWS if words in row]
    errors = (IndexError, RuntimeError, TypeError, UserWarning, ValueError)
    with pytest.raises(errors) as raised:
        CAUSES[words]()
    appears = " ".join(f"{raised.type.__name__}: {raised.value}".split())
    parts = [re.escape(part) for part in message.split("...")]
    assert re.search(".*".join(parts), appears), appears

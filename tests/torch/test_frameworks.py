"""The programs of docs/frameworks.md run, and its messages are those that appear."""

import functools
import importlib
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
    free_port,
    in_lightning,
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
    "precision", ["32-true", "64-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true"]
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
    """Its sampler deals the rows out, so both have the centers of all of them."""
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
    """What the two ranks of `in_lightning` do, without Lightning."""
    torch.manual_seed(0)
    network, classifier = nn.Linear(20, 8), nn.Linear(8, 10)
    loss_fn = CenterLoss(10, 8, loss_weight=0.01)
    parameters = [*network.parameters(), *classifier.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    inputs, labels = rows_of(0, 0)
    for start in range(0, 20, 10):
        # Each rank takes every second row, in batches of five.
        order = [*range(start, start + 10, 2), *range(start + 1, start + 10, 2)]
        embeddings = network(inputs[order])
        loss = F.cross_entropy(classifier(embeddings), labels[order])
        optimizer.zero_grad()
        (loss + loss_fn(embeddings, labels[order])).backward()
        optimizer.step()
    return loss_fn.centers, network.weight.detach()

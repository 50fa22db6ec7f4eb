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

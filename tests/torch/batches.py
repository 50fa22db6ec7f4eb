"""Batches of tensors, modules and comparisons that several test files share."""

import copy
import io
import pickle

import ml_dtypes
import numpy as np
import pytest
import torch

from centerloss.torch import CenterLoss

# Dtypes of the embeddings and of the centers.
DTYPES = [
    (torch.float32, torch.float32),
    (torch.float64, torch.float64),
    (torch.float16, torch.float32),
    (torch.bfloat16, torch.float32),
]
dtypes = pytest.mark.parametrize(
    ("dtype", "centers_dtype"), DTYPES, ids=[str(dtype)[6:] for dtype, _ in DTYPES]
)
REDUCTIONS = ("mean", "sum", "none")
reductions = pytest.mark.parametrize("reduction", REDUCTIONS)


# Weights that need a gradient: the loss is then computed in PyTorch's operations.
learned_or_not = pytest.mark.parametrize(
    "learned", [False, True], ids=["C", "learned weights"]
)


def batch(rows=24, row=6, classes=7, dtype=torch.float32, seed=0, learned=False):
    """Embeddings that need a gradient, labels of all but the last class, weights."""
    device = torch.get_default_device()
    source = torch.Generator("cpu").manual_seed(seed)
    given = {"generator": source, "device": "cpu"}  # the same numbers on all devices
    embeddings = torch.randn(rows, row, dtype=torch.float64, **given)
    labels = torch.randint(0, classes - 1, (rows,), **given).to(device)
    weights = torch.rand(rows, **given).to(device)
    embeddings = embeddings.to(device, dtype).requires_grad_()
    return embeddings, labels, weights.requires_grad_(learned)


def module(row=6, classes=7, dtype=torch.float32, seed=1, **settings):
    """A module with random centers."""
    source = torch.Generator("cpu").manual_seed(seed)
    given = {"generator": source, "device": "cpu", "dtype": torch.float64}
    centers = torch.randn(classes, row, **given)
    centers = centers.to(torch.get_default_device(), dtype)
    return CenterLoss(classes, row, init=centers, **settings)


def moved():
    """The centers after an update with the batch of `batch()`."""
    loss_fn = module()
    embeddings, labels, _ = batch()
    loss_fn.update(embeddings, labels)
    return loss_fn.centers


def failing(embeddings, labels):
    """A loader that raises an error after its first batch."""
    yield embeddings, labels
    raise OSError("the file is gone")


def through_a_file(loss_fn):
    file = io.BytesIO()
    torch.save(loss_fn, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


copies = pytest.mark.parametrize(
    "make",
    [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m)), through_a_file],
    ids=["deepcopy", "pickle", "torch.save"],
)


def copied(tensor):
    """Return a copy of the values as an array of the same dtype."""
    tensor = tensor.detach().cpu()
    if tensor.dtype is torch.bfloat16:
        return tensor.float().numpy().astype(ml_dtypes.bfloat16)
    return np.array(tensor.numpy())


def same_bits(a, b):
    """Whether two tensors have the same dtype, shape and bits."""
    a, b = copied(a), copied(b)
    return (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


def assert_same_bits(ours, expected):
    for a, b in zip(ours, expected, strict=True):
        assert same_bits(a, b)


def run(loss_fn, *given):
    """Loss, gradient of its sum, and centers after a call of the module."""
    loss = loss_fn(*given)
    (gradient,) = torch.autograd.grad(loss.sum(), given[0])
    return loss.detach(), gradient, loss_fn.centers

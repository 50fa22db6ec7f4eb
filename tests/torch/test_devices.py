"""What holds on each device that there is: see the fixture `device`."""

import pytest
import torch

from tests.helpers.processes import run_module
from tests.torch.batches import assert_same_bits, batch, dtypes, module, run


@dtypes
@pytest.mark.usefixtures("device")
def test_the_same_bits_in_every_run(dtype, centers_dtype):
    """On CUDA if PyTorch's deterministic algorithms are switched on."""
    results = [
        run(module(classes=40, dtype=centers_dtype), *batch(4000, dtype=dtype))
        for _ in range(3)
    ]
    for other in results[1:]:
        assert_same_bits(other, results[0])


@dtypes
def test_near_the_results_of_the_cpu(device, dtype, centers_dtype):
    ours = run(module(dtype=centers_dtype), *batch(500, dtype=dtype))
    with torch.device("cpu"):
        expected = run(module(dtype=centers_dtype), *batch(500, dtype=dtype))
    assert {tensor.device.type for tensor in ours} == {device}
    torch.testing.assert_close([x.cpu() for x in ours], list(expected))


def test_centers_and_batch_on_two_devices(device):
    embeddings, labels, _ = batch()
    loss_fn = module()
    message = f"^labels is on meta, but centers are on {device}"
    with pytest.raises(ValueError, match=message):
        loss_fn(embeddings, labels.to("meta"))


@pytest.mark.usefixtures("device")
def test_errors_that_no_value_is_needed_for():
    embeddings, labels, weights = batch()
    for given, error in (
        ((embeddings, labels[1:]), ValueError),
        ((embeddings, labels.float()), TypeError),
        ((embeddings[:, :5], labels), ValueError),
        ((embeddings, labels, weights[1:]), ValueError),
        ((labels, embeddings), TypeError),
    ):
        loss_fn = module()
        with pytest.raises(error):
            loss_fn(*given)
        assert torch.equal(loss_fn.centers, module().centers)


def test_a_label_out_of_range(device):
    """In a process of its own: PyTorch's check on CUDA leaves the device unusable."""
    printed = run_module("tests.torch.isolated_label", device, timeout=120)
    assert printed.split() == ["IndexError" if device == "cpu" else "RuntimeError"]

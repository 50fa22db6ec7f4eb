"""Settings and fixtures of the tests that need PyTorch."""

import importlib.util

import pytest


def _devices():
    if importlib.util.find_spec("torch") is None:
        return []
    import torch

    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def pytest_collect_file():
    """Skip this folder where PyTorch is not installed."""
    pytest.importorskip("torch", reason="PyTorch is not installed")


@pytest.fixture(params=_devices())
def device(request):
    """Run the test on each device that there is, where tensors are made by default."""
    if request.param == "cpu":
        yield "cpu"
        return
    import torch

    torch.set_default_device(request.param)
    torch.use_deterministic_algorithms(True)  # the same bits in every run
    yield request.param
    torch.use_deterministic_algorithms(False)
    torch.set_default_device(None)


@pytest.fixture(params=["C", "plain"])
def path(request, monkeypatch):
    """Run the test in C and in the operations of PyTorch, as on other devices."""
    if request.param == "plain":
        for name in ("_dispatch.can_use_c", "_dispatch.is_usual", "sharded._in_c"):
            monkeypatch.setattr(f"centerloss.torch.{name}", lambda *_: False)
    return request.param

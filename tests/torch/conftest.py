"""Settings and fixtures of the tests that need PyTorch."""

import pytest


def pytest_collect_file():
    """Skip this folder where PyTorch is not installed."""
    pytest.importorskip("torch", reason="PyTorch is not installed")


@pytest.fixture(params=["C", "plain"])
def path(request, monkeypatch):
    """Run the test in C and in the operations of PyTorch, as on other devices."""
    if request.param == "plain":
        name = "centerloss.torch._dispatch.can_use_c"
        monkeypatch.setattr(name, lambda *_: False)
    return request.param

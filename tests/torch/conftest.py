"""Settings and fixtures of the tests that need PyTorch."""

from importlib.util import find_spec

import pytest

# Doctest collection would import them without PyTorch.
collect_ignore = []
if find_spec("torch") is None:
    collect_ignore += ["batches.py", "isolated_ranks.py", "isolated_worker.py"]


@pytest.fixture(params=["C", "plain"])
def path(request, monkeypatch):
    """Run the test in C and in the operations of PyTorch, as on other devices."""
    if request.param == "plain":
        name = "centerloss.torch._dispatch.can_use_c"
        monkeypatch.setattr(name, lambda *_: False)
    return request.param

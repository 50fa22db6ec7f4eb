"""Settings and fixtures of all tests."""

import importlib

import pytest
from hypothesis import HealthCheck, settings

from tests.helpers.batches import C, reference

# Examples differ a hundredfold in cost, so a deadline would only measure noise. They
# are the same in every run, but for those of `make fuzz`.
settings.register_profile(
    "centerloss",
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=HealthCheck,
)
settings.register_profile(
    "fuzz",
    settings.get_profile("centerloss"),
    derandomize=False,
    max_examples=4000,
)
settings.load_profile("centerloss")


def pytest_collection_modifyitems(items):
    """In `make test-parallel` the threads of a test would share its folder."""
    for item in items:
        if "tmp_path" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.thread_unsafe(reason="files of one name"))


@pytest.fixture(params=[C, reference()], scope="session")
def cl(request):
    """The module with the functions: in C, then in plain NumPy."""
    return importlib.import_module(request.param)

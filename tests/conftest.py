"""One fixture for two implementations: every test that takes `cl` runs on both."""

import importlib

import pytest
from hypothesis import settings

# The examples vary in cost a hundredfold, so a deadline would only measure noise.
settings.register_profile("centerloss", deadline=None, print_blob=True)
settings.load_profile("centerloss")

MODULES = {"c": "centerloss", "reference": "centerloss.reference"}


@pytest.fixture(params=MODULES, scope="session")
def cl(request):
    """The functions in C, then their twins in plain NumPy."""
    return importlib.import_module(MODULES[request.param])

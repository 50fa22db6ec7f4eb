"""Fixtures. Every test that takes `cl` runs on both implementations."""

import importlib

import numpy as np
import pytest
from hypothesis import settings

# The examples vary in cost a hundredfold, so a deadline would only measure noise.
settings.register_profile("centerloss", deadline=None, database=None)
settings.load_profile("centerloss")

MODULES = {"c": "centerloss", "reference": "centerloss.reference"}


@pytest.fixture(params=MODULES, scope="session")
def cl(request):
    """The functions in C, then their twins in plain NumPy."""
    return importlib.import_module(MODULES[request.param])


@pytest.fixture
def small():
    """A batch to follow by hand: every sum and product in it is exact."""
    x = np.array([[1, 0], [3, 4], [0, 4], [0, 2]], np.float32)
    y = np.array([0, 2, 2, 0])
    c = np.array([[2, 2], [9, 9], [0, 0]], np.float32)
    return x, y, c

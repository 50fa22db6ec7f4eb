"""States of a CenterLoss: settings that differ, and what it is to be the same."""

import pytest

from centerloss import CenterLoss
from tests.helpers.batches import bits

SETTINGS = {
    "alpha": 0.25,
    "loss_weight": 3.0,
    "reduction": "sum",
    "normalize": False,
    "ignore_index": 0,  # which is not None
    "skip_nonfinite": False,
}

every_settings = pytest.mark.parametrize(
    "settings", [{}, SETTINGS, {"reduction": "none", "alpha": 0.1}]
)


def assert_same(one, other):
    assert repr(one) == repr(other)  # it shows every setting
    assert bits(one.centers) == bits(other.centers)


def assert_invalid(path, reason=None):
    with pytest.raises(ValueError, match=reason) as caught:
        CenterLoss.load(path)
    assert str(caught.value).startswith(f"{path} is no saved CenterLoss: ")

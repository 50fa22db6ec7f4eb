"""The state of a CenterLoss: copies, pickles, state_dict and load_state_dict."""

import copy
import pickle
import re

import numpy as np
import pytest

from centerloss import CenterLoss
from tests.helpers.batches import batch, bits
from tests.helpers.states import SETTINGS, assert_same, every_settings

# --- copies -----------------------------------------------------------------------


@every_settings
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle(protocol, settings):
    loss_fn = CenterLoss(4, 3, **settings)
    other = pickle.loads(pickle.dumps(loss_fn, protocol))
    assert_same(other, loss_fn)
    other.step(*batch((6, 3), 4)[:2])
    assert bits(other.centers) != bits(loss_fn.centers)


class WithName(CenterLoss):
    """A subclass with attributes of its own."""

    name = None


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_of_a_subclass(protocol):
    loss_fn = WithName(4, 3)
    loss_fn.name = "mine"
    other = pickle.loads(pickle.dumps(loss_fn, protocol))
    assert_same(other, loss_fn)
    assert other.name == copy.copy(loss_fn).name == "mine"


@every_settings
def test_deepcopy_has_its_own_centers(settings):
    loss_fn = CenterLoss(4, 3, **settings)
    other = copy.deepcopy(loss_fn)
    assert_same(other, loss_fn)
    assert not np.shares_memory(other.centers, loss_fn.centers)


@every_settings
def test_copy_shares_the_centers(settings):
    loss_fn = CenterLoss(4, 3, **settings)
    other = copy.copy(loss_fn)
    assert_same(other, loss_fn)
    assert other.centers is loss_fn.centers
    other.alpha = 0.75
    assert loss_fn.alpha != 0.75


@every_settings
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_repr_evaluates_back(settings, dtype):
    loss_fn = CenterLoss(4, 3, dtype=dtype, **settings)
    other = eval(repr(loss_fn))
    assert repr(other) == repr(loss_fn)
    assert (other.centers.shape, other.centers.dtype) == ((4, 3), dtype)


def test_repr():
    assert repr(CenterLoss(10, 2, loss_weight=np.float32(0.25))) == (
        "CenterLoss(10, 2, alpha=0.5, loss_weight=0.25, reduction='mean', "
        "normalize=True, ignore_index=None, skip_nonfinite=True, dtype='float32')"
    )


# --- state ------------------------------------------------------------------------


@every_settings
def test_state_dict_is_plain_and_a_copy(settings):
    loss_fn = CenterLoss(4, 3, **settings)
    state = loss_fn.state_dict()
    centers = state.pop("centers")
    assert state == {name: getattr(loss_fn, name) for name in SETTINGS}
    assert bits(centers) == bits(loss_fn.centers)
    assert not np.shares_memory(centers, loss_fn.centers)


def test_state_dict_makes_numpy_scalars_plain():
    loss_fn = CenterLoss(
        *(4, 3),
        alpha=np.float32(0.25),
        loss_weight=np.int64(3),
        reduction=np.str_("sum"),
        normalize=np.False_,
        ignore_index=np.int8(0),
        skip_nonfinite=np.False_,
    )
    state = loss_fn.state_dict()
    del state["centers"]
    assert state == SETTINGS
    types = [float, float, str, bool, int, bool]
    assert [type(value) for value in state.values()] == types


@every_settings
@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_load_state_dict_writes_into_the_existing_centers(settings, byte_order):
    loss_fn = CenterLoss(4, 3, **settings)
    state = loss_fn.state_dict()
    state["centers"] = state["centers"].astype(byte_order + "f4")
    centers = np.zeros((4, 3), np.float32)
    other = CenterLoss(4, 3, init=centers)
    other.load_state_dict(state)
    assert other.centers is centers
    assert_same(other, loss_fn)


ORDER = (
    "centers, alpha, loss_weight, reduction, normalize, ignore_index, skip_nonfinite"
)


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("centers", np.zeros((3, 4)), ValueError, "centers has shape (3, 4), expected"),
        ("centers", np.zeros((4, 3)), ValueError, "centers has dtype float64, expecte"),
        ("surplus", 1, ValueError, f"state has a 'surplus', expected {ORDER}"),
        ("alpha", -1, ValueError, "alpha is -1, expected a finite number >= 0"),
        ("ignore_index", "x", TypeError, "ignore_index is 'x', expected an integer or"),
        *(
            (name, None, ValueError, f"state has no '{name}', expected {ORDER}")
            for name in ("centers", *SETTINGS)
            if name != "skip_nonfinite"
        ),
    ],
)
def test_load_state_dict_sets_all_or_nothing(name, value, error, message):
    loss_fn = CenterLoss(4, 3)
    before = copy.deepcopy(loss_fn)
    state = {"centers": np.ones((4, 3), np.float32), **SETTINGS, name: value}
    if value is None:
        del state[name]
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        loss_fn.load_state_dict(state)
    assert_same(loss_fn, before)


def test_load_an_older_state_dict():
    state = CenterLoss(4, 3, **SETTINGS).state_dict()
    del state["skip_nonfinite"]
    other = CenterLoss(4, 3, skip_nonfinite=False)
    other.load_state_dict(state)
    settings = SETTINGS | {"skip_nonfinite": True}
    assert_same(other, CenterLoss(4, 3, **settings, init=state["centers"]))


def test_load_state_dict_needs_a_mapping():
    with pytest.raises(TypeError, match="^state is a list, expected a dict"):
        CenterLoss(4, 3).load_state_dict([])


def test_load_state_dict_into_centers_that_became_read_only():
    loss_fn = CenterLoss(4, 3)
    loss_fn.centers.flags.writeable = False
    before = repr(loss_fn)
    with pytest.raises(ValueError, match="^centers is read-only$"):
        loss_fn.load_state_dict(CenterLoss(4, 3, **SETTINGS).state_dict())
    assert repr(loss_fn) == before

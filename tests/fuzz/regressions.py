"""Calls that once crashed or gave a wrong result.

`python -m tests.fuzz.regressions NAME` makes one of them, in a process of its own
because it may crash.
"""

import sys
import warnings

import numpy as np

import centerloss
from centerloss import reference


def batch(rows=1000, row=64):
    """Every row belongs to another class; float64."""
    return np.ones((rows, row)), np.arange(rows), np.zeros((rows, row))


class SideEffect:
    """Changes other arguments while it is converted."""

    def __init__(self, action, answer):
        self.action, self.answer = action, answer

    def __array__(self, dtype=None, copy=None):
        self.action()
        return self.answer

    def __float__(self):
        self.action()
        return self.answer


def error_of(function, *arguments, **options):
    try:
        function(*arguments, **options)
    except Exception as error:
        return type(error), str(error)
    return None


def a_conversion_gives_centers_another_dtype():
    """C read rows twice as long as they are, with the type from before."""
    warnings.simplefilter("ignore", DeprecationWarning)  # of setting a dtype
    x, y, c = batch()

    def change():
        c.dtype = np.int64

    error = error_of(centerloss.loss, x, SideEffect(change, y), c)
    assert error is not None
    assert error[0] is TypeError


def a_number_gives_features_and_centers_another_dtype():
    """The same with __float__, and with features and centers that match again."""
    warnings.simplefilter("ignore", DeprecationWarning)
    x, y, c = batch()
    expected = centerloss.loss(x.view(np.float32), y, c.view(np.float32))

    def change():
        x.dtype = c.dtype = np.float32

    got = centerloss.loss(x, y, c, loss_weight=SideEffect(change, 1.0))
    np.testing.assert_allclose(got, expected)


def a_subclass_frees_the_centers():
    """Copying the features called __array_finalize__ after the last check."""
    x, y, c = batch()
    calls = []

    class Shrinking(np.ndarray):
        def __array_finalize__(self, _):
            calls.append(self)
            if len(calls) > 1:
                c.resize((1, 64), refcheck=False)

    x = np.asfortranarray(x).view(Shrinking)
    assert centerloss.update_centers(x, y, c) == 1000
    assert c.shape == (1000, 64)


def a_conversion_frees_the_centers_of_a_subclass():
    """C went on with a view of their former memory and shape."""
    x, y, memory = batch(4000, 1000)

    class Subclass(np.ndarray):
        pass

    c = Subclass(memory.shape)
    del memory
    error = error_of(
        centerloss.update_centers,
        *(x, SideEffect(lambda: c.resize((1, 1000), refcheck=False), y), c),
    )
    assert error == (IndexError, "labels[1] is 1, but there are 1 classes (0 to 0)")


def a_subclass_denies_its_overlap():
    """np.shares_memory asks __array_function__."""
    x, y, c = batch()

    class Denying(np.ndarray):
        def __array_function__(self, *_):
            return False

    for module in (centerloss, reference):
        error = error_of(module.gradient, x, y, c, out=x.view(Denying))
        assert error == (ValueError, "out overlaps features in memory")


def a_subclass_names_another_label():
    """The message of a bad label used __getitem__."""
    x, _, c = batch(3, 2)
    y = np.ma.masked_array([0, 1, 7], mask=[0, 0, 1])
    for module in (centerloss, reference):
        error = error_of(module.loss, x, y, c)
        assert error == (IndexError, "labels[2] is 7, but there are 3 classes (0 to 2)")


def a_subclass_as_out_has_items_of_its_own():
    """The reference used its __getitem__ and __setitem__."""

    class Opinionated(np.ndarray):
        def __getitem__(self, _):
            return 99

        def __setitem__(self, *_):
            raise RuntimeError

    x, y, c = batch(3, 2)
    for module in (centerloss, reference):
        out = np.empty_like(x).view(Opinionated)
        assert module.gradient(x, y, c, reduction="sum", out=out) is out
        assert np.array_equal(np.asarray(out), x)


def a_batch_of_no_rows_has_long_rows():
    """MemoryError, although the batch has no classes to sum up."""
    x, y, c = np.zeros((0, 1 << 40)), np.zeros(0, int), np.zeros((0, 1 << 40))
    for module in (centerloss, reference):
        assert module.center_delta(x, y, c).shape == (0, 1 << 40)
        assert module.update_centers(x, y, c) == 0
        assert module.step(x, y, c)[1].shape == (0, 1 << 40)


REGRESSIONS = [value for name, value in list(vars().items()) if name.startswith("a_")]

if __name__ == "__main__":
    globals()[sys.argv[1]]()

"""Objects that lie about themselves, for arguments that should be arrays or numbers."""

import numpy as np

# What a conversion of the object does.
KINDS = ("answers", RuntimeError("no"), TypeError("no"), OverflowError("no"), "changes")


class Subclass(np.ndarray):
    """With no attributes of its own."""


class OverridingSubclass(np.ndarray):
    """Overrides what NumPy's functions and users of its items see."""

    def __array_function__(self, *_):
        return False

    def __array_ufunc__(self, *_, **__):
        return NotImplemented

    def __getitem__(self, _):
        return 99

    def __setitem__(self, *_):
        raise RuntimeError("set")

    def __len__(self):
        return 1


class InconsistentObject:
    """Its conversions answer, raise, or answer differently from the second time on."""

    def __init__(self, kind, answer):
        self.kind, self.answer, self.asked = kind, answer, 0

    def __repr__(self):
        return f"{type(self).__name__}({self.kind!r})"

    def convert(self):
        self.asked += 1
        if isinstance(self.kind, Exception):
            raise self.kind
        return self.answer


class InconsistentArray(InconsistentObject):
    def __array__(self, dtype=None, copy=None):
        answer = self.convert()
        if self.kind == "changes" and self.asked > 1:
            return np.zeros(3)
        return answer if dtype is None else np.asarray(answer).astype(dtype)

    def __len__(self):
        return 7


class InconsistentArrayWithDtype(InconsistentArray):
    dtype = np.dtype("f8")
    shape = (2, 2)


class InconsistentSequence(InconsistentObject):
    def __len__(self):
        return 3

    def __getitem__(self, i):
        if i >= 5:
            raise IndexError
        return self.convert()


class InconsistentFloat(InconsistentObject):
    def __float__(self):
        return self.convert()


class InconsistentIndex(InconsistentObject):
    def __index__(self):
        return self.convert()


CLASSES = [
    InconsistentArray,
    InconsistentArrayWithDtype,
    InconsistentSequence,
    InconsistentFloat,
    InconsistentIndex,
]

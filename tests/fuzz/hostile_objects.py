"""Arguments that are not what they seem: subclasses of arrays, and liars."""

import numpy as np

LIES = ("honest", "raises", "type error", "overflow", "changes")


class Subclass(np.ndarray):
    """With nothing of its own."""


class Opinionated(np.ndarray):
    """With an answer of its own to functions of NumPy and to its items' users."""

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


class Liar:
    """Says one thing here and another there; in its repr, always the same."""

    def __init__(self, kind, answer):
        self.kind, self.answer, self.asked = kind, answer, 0

    def __repr__(self):
        return f"Liar({self.kind})"

    def say(self):
        self.asked += 1
        if self.kind == "raises":
            raise RuntimeError("no")
        if self.kind == "type error":
            raise TypeError("no")
        if self.kind == "overflow":
            raise OverflowError("no")
        return self.answer


class LyingArray(Liar):
    def __array__(self, dtype=None, copy=None):
        answer = self.say()
        if self.kind == "changes" and self.asked > 1:
            return np.zeros(3)
        return answer if dtype is None else np.asarray(answer).astype(dtype)

    def __len__(self):
        return 7


class LyingArrayWithDtype(LyingArray):
    dtype = np.dtype("f8")
    shape = (2, 2)


class LyingSequence(Liar):
    def __len__(self):
        return 3

    def __getitem__(self, i):
        if i >= 5:
            raise IndexError
        return self.say()


class LyingFloat(Liar):
    def __float__(self):
        return self.say()


class LyingIndex(Liar):
    def __index__(self):
        return self.say()

"""docs/which-center-loss.md compared with what each implementation computes.

The oracle is each implementation's algorithm, written here in float64 and row by row.
The cells of the page are expressions, which the tests evaluate. pytest runs the page's
examples by itself.
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import centerloss

PAGE = Path(__file__).parents[2] / "docs" / "which-center-loss.md"


class Theirs(NamedTuple):
    """Results of an implementation for a batch."""

    printed: object
    gradient: np.ndarray
    step: np.ndarray  # added to the centers


# --- the implementations ------------------------------------------------------------


def by_row(x, y, c):
    return np.array([row - c[label] for row, label in zip(x, y, strict=True)])


def counts_of(y, c):
    return np.array([sum(int(label) == j for label in y) for j in range(len(c))])


def eq_4(x, y, c):
    """Delta c_j of the paper: the sum of c_j - x_i over one plus the count."""
    delta = np.zeros_like(c)
    for j in range(len(c)):
        rows = [row for row, label in zip(x, y, strict=True) if label == j]
        delta[j] = sum((c[j] - row for row in rows), np.zeros(c.shape[1]))
        delta[j] /= 1 + len(rows)
    return delta


def caffe(x, y, c, lam, alpha):
    distance = by_row(x, y, c).ravel()
    loss = np.dot(distance, distance) / len(x) / 2
    return Theirs(loss, by_row(x, y, c) * (lam / len(x)), -alpha * eq_4(x, y, c))


def jxgu1016(x, y, c, lam, alpha):
    difference, size = -by_row(x, y, c), len(x)
    for_centers, counts = np.zeros_like(c), np.ones(len(c))
    for i, label in enumerate(y):
        for_centers[label] += difference[i]
        counts[label] += 1
    for_centers = for_centers / counts[:, np.newaxis] / size
    loss = np.square(difference).sum() / 2 / size
    return Theirs(loss, -lam * difference / size, -alpha * for_centers)


def kaiyang(x, y, c, lam, alpha):
    """Autograd through a masked and clamped matrix of squared distances, then SGD."""
    distances = np.square(x[:, np.newaxis] - c).sum(axis=2)
    mask = y[:, np.newaxis] == np.arange(len(c))
    loss = np.clip(distances * mask, 1e-12, 1e12).sum() / len(x)
    twice = 2 * mask[:, :, np.newaxis] * (x[:, np.newaxis] - c) / len(x)
    for_features, for_centers = twice.sum(axis=1), -twice.sum(axis=0)
    return Theirs(loss, lam * for_features, -alpha * lam * for_centers)


def kaiyang_divided(x, y, c, lam, alpha):
    theirs = kaiyang(x, y, c, lam, alpha)
    return theirs._replace(step=theirs.step * (1 / lam))


def paddle(x, y, c, lam, alpha):
    difference = by_row(x, y, c)
    losses = np.array([row @ row / 2 for row in difference])
    incoming = np.full((len(x), 1), lam)
    return Theirs(losses, incoming * difference, -alpha * eq_4(x, y, c))


def facenet(x, y, c, lam, alpha):
    moved = c.copy()
    for row, label in zip(x, y, strict=True):  # scatter_sub, row by row
        moved[label] -= (1 - alpha) * (c[label] - row)
    squares = by_row(x, y, c) ** 2
    gradient = lam * 2 * by_row(x, y, c) / squares.size
    return Theirs(squares.mean(), gradient, moved - c)


def encodets(x, y, c, lam, alpha):
    counts, moved = counts_of(y, c), c.copy()
    for row, label in zip(x, y, strict=True):
        moved[label] -= alpha * (c[label] - row) / (1 + counts[label])
    difference = by_row(x, y, c)
    return Theirs((difference**2).sum() / 2, lam * difference, moved - c)


def louis_she(x, y, c, lam, alpha):
    squares = by_row(x, y, c) ** 2
    gradient = lam * 2 * by_row(x, y, c) / squares.size
    return Theirs(squares.mean(), gradient, -alpha * eq_4(x, y, c))


def catalyst(x, y, c, lam, alpha):
    """The loss is a sum; the optimizer gets Eq. 4 as the gradient of the centers."""
    difference = by_row(x, y, c)
    loss = np.square(difference).sum() / 2
    return Theirs(loss, lam * difference, -alpha * eq_4(x, y, c))


def neoml(x, y, c, lam, alpha):
    """Averages squares without a half, and passes x - c back."""
    difference = by_row(x, y, c)
    loss = np.mean([row @ row for row in difference])
    return Theirs(loss, lam * difference / len(x), -alpha * eq_4(x, y, c))


def mxnet(x, y, c, lam, alpha):
    difference = by_row(x, y, c)
    loss = np.square(difference).sum() / len(x) / 2
    return Theirs(loss, lam / len(x) * difference, -alpha * eq_4(x, y, c))


IMPLEMENTATIONS = {
    "caffe-face": caffe,
    "jxgu1016/MNIST_center_loss_pytorch": jxgu1016,
    "KaiyangZhou/pytorch-center-loss": kaiyang,
    "KaiyangZhou, center gradient / lam": kaiyang_divided,
    "Paddle center_loss": paddle,
    "facenet": facenet,
    "EncodeTS/TensorFlow_Center_Loss": encodets,
    "louis-she/center-loss.pytorch": louis_she,
    "Catalyst": catalyst,
    "NeoML": neoml,
    "mxnet_center_loss": mxnet,
}
# How their centers start. The others leave it to the user or initialize in another way.
INITIAL = {
    **dict.fromkeys(["facenet", "EncodeTS/TensorFlow_Center_Loss"], "zeros"),
    **dict.fromkeys(["NeoML", "mxnet_center_loss"], "zeros"),
    **dict.fromkeys(["jxgu1016/MNIST_center_loss_pytorch", "Catalyst"], "normal"),
    "KaiyangZhou/pytorch-center-loss": "normal",
    "KaiyangZhou, center gradient / lam": "normal",
}
implementations = pytest.mark.parametrize("name", IMPLEMENTATIONS)


# --- the page -----------------------------------------------------------------------


def table(first, *others):
    """Rows of the table with these first columns, as dicts from column to cell."""
    lines = PAGE.read_text("utf-8").splitlines()
    (start,) = (
        i
        for i, line in enumerate(lines)
        if line.startswith("| " + " | ".join([first, *others]) + " |")
    )
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    columns = rows[0]
    return [dict(zip(columns, row, strict=True)) for row in rows[2:]]


def row_of(name, rows):
    (row,) = (row for row in rows if next(iter(row.values())) == name)
    return row


def evaluate(cell, **names):
    assert re.fullmatch("`[^`]+`", cell), f"{cell} is no code"
    allowed = {"__builtins__": {}, "sum": np.sum}
    return eval(cell.strip("`"), allowed, names)


CONVERSIONS = ("coming from", "reduction")
FACTS = ("implementation", "loss")
SHARES = ("implementation", "alpha", "n = 1")
SETTINGS = ("reduction", "loss_weight", "alpha", "normalize")


@pytest.fixture(params=[(40, 6, 0.03, 0.4), (9, 3, 2.5, 0.7)], ids=str)
def case(request):
    """A batch in which the last class is absent, lam and alpha."""
    size, row, lam, alpha = request.param
    rng = np.random.default_rng(size)
    x, c = rng.normal(size=(size, row)), rng.normal(size=(7, row))
    y = np.minimum(rng.integers(0, 6, size), rng.integers(0, 6, size))
    return x, y, c, lam, alpha


def assert_same(ours, theirs, what):
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape, what
    # KaiyangZhou's clamp adds 1e-12 for each other class.
    tolerance = 1e-11 + 1e-12 * np.abs(theirs).max()
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance, err_msg=what)


def settings(name, case):
    x, _, _, lam, alpha = case
    row = row_of(name, table(*CONVERSIONS))
    names = {"lam": lam, "alpha": alpha, "B": len(x), "D": x.shape[1]}
    return {setting: evaluate(row[setting], **names) for setting in SETTINGS}


@pytest.mark.parametrize(
    ("columns", "ours"),
    [(CONVERSIONS, set()), (FACTS, {"centerloss"})],
    ids=["conversions", "facts"],
)
def test_every_implementation_has_one_row(columns, ours):
    names = [next(iter(row.values())) for row in table(*columns)]
    assert len(names) == len(set(names))
    assert set(names) == {*IMPLEMENTATIONS} | ours


@implementations
def test_conversion(cl, name, case):
    """The settings on the page reproduce the implementation."""
    x, y, c, lam, _ = case
    theirs, moved = IMPLEMENTATIONS[name](*case), c.copy()
    ours, gradient = cl.step(x, y, moved, **settings(name, case))
    assert_same(gradient, theirs.gradient, "gradient")
    assert_same(moved - c, theirs.step, "center step")
    prints = row_of(name, table(*CONVERSIONS))["it prints"]
    assert_same(evaluate(prints, ours=ours, lam=lam), theirs.printed, "it prints")


@implementations
def test_initial_centers(name):
    cell = row_of(name, table(*CONVERSIONS))["init"]
    assert evaluate(cell, array="array") == INITIAL.get(name, "array")


def centerloss_itself(x, y, c, lam, alpha):
    moved = c.copy()
    loss, gradient = centerloss.step(x, y, moved, loss_weight=lam, alpha=alpha)
    return Theirs(loss, gradient, moved - c)


@pytest.mark.parametrize("name", ["centerloss", *IMPLEMENTATIONS])
def test_facts(name, case):
    """The formulas on the page give the results of the implementation."""
    x, y, c, lam, alpha = case
    run = {"centerloss": centerloss_itself, **IMPLEMENTATIONS}[name]
    row, theirs = row_of(name, table(*FACTS)), run(*case)
    names = {"lam": lam, "alpha": alpha, "B": len(x), "D": x.shape[1]}
    names["d"] = x - c[y]
    assert_same(evaluate(row["loss"], **names), theirs.printed, "loss")
    assert_same(evaluate(row["gradient"], **names), theirs.gradient, "gradient")
    for j in range(len(c)):
        rows = x[y == j]
        names |= {"n": len(rows), "pull": (rows - c[j]).sum(axis=0)}
        assert_same(evaluate(row["center step"], **names), theirs.step[j], f"class {j}")
    moves = not np.allclose(run(x, y, c, 2 * lam, alpha).step, theirs.step)
    assert row["lam reaches the centers"] == ("yes" if moves else "no")


def share(run, alpha, n):
    """The share of the way to the mean of its n rows, of 128, that a center moves."""
    x, y = np.ones((128, 1)), (np.arange(128) >= n).astype(np.intp)
    return float(run(x, y, np.zeros((2, 1)), 1.0, alpha).step[0, 0])


@pytest.mark.parametrize("index", range(8))
def test_shares(index):
    rows = table(*SHARES)
    assert len(rows) == 8
    row = rows[index]
    run, alpha = IMPLEMENTATIONS[row["implementation"]], evaluate(row["alpha"])
    for n in (1, 13, 32):
        assert row[f"n = {n}"] == f"`{share(run, alpha, n):.2g}`"


@pytest.mark.parametrize("alfa", [0.95, 0.9])
def test_where_facenet_diverges(alfa):
    """The limit in the text: a share of 2, beyond which repeated steps diverge."""
    pattern = r"a batch, (\d+) at 0.95 and (\d+) at 0.9\."
    (text,) = re.findall(pattern, PAGE.read_text("utf-8"))
    limit = int(text[0] if alfa == 0.95 else text[1])
    assert share(facenet, alfa, limit) == pytest.approx(2)
    for n, diverges in [(limit - 1, False), (limit + 1, True)]:
        x, y, c = np.ones((n, 1)), np.zeros(n, np.intp), np.zeros((1, 1))
        for _ in range(200):
            c += facenet(x, y, c, 1.0, alfa).step
        assert (abs(c[0, 0] - 1) > 2) == diverges

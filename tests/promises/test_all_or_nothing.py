"""Promise 5: after an error every array is unchanged."""

import numpy as np
import pytest

from tests.helpers.batches import CALLS, MOVES_CENTERS, OUT_HOLDS, batch
from tests.helpers.cases import snapshot
from tests.helpers.error_cases import OUT_SHAPES, B, D, K, faulty_calls, good_call, run

WRITERS = sorted({*MOVES_CENTERS, *OUT_HOLDS})
MANY = 1_000_000


@pytest.mark.parametrize("name", WRITERS)
def test_a_good_call_writes(cl, name):
    """The tests below rely on it."""
    call = good_call(name)
    centers, out = call["centers"].copy(), np.copy(call.get("out", 0))
    run(cl, name, call)
    assert np.array_equal(call["centers"], centers) != (name in MOVES_CENTERS)
    assert np.array_equal(call.get("out", 0), out) != (name in OUT_HOLDS)


@pytest.mark.parametrize("name", CALLS)
def test_every_wrong_call(cl, name):
    for fault, call in faulty_calls(name):
        before = snapshot(call)
        with pytest.raises(fault.error):
            run(cl, name, call)
        assert snapshot(call) == before, fault.message


@pytest.fixture(scope="module")
def million():
    """A million good rows of four values."""
    return batch((MANY, 4), 1000)


def test_a_million_good_rows_write(cl, million):
    x, y, c = million
    moved, out = c.copy(), np.zeros_like(x)
    cl.step(x, y, moved, out=out)
    assert np.all(moved != c)
    assert np.all(np.any(out != 0, axis=1))


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("label", [-1, 1000, -(2**63)])
def test_bad_label_in_the_last_of_a_million_rows(cl, million, name, label):
    x, y, c = million
    y = y.copy()
    y[-1] = label
    message = rf"^labels\[999999\] is {label}, but there are 1000 classes \(0 to 999\)$"
    check_nothing_written(cl, name, (x, y, c), IndexError, message)


@pytest.mark.parametrize("name", WRITERS)
def test_bad_weight_in_the_last_of_a_million_rows(cl, million, name):
    w = np.ones(MANY, np.float32)
    w[-1] = np.nan
    message = r"^sample_weight\[999999\] is nan, expected a finite number >= 0$"
    check_nothing_written(cl, name, million, ValueError, message, sample_weight=w)


def check_nothing_written(cl, name, arguments, error, message, **options):
    x, y, c = arguments
    c = c.copy()
    before = c.tobytes()
    if name in OUT_HOLDS:
        shapes = {"loss": y.shape, "gradient": x.shape, "delta": c.shape}
        options["out"] = np.ones(shapes[OUT_HOLDS[name]], np.float32)
    if name == "loss":
        options["reduction"] = "none"
    with pytest.raises(error, match=message):
        getattr(cl, name)(x, y, c, **options)
    assert c.tobytes() == before
    assert np.all(options.get("out", 1) == 1)


@pytest.mark.parametrize("name", MOVES_CENTERS)
def test_memory_mapped_centers(cl, tmp_path, name):
    path = tmp_path / "centers.npy"
    x, y, c = batch((B, D), K)
    np.save(path, c)
    before = path.read_bytes()
    centers = np.load(path, mmap_mode="r+")
    with pytest.raises(IndexError):
        getattr(cl, name)(x, [*y[:-1], K], centers)
    with pytest.raises(ValueError, match="alpha"):
        getattr(cl, name)(x, y, centers, alpha=-1)
    centers.flush()
    assert path.read_bytes() == before
    getattr(cl, name)(x, y, centers)
    centers.flush()
    assert path.read_bytes() != before
    cl.update_centers(x, y, c)
    assert np.load(path).tobytes() == c.tobytes()


@pytest.mark.parametrize("name", MOVES_CENTERS)
def test_memory_mapped_centers_open_for_reading(cl, tmp_path, name):
    path = tmp_path / "centers.npy"
    x, y, c = batch((B, D), K)
    np.save(path, c)
    centers = np.load(path, mmap_mode="r")
    with pytest.raises(ValueError, match=r"^centers is read-only$"):
        getattr(cl, name)(x, y, centers)
    assert np.load(path).tobytes() == c.tobytes()
    assert cl.loss(x, y, centers) == cl.loss(x, y, c)


def test_memory_mapped_out(cl, tmp_path):
    path = tmp_path / "out.npy"
    x, y, c = batch((B, D), K)
    np.save(path, np.ones(OUT_SHAPES["gradient"], np.float32))
    out = np.load(path, mmap_mode="r+")
    with pytest.raises(IndexError):
        cl.gradient(x, [*y[:-1], K], c, out=out)
    out.flush()
    assert np.all(np.load(path) == 1)
    assert cl.gradient(x, y, c, out=out) is out
    out.flush()
    assert np.load(path).tobytes() == cl.gradient(x, y, c).tobytes()

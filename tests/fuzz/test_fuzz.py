"""The corpus of `make fuzz`, random inputs, and the errors that fuzzing has found."""

import random

import pytest

from tests.fuzz.regressions import REGRESSIONS
from tests.helpers.c_builds import kernel_objects, link
from tests.helpers.processes import ROOT, posix, run, run_module

FUZZ = ROOT / "tests" / "fuzz"
pytestmark = [posix, pytest.mark.thread_unsafe(reason="starts processes")]


@pytest.fixture(scope="module")
def replay(tmp_path_factory):
    """The harness with a main that reads files, which needs no libFuzzer."""
    files = [*FUZZ.glob("contract*.c"), *kernel_objects()]
    return link(tmp_path_factory.mktemp("fuzz") / "contract", files, "-DREPLAY")


@pytest.mark.compiles
def test_corpus(replay):
    inputs = sorted((FUZZ / "corpus").iterdir())
    assert len(inputs) > 10
    run(replay, *inputs)


@pytest.mark.compiles
@pytest.mark.parametrize("inputs", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_random_batches(replay, tmp_path, inputs):
    rng = random.Random(0)
    paths = [tmp_path / str(number) for number in range(inputs)]
    for path in paths:
        path.write_bytes(rng.randbytes(rng.randrange(160)))
    run(replay, *paths)


@pytest.mark.kernels
@pytest.mark.parametrize("regression", REGRESSIONS, ids=lambda case: case.__name__)
def test_regressions(regression):
    run_module("tests.fuzz.regressions", regression.__name__)

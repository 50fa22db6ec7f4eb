"""Short runs of what `make fuzz` runs for long, and all that it ever found.

A failing random call prints the seed and the number that make it anew.
"""

import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.regressions import FOUND
from tests.helpers.paths import ROOT

HERE = Path(__file__).parent
CSRC = HERE.parents[1] / "csrc" / "kernels"
FLAGS = ["-std=c11", "-O1", "-ffp-contract=off", "-pthread", "-DREPLAY", f"-I{CSRC}"]
COMPILER = next(filter(shutil.which, ("gcc", "clang")), "cc")


def run(*command):
    """Run it; what it printed is in the message where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def replay(tmp_path_factory):
    """The harness with a main that reads files, as any compiler can build it."""
    program = tmp_path_factory.mktemp("fuzz") / "contract"
    files = [file for file in CSRC.glob("*.c") if "Py" not in file.read_text()]
    files += HERE.glob("contract*.c")
    run(COMPILER, *FLAGS, *files, "-lm", "-o", program)
    return program


def test_corpus(replay):
    inputs = sorted((HERE / "corpus").iterdir())
    assert len(inputs) > 10
    run(replay, *inputs)


def test_random_batches(replay, tmp_path):
    rng = random.Random(0)
    paths = [tmp_path / str(number) for number in range(300)]
    for path in paths:
        path.write_bytes(rng.randbytes(rng.randrange(160)))
    run(replay, *paths)


def test_random_calls():
    options = ("--calls", "4000", "--seed", "0")
    counts = run(sys.executable, "-m", "tests.fuzz.arguments", *options)
    assert int(counts.split("%")[0].split()[-1]) >= 30, counts


@pytest.mark.parametrize("found", FOUND, ids=lambda found: found.__name__)
def test_found(found):
    run(sys.executable, "-m", "tests.fuzz.regressions", found.__name__)

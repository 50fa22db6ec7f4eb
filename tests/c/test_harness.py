"""Promise 2 in C alone: what csrc/ stores without Python, hashed, is c/golden.txt.

`python tests/test_c_harness.py` prints the lines as they are here and now.
"""

import os
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CSRC = HERE.parents[1] / "csrc" / "kernels"
FLAGS = ["-std=c11", "-O3", "-ffp-contract=off", "-pthread", f"-I{CSRC}"]
COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)] or ["cc"]
# Every second thread cannot be had.
SCARCE = ["-Dpthread_create=failing_pthread_create", HERE / "failing_threads.c"]
LOOPS = {
    "every instruction set": [],
    "plain loops": ["-DCL_BASELINE_ONLY", *SCARCE],
}
BUILDS = list(product(COMPILERS, LOOPS))


def build(compiler, loops, program):
    """The harness, linked with those files of csrc/ that know no Python."""
    files = [file for file in CSRC.glob("*.c") if "Py" not in file.read_text()]
    sources = [*LOOPS[loops], HERE / "bits.c", *files]
    subprocess.run([compiler, *FLAGS, *sources, "-o", program], check=True)


def output(program, *arguments):
    command = [program, *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=-1, text=True).stdout


def isa_names(program):
    return output(program).strip().split(", ")


def side_by_side(function, calls):
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda call: function(*call), calls))


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """All builds: their compilation takes most of the time of this file."""
    directory = tmp_path_factory.mktemp("bits")
    programs = {options: directory / ", ".join(options) for options in BUILDS}
    side_by_side(build, [(*options, programs[options]) for options in BUILDS])
    return programs


@pytest.mark.parametrize("options", BUILDS, ids=", ".join)
def test_same_bits(programs, options):
    program = programs[options]
    runs = list(product([program], isa_names(program), [1, 2, 3, 8]))
    golden = (HERE / "golden.txt").read_text().splitlines()
    for run, lines in zip(runs, side_by_side(output, runs), strict=True):
        assert lines.splitlines() == golden, run


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        program = Path(directory) / "bits"
        build(*BUILDS[0], program)
        print(output(program, isa_names(program)[-1], 1), end="")

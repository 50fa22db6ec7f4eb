"""Promise 2 in C: the lines that bits.c prints are those of golden.txt.

`python -m tests.c.test_harness` prints the lines as they are now.
"""

import shutil
import tempfile
from pathlib import Path

import pytest

from tests.helpers.c_builds import COMPILER, FAST, TESTS_C, kernel_objects, link
from tests.helpers.processes import posix, run

pytestmark = [
    posix,
    pytest.mark.compiles,
    pytest.mark.thread_unsafe(reason="compiles, and starts threads itself"),
]
COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)] or [COMPILER]
GOLDEN = TESTS_C / "golden.txt"


def build(program, *flags, more=(), optimize=FAST, compiler=COMPILER):
    objects = kernel_objects(*flags, optimize=optimize, compiler=compiler)
    return link(program, [TESTS_C / "bits.c", *more, *objects], compiler=compiler)


def build_with_failing_threads(program, **options):
    """Every second thread cannot be created; the baseline is the only set."""
    flags = ["-DCL_BASELINE_ONLY", "-Dpthread_create=failing_pthread_create"]
    return build(program, *flags, more=[TESTS_C / "failing_threads.c"], **options)


def isa_names(program):
    return run(program).strip().split(", ")


def check(program, isa, threads, sizes="all"):
    golden = GOLDEN.read_text().splitlines(keepends=True)
    if sizes == "large":
        golden = [line for line in golden if int(line.split()[1][2:]) > 800]
    assert run(program, isa, threads, sizes) == "".join(golden), (isa, threads)


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return build(tmp_path_factory.mktemp("bits") / "bits")


# Kernels do not depend on the number of threads, nor the split of the batch on the
# instruction set. So each value of one is tested with one or two of the other.


@pytest.mark.parametrize("threads", [1, 8])
def test_best_instruction_set(program, threads):
    check(program, isa_names(program)[-1], threads, "all" if threads == 1 else "large")


def test_instruction_sets_between_baseline_and_best(program):
    for isa in isa_names(program)[1:-1]:
        check(program, isa, 2)


def test_baseline_and_failing_threads(tmp_path):
    check(build_with_failing_threads(tmp_path / "bits"), "baseline", 3)


@pytest.mark.slow
@pytest.mark.parametrize("compiler", COMPILERS)
def test_optimized_build(tmp_path, compiler):
    options = {"optimize": ["-O3"], "compiler": compiler}
    program = build(tmp_path / "bits", **options)
    for isa in isa_names(program):
        for threads in (1, 2, 3, 8):
            check(program, isa, threads)
    failing = build_with_failing_threads(tmp_path / "failing", **options)
    for threads in (1, 2, 3, 8):
        check(failing, "baseline", threads)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        program = build(Path(directory) / "bits")
        print(run(program, isa_names(program)[-1], 1), end="")

"""C programs made of csrc/kernels and of the C files of the tests."""

import functools
import hashlib
import os
import shutil

from tests.helpers.processes import ROOT, run

KERNELS = ROOT / "csrc" / "kernels"
TESTS_C = ROOT / "tests" / "c"
CACHE = ROOT / "build" / "tests"
COMPILER = next(filter(shutil.which, (os.environ.get("CC", ""), "cc", "gcc")), "clang")
FLAGS = [
    *("-std=c11", "-pthread", "-ffp-contract=off", "-fPIC"),
    *(f"-I{KERNELS}", f"-I{TESTS_C}"),
]
EXTRA_FLAGS = os.environ.get("CENTERLOSS_FLAGS", "").split()  # as in setup.py
# Compiles the kernels in a tenth of the time of -O3, and runs at a third of its speed.
FAST = ["-O1", "-Dalways_inline="]


@functools.cache
def state_of_sources():
    """A hash of all files that objects in the cache are made of."""
    files = sorted([*KERNELS.glob("*.[ch]"), *TESTS_C.glob("*.h")])
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def compile_object(source, *flags, compiler=COMPILER):
    """Compile a file of csrc/kernels, unless an earlier run of the tests has."""
    words = [compiler, *FLAGS, *flags, *EXTRA_FLAGS, "-c", str(source)]
    key = hashlib.sha256("\n".join([*words, state_of_sources()]).encode()).hexdigest()
    path = CACHE / f"{source.stem}-{key[:16]}.o"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}.o")
        run(*words, "-o", unfinished)
        unfinished.replace(path)
    return path


def kernel_objects(*flags, optimize=FAST, compiler=COMPILER):
    """The objects of csrc/kernels; the flags are for all files but the kernels."""
    for source in sorted(KERNELS.glob("*.c")):
        own = [] if source.stem.startswith("kernels_") else flags
        yield compile_object(source, *optimize, *own, compiler=compiler)


def link(output, files, *flags, compiler=COMPILER):
    """Compile and link a program, or a library with -shared."""
    run(compiler, *FLAGS, "-O1", *flags, *EXTRA_FLAGS, *files, "-lm", "-o", output)
    return output

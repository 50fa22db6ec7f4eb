"""Builds of csrc/ in which memory and threads are scarce when a test says so.

The product knows nothing of it: these are its own sources, compiled with malloc, free
and pthread_create replaced by those of c/failing_malloc.c and c/failing_threads.c.
"""

import atexit
import contextlib
import ctypes
import functools
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from unittest import mock

import numpy as np

import centerloss.reference
from tests.helpers.paths import CSRC, KERNELS, TESTS

HERE = TESTS / "c"
ALWAYS = 2**31 - 1
COMPILER = next(filter(shutil.which, (os.environ.get("CC", ""), "cc", "gcc")), "clang")
FLAGS = [
    "-DCL_BASELINE_ONLY",  # the least to compile
    *(
        "-std=c11",
        "-pthread",
        "-ffp-contract=off",
        f"-I{KERNELS}",
        f"-I{CSRC / 'binding'}",
        f"-I{HERE}",
    ),
    *("-Dmalloc=failing_malloc", "-Dfree=counted_free"),
    "-Dpthread_create=failing_pthread_create",
]


def compile_c(sources, output, *flags):
    command = [COMPILER, *FLAGS, *flags, *map(str, sources), "-o", str(output)]
    command += os.environ.get("CENTERLOSS_FLAGS", "").split()  # as setup.py does
    subprocess.run(command, check=True)
    return output


def write_docstrings(header):
    script = CSRC / "binding" / "docstrings.py"
    reference = centerloss.reference.__file__
    subprocess.run([sys.executable, script, reference, header], check=True)


@functools.cache
def failing_core():
    """The extension module, and its library for ctypes."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)  # the module stays loaded until then
    path = Path(folder.name) / "_core.so"
    write_docstrings(Path(folder.name) / "docstrings.h")
    includes = (folder.name, np.get_include(), sysconfig.get_path("include"))
    flags = ["-shared", "-fPIC", *(f"-I{include}" for include in includes)]
    flags += [f"-DNPY_{name}=NPY_2_0_API_VERSION" for name in NUMPY_VERSIONS]
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        flags.append("-DPy_LIMITED_API=0x030B0000")
    if sys.platform == "darwin":
        flags += ["-undefined", "dynamic_lookup"]
    sources = [HERE / f"failing_{name}.c" for name in ("malloc", "arrays", "threads")]
    compile_c([*CSRC.rglob("*.c"), *sources], path, *flags)
    loader = ExtensionFileLoader("centerloss._core", str(path))
    spec = spec_from_file_location("centerloss._core", path, loader=loader)
    module = module_from_spec(spec)
    with mock.patch.dict(os.environ):
        os.environ.pop("CENTERLOSS_ISA", None)  # it has the plain loops alone
        loader.exec_module(module)
    return module, Library(path)


NUMPY_VERSIONS = ("NO_DEPRECATED_API", "TARGET_VERSION")


class Library:
    """What is scarce in the module of that file."""

    def __init__(self, path):
        self.c = ctypes.PyDLL(str(path))
        self.c.failing_arrays.restype = ctypes.py_object
        self.c.restore_arrays.restype = ctypes.py_object
        self.c.restore_arrays.argtypes = [ctypes.py_object]

    def __getattr__(self, name):
        return ctypes.c_long.in_dll(self.c, f"failing_malloc_{name}")

    @contextlib.contextmanager
    def arrays(self):
        """The data of NumPy's arrays is scarce, too."""
        before = self.c.failing_arrays()
        try:
            yield
        finally:
            self.c.restore_arrays(before)

    @contextlib.contextmanager
    def memory(self, first, last=ALWAYS):
        """Allocations first..last-1 fail."""
        self.asked.value = 0
        self.first.value, self.last.value = first, last
        try:
            yield
        finally:
            self.first.value = self.last.value = 0

    @contextlib.contextmanager
    def threads(self, denied):
        """Thread i cannot be had if bit i of `denied` is set."""
        ctypes.c_int.in_dll(self.c, "failing_threads_asked").value = 0
        bits = ctypes.c_uint64.in_dll(self.c, "failing_threads_denied")
        before, bits.value = bits.value, denied
        try:
            yield
        finally:
            bits.value = before

    def threads_asked(self):
        return ctypes.c_int.in_dll(self.c, "failing_threads_asked").value

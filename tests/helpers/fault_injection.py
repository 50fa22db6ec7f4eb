"""An extension module whose allocations and threads fail when a test asks for it.

It is built from the sources of the package. Only malloc, free and pthread_create are
replaced, by those of c/failing_malloc.c and c/failing_threads.c.
"""

import atexit
import contextlib
import ctypes
import functools
import os
import sys
import sysconfig
import tempfile
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from unittest import mock

import numpy as np

import centerloss.reference
from tests.helpers.c_builds import TESTS_C, kernel_objects, link
from tests.helpers.processes import ROOT, run

BINDING = ROOT / "csrc" / "binding"
ALWAYS = 2**31 - 1
FAILING_MALLOC = ["-Dmalloc=failing_malloc", "-Dfree=counted_free"]
FLAGS = [
    "-DCL_BASELINE_ONLY",
    "-Dpthread_create=failing_pthread_create",
    *FAILING_MALLOC,
]


def python_flags():
    """What setup.py and setuptools pass for an extension module."""
    yield from ("-shared", f"-I{np.get_include()}", f"-I{BINDING}")
    yield f"-I{sysconfig.get_path('include')}"
    for name in ("NO_DEPRECATED_API", "TARGET_VERSION"):
        yield f"-DNPY_{name}=NPY_2_0_API_VERSION"
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        yield "-DPy_LIMITED_API=0x030B0000"
    if sys.platform == "darwin":
        yield from ("-undefined", "dynamic_lookup")


@functools.cache
def failing_core():
    """The extension module, and its functions and variables for ctypes."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)  # the module stays loaded until then
    header = Path(folder.name) / "docstrings.h"
    script = BINDING / "docstrings.py"
    run(sys.executable, script, centerloss.reference.__file__, header)
    path = Path(folder.name) / "_core.so"
    sources = [TESTS_C / f"failing_{x}.c" for x in ("malloc", "arrays", "threads")]
    files = [*BINDING.glob("*.c"), *sources, *kernel_objects(*FLAGS)]
    link(path, files, *FLAGS, *python_flags(), f"-I{folder.name}", "-O0")
    loader = ExtensionFileLoader("centerloss._core", str(path))
    spec = spec_from_file_location("centerloss._core", path, loader=loader)
    module = module_from_spec(spec)
    with mock.patch.dict(os.environ):
        os.environ.pop("CENTERLOSS_ISA", None)  # it has the baseline only
        loader.exec_module(module)
    return module, Library(path)


class Library:
    """The variables by which allocations and threads of that module fail."""

    def __init__(self, path):
        self.c = ctypes.PyDLL(str(path))
        self.c.failing_arrays.restype = ctypes.py_object
        self.c.restore_arrays.restype = ctypes.py_object
        self.c.restore_arrays.argtypes = [ctypes.py_object]

    def __getattr__(self, name):
        return ctypes.c_long.in_dll(self.c, f"failing_malloc_{name}")

    @contextlib.contextmanager
    def arrays(self):
        """Allocations of NumPy's arrays are counted and fail, too."""
        before = self.c.failing_arrays()
        try:
            yield
        finally:
            self.c.restore_arrays(before)

    @contextlib.contextmanager
    def memory(self, first, last):
        """Allocations first..last-1 fail."""
        self.asked.value = 0
        self.first.value, self.last.value = first, last
        try:
            yield
        finally:
            self.first.value = self.last.value = 0

    @contextlib.contextmanager
    def threads(self, mask):
        """Thread i cannot be created if bit i of `mask` is set."""
        ctypes.c_int.in_dll(self.c, "failing_threads_calls").value = 0
        variable = ctypes.c_uint64.in_dll(self.c, "failing_threads_mask")
        before, variable.value = variable.value, mask
        try:
            yield
        finally:
            variable.value = before

    def thread_calls(self):
        """How often a thread was to be created since `threads`."""
        return ctypes.c_int.in_dll(self.c, "failing_threads_calls").value

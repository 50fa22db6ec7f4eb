"""Build the extension ``centerloss._core``; everything else is in pyproject.toml."""

import os
import sysconfig
from glob import glob

import numpy as np
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# A free-threaded CPython has no stable ABI: it gets a build of its own.
LIMITED_API = not sysconfig.get_config_var("Py_GIL_DISABLED")
WERROR = os.environ.get("CENTERLOSS_WERROR") == "1"
# To compile and to link with, after all others: sanitizers, coverage.
EXTRA_FLAGS = os.environ.get("CENTERLOSS_FLAGS", "").split()

# No contraction into FMA: every instruction set has to give the same bits.
UNIX_FLAGS = [
    *("-std=c11", "-O3", "-ffp-contract=off", "-fvisibility=hidden", "-pthread"),
    *("-Wall", "-Wextra"),
]
MSVC_FLAGS = ["/std:c11", "/O2", "/fp:precise", "/W3"]
if not LIMITED_API:
    MSVC_FLAGS.append("/experimental:c11atomics")


def werror_flags() -> list[str]:
    """Return the flags that turn a warning in csrc/, not in foreign headers, fatal."""
    headers = (np.get_include(), sysconfig.get_path("include"))
    return ["-Wconversion", "-Werror", *(f"-isystem{path}" for path in headers)]


class BuildExt(build_ext):
    """Choose the flags by the compiler that is going to be called."""

    def build_extensions(self) -> None:
        """Build with the flags added."""
        msvc = self.compiler.compiler_type == "msvc"
        for extension in self.extensions:
            if msvc:
                extension.extra_compile_args += MSVC_FLAGS
            else:
                extension.extra_compile_args += UNIX_FLAGS
                extension.extra_compile_args += werror_flags() if WERROR else []
                extension.extra_link_args += ["-pthread"]
            extension.extra_compile_args += EXTRA_FLAGS
            extension.extra_link_args += EXTRA_FLAGS
        super().build_extensions()


macros = [
    ("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"),
    ("NPY_TARGET_VERSION", "NPY_2_0_API_VERSION"),
]
if LIMITED_API:
    macros.append(("Py_LIMITED_API", "0x030B0000"))

setup(
    ext_modules=[
        Extension(
            "centerloss._core",
            sources=sorted(glob("csrc/*/*.c")),
            depends=["setup.py", *sorted(glob("csrc/*/*.h"))],
            include_dirs=["csrc/kernels", np.get_include()],
            define_macros=macros,
            py_limited_api=LIMITED_API,
        )
    ],
    cmdclass={"build_ext": BuildExt},
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if LIMITED_API else {},
)

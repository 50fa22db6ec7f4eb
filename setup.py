"""Build the extension and the long description; the rest is in pyproject.toml."""

import os
import re
import subprocess
import sys
import sysconfig
import tomllib
from glob import glob
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import numpy as np
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# A free-threaded CPython has no stable ABI and needs its own build.
LIMITED_API = not sysconfig.get_config_var("Py_GIL_DISABLED")
WERROR = os.environ.get("CENTERLOSS_WERROR") == "1"
# Further flags for compiling and linking: sanitizers, coverage.
EXTRA_FLAGS = os.environ.get("CENTERLOSS_FLAGS", "").split()

# The script that writes docstrings.h, and the file that it reads.
DOCSTRINGS = "csrc/binding/docstrings.py"
REFERENCE = "centerloss/reference.py"

# No contraction into FMA: every instruction set must give the same bits.
UNIX_FLAGS = [
    *("-std=c11", "-O3", "-ffp-contract=off", "-fvisibility=hidden", "-pthread"),
    *("-Wall", "-Wextra"),
]
MSVC_FLAGS = ["/std:c11", "/O2", "/fp:precise", "/W3"]
if not LIMITED_API:
    MSVC_FLAGS.append("/experimental:c11atomics")


def werror_flags() -> list[str]:
    """Return flags that make a warning an error, but not in headers of others."""
    headers = (np.get_include(), sysconfig.get_path("include"))
    return ["-Wconversion", "-Werror", *(f"-isystem{path}" for path in headers)]


def write_docstrings(folder: str) -> None:
    """Write docstrings.h, which module.c includes."""
    header = str(Path(folder, "docstrings.h"))
    subprocess.run([sys.executable, DOCSTRINGS, REFERENCE, header], check=True)


class BuildExt(build_ext):
    """Write docstrings.h and choose the flags for the compiler in use."""

    def build_extensions(self) -> None:
        """Build with the flags added."""
        write_docstrings(self.build_temp)
        msvc = self.compiler.compiler_type == "msvc"
        for extension in self.extensions:
            extension.include_dirs.append(self.build_temp)
            if msvc:
                extension.extra_compile_args += MSVC_FLAGS
            else:
                extension.extra_compile_args += UNIX_FLAGS
                extension.extra_compile_args += werror_flags() if WERROR else []
                extension.extra_link_args += ["-pthread"]
            extension.extra_compile_args += EXTRA_FLAGS
            extension.extra_link_args += EXTRA_FLAGS
        super().build_extensions()


# Code, a comment, and a link or a picture in Markdown.
CODE = r"(?P<code>```.*?```|`[^`]*`)"
COMMENT = r"<!--.*?-->"
LINK = r"(?P<mark>!?)\[(?P<text>[^][]*)\]\((?P<target>[^)]*)\)"


def without_repository(page: str, source: str | None, version: str) -> str:
    """Return README.md as it can be shown without the files of the repository.

    Relative links and pictures lead to the tag of the version in the repository at
    ``source``, in the paths of GitHub. If that is None, links become their text and
    pictures are left out. Comments are left out, too.
    """

    def replacement(match: re.Match[str]) -> str:
        mark, text, target = match["mark"], match["text"], match["target"]
        if match["code"]:
            return match[0]
        if target is None:
            return ""  # a comment
        if urlsplit(target).scheme:
            return match[0]
        if source is None:
            return "" if mark else text
        kind = "raw" if mark else "blob"
        page_address = f"{source.rstrip('/')}/{kind}/v{version}/README.md"
        return f"{mark}[{text}]({urljoin(page_address, target)})"

    pattern = "|".join([CODE, COMMENT, LINK])
    return re.sub(pattern, replacement, page, flags=re.DOTALL)


def long_description() -> str:
    """Return what package indexes show."""
    readme, project, package = (
        Path(name).read_text("utf-8")
        for name in ("README.md", "pyproject.toml", "centerloss/__init__.py")
    )
    source = tomllib.loads(project)["project"].get("urls", {}).get("Source")
    (version,) = re.findall(r'^__version__ = "(.*)"$', package, re.MULTILINE)
    return without_repository(readme, source, version)


macros = [
    ("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"),
    ("NPY_TARGET_VERSION", "NPY_2_0_API_VERSION"),
]
if LIMITED_API:
    macros.append(("Py_LIMITED_API", "0x030B0000"))

setup(
    long_description=long_description(),
    long_description_content_type="text/markdown",
    ext_modules=[
        Extension(
            "centerloss._core",
            sources=sorted(glob("csrc/*/*.c")),
            depends=["setup.py", DOCSTRINGS, REFERENCE, *sorted(glob("csrc/*/*.h"))],
            include_dirs=["csrc/kernels", np.get_include()],
            define_macros=macros,
            py_limited_api=LIMITED_API,
        )
    ],
    cmdclass={"build_ext": BuildExt},
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if LIMITED_API else {},
)

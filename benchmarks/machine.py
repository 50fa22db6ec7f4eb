"""A description of the machine."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import centerloss
from centerloss._core import _build_info

CPUINFO = Path("/proc/cpuinfo")
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
LIBRARIES = ("numpy", "numba", "torch", "ml_dtypes")


def describe() -> dict[str, str]:
    """Return processor, system, compiler and versions."""
    build = _build_info()
    return {
        "processor": _processor(),
        "caches": _caches() or "unknown",
        "processors": str(os.cpu_count()),
        "load before the run": _load(),
        "system": f"{_system()}, {platform.platform()}",
        "compiler": str(build["compiler"]),
        "instruction set": str(build["isa"]),
        "centerloss": centerloss.__version__,
        "python": platform.python_version(),
        **{name: _version(name) for name in LIBRARIES},
    }


def _processor() -> str:
    if CPUINFO.exists():
        for line in CPUINFO.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _caches() -> str:
    """List the caches of the first processor, as in "L1d 32K"."""
    kinds = {"Data": "d", "Instruction": "i", "Unified": ""}
    return ", ".join(
        f"L{_read(cache / 'level')}{kinds.get(_read(cache / 'type'), '?')} "
        f"{_read(cache / 'size')}"
        for cache in sorted(CACHES.glob("index*"))
    )


def _read(path: Path) -> str:
    return path.read_text().strip()


def _load() -> str:
    try:
        return f"{os.getloadavg()[0]:.1f}"
    except (AttributeError, OSError):  # not on Windows
        return "unknown"


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (KeyError, OSError):
        return platform.system()


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "not installed"

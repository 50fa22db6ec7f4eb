"""A description of the machine."""

import datetime as dt
import os
import platform
import re
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import centerloss
from centerloss._core import _build_info

CPUINFO = Path("/proc/cpuinfo")
# Models of x86-64 processors, by vendor and family. Models of virtual machines are
# often named "AMD EPYC" or "Intel Xeon Processor" only.
MICROARCHITECTURES = {
    ("AuthenticAMD", 0x17): {"Zen": [*range(0x30)], "Zen 2": [*range(0x30, 0xB0)]},
    ("AuthenticAMD", 0x19): {
        "Zen 3": [*range(0x10), *range(0x20, 0x60)],
        "Zen 4": [*range(0x10, 0x20), *range(0x60, 0xB0)],
    },
    ("AuthenticAMD", 0x1A): {
        "Zen 5": [*range(0x30), *range(0x40, 0x50), *range(0x60, 0x80)]
    },
    ("GenuineIntel", 6): {
        "Haswell": [63],
        "Broadwell": [79],
        "Skylake": [85],
        "Ice Lake": [106, 108],
        "Sapphire Rapids": [143],
        "Emerald Rapids": [207],
        "Granite Rapids": [173, 174],
    },
}
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
LIBRARIES = ("numpy", "numba", "torch", "ml_dtypes")


def describe(libraries: Iterable[str] = LIBRARIES) -> dict[str, str]:
    """Return processor, system, compiler and versions."""
    build = _build_info()
    cpu = _cpuinfo()
    return {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "processor": _processor(cpu),
        "family and model": _family_and_model(cpu),
        "caches": _caches() or "unknown",
        "processors": str(os.cpu_count()),
        "load before the run": _load(),
        "system": f"{_system()}, {platform.platform()}",
        "compiler": str(build["compiler"]),
        "instruction set": str(build["isa"]),
        "centerloss": centerloss.__version__,
        "python": platform.python_version(),
        **{name: _version(name) for name in libraries},
    }


def stem(machine: dict[str, str]) -> str:
    """Return the name, without its end, of the files with results of a machine."""
    return re.sub(r"[^a-z0-9]+", "-", machine["processor"].lower()).strip("-")


def _cpuinfo() -> dict[str, str]:
    """Return what Linux says about the first processor."""
    if not CPUINFO.exists():
        return {}
    first, _, _ = CPUINFO.read_text().partition("\n\n")
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _family_and_model(cpu: dict[str, str]) -> str:
    return f"{cpu['cpu family']}, {cpu['model']}" if "model" in cpu else "unknown"


def _processor(cpu: dict[str, str]) -> str:
    """Return the model's name and the microarchitecture, or else family and model."""
    if "model" not in cpu:
        return platform.processor() or platform.machine()
    # "Intel(R) Xeon(R) Processor @ 2.00GHz" is an Intel Xeon.
    name = re.sub(r"\(R\)|\(TM\)|CPU|Processor|@.*", "", cpu["model name"])
    family, model = int(cpu["cpu family"]), int(cpu["model"])
    known = MICROARCHITECTURES.get((cpu["vendor_id"], family), {})
    for microarchitecture, models in known.items():
        if model in models:
            return f"{' '.join(name.split())}, {microarchitecture}"
    return f"{' '.join(name.split())}, family {family}, model {model}"


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

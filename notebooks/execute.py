"""Execute notebooks in place: ``python notebooks/execute.py [NAMES]``, or all of them.

Each runs in a fresh kernel of this Python, in its own folder. Outputs are written back
without traces of the run, such as times. A notebook that fails is not changed.
"""

import argparse
import importlib.util
import os
import sys
import time
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellControlSignal, DeadKernelError

FOLDER = Path(__file__).resolve().parent
SECONDS_PER_CELL = 120
METADATA = {
    "kernelspec": {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    },
    "language_info": {"name": "python"},
}


def main() -> int:
    """Run the command line and return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition(".")[0])
    parser.add_argument("names", nargs="*", help="such as 01_quickstart")
    names = parser.parse_args().names
    paths = [FOLDER / f"{Path(name).stem}.ipynb" for name in names]
    status = 0
    for path in paths or sorted(FOLDER.glob("*.ipynb")):
        start = time.perf_counter()
        try:
            missing = execute(path)
        except (OSError, CellControlSignal, DeadKernelError) as error:
            print(f"{path.stem}: {error}", file=sys.stderr)
            status = 1
            continue
        seconds = time.perf_counter() - start
        outcome = f"skipped, needs {missing}" if missing else f"{seconds:.1f} s"
        print(f"{path.stem}: {outcome}", flush=True)
    return status


def execute(path: Path) -> str:
    """Execute a notebook and write it back, or return the modules that are missing.

    Its metadata names the optional modules it needs: ``"requires": ["torch"]``.
    """
    notebook = nbformat.read(path, as_version=4)
    required = notebook.metadata.get("requires", [])
    if missing := [name for name in required if not importlib.util.find_spec(name)]:
        return ", ".join(missing)
    # Use sys.executable, not a kernel that is installed somewhere.
    kernel = AsyncKernelManager(kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
    client = NotebookClient(
        notebook,
        km=kernel,
        timeout=SECONDS_PER_CELL,
        record_timing=False,
        coalesce_streams=True,
        extra_arguments=["--log-level=ERROR"],  # no warning about local sockets
        resources={"metadata": {"path": str(path.parent)}},
    )
    # A plotting backend set for other programs would draw nothing here.
    client.execute(env={k: v for k, v in os.environ.items() if k != "MPLBACKEND"})
    _clean(notebook)
    nbformat.write(notebook, path)
    return ""


def _clean(notebook: nbformat.NotebookNode) -> None:
    """Keep only metadata that do not depend on where the notebook is executed."""
    required = notebook.metadata.get("requires")
    notebook.metadata = nbformat.from_dict(METADATA)
    if required:
        notebook.metadata.requires = required
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({})


if __name__ == "__main__":
    sys.exit(main())

"""Every notebook runs, and its committed outputs are those of a run."""

import ast
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib.font_manager  # noqa: F401 (builds its cache before a notebook warns that this is slow)
import pytest

FOLDER = Path(__file__).parents[2] / "notebooks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
MEGABYTES = {"02_softmax_and_center_loss": 4}
NEEDS_POSIX = {"03_many_classes"}  # for sparse files

# Absolute paths, memory addresses and terminal colors.
TRACES = re.compile(r"(?<![\w./:])(/[\w.-]+){2,}|\b[A-Z]:\\\w|\b0x[\da-f]{9,}|\x1b")


def load(path):
    return json.loads(path.read_text(encoding="utf-8"))


def code_cells(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def texts(cell):
    """All text outputs of a cell."""
    for output in cell["outputs"]:
        yield "".join(output.get("text", ""))
        for kind, content in output.get("data", {}).items():
            if kind.startswith("text/"):
                yield "".join(content)


def kinds(cell):
    """The outputs of a cell: names of streams, types of data."""
    return [
        output.get("name") or sorted(output.get("data", {}))
        for output in cell["outputs"]
    ]


def check_outputs(notebook):
    cells = code_cells(notebook)
    assert [cell["execution_count"] for cell in cells] == [*range(1, len(cells) + 1)]
    for cell in cells:
        assert "error" not in [output["output_type"] for output in cell["outputs"]]
        assert "stderr" not in kinds(cell)
        assert [text for text in texts(cell) if TRACES.search(text)] == []


@pytest.fixture
def execute(tmp_path):
    """Execute notebooks in a copy of their folder, on data that needs no download."""
    copy = tmp_path / "notebooks"
    shutil.copytree(FOLDER, copy, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_DATA")}

    def run(name, notebook=None):
        path = copy / f"{name}.ipynb"
        if notebook is not None:
            path.write_text(json.dumps(notebook), encoding="utf-8")
        command = [sys.executable, "execute.py", name]
        done = subprocess.run(
            command, cwd=copy, env=environment, capture_output=True, text=True
        )
        return done, path

    return run


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_notebook_runs_and_shows_what_is_committed(execute, name):
    committed = load(FOLDER / f"{name}.ipynb")
    for module in committed["metadata"].get("requires", []):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"needs {module}")
    if os.name != "posix" and name in NEEDS_POSIX:
        pytest.skip("needs sparse files")
    done, path = execute(name)
    assert done.returncode == 0, done.stderr
    executed = load(path)
    check_outputs(executed)
    if sys.platform == "linux":  # some cells need what only Linux measures
        shown = [kinds(cell) for cell in code_cells(committed)]
        assert [kinds(cell) for cell in code_cells(executed)] == shown


@pytest.mark.parametrize("name", NAMES)
def test_committed_outputs_are_clean(name):
    check_outputs(load(FOLDER / f"{name}.ipynb"))


@pytest.mark.parametrize("name", NAMES)
def test_committed_file_is_as_execute_writes_it(name):
    notebook = load(FOLDER / f"{name}.ipynb")
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    metadata = notebook["metadata"]
    assert set(metadata) - {"requires"} == {"kernelspec", "language_info"}
    assert metadata["kernelspec"]["name"] == "python3"
    assert metadata["language_info"] == {"name": "python"}
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    assert [cell["metadata"] for cell in notebook["cells"]] == [{}] * len(ids)


@pytest.mark.parametrize("name", NAMES)
def test_size_is_moderate(name):
    size = (FOLDER / f"{name}.ipynb").stat().st_size
    assert size < MEGABYTES.get(name, 1) * 1_000_000


@pytest.mark.parametrize("name", NAMES)
def test_last_code_cell_asserts(name):
    *_, last = code_cells(load(FOLDER / f"{name}.ipynb"))
    tree = ast.parse("".join(last["source"]))
    assert any(isinstance(node, ast.Assert) for node in ast.walk(tree))


def test_readme_lists_every_notebook():
    listed = re.findall(r"\]\((\w+)\.ipynb\)", (FOLDER / "README.md").read_text())
    assert listed == NAMES


# --- notebooks/execute.py ---------------------------------------------------------


def notebook_of(source, **metadata):
    """A notebook of one code cell, with traces of an earlier run."""
    cell = {
        "cell_type": "code",
        "id": "one",
        "execution_count": 7,
        "metadata": {"execution": {"iopub.execute_input": "then"}},
        "outputs": [],
        "source": source,
    }
    spec = {"name": "of-another-machine", "display_name": "?"}
    metadata = {"kernelspec": spec, **metadata}
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": [cell]}


@pytest.mark.slow
def test_execute_runs_this_python_and_leaves_no_times(execute):
    done, path = execute("new", notebook_of("import sys\nprint(sys.executable)"))
    assert done.returncode == 0, done.stderr
    executed = load(path)
    (cell,) = executed["cells"]
    assert "".join(cell["outputs"][0]["text"]).strip() == sys.executable
    assert (cell["execution_count"], cell["metadata"]) == (1, {})
    assert set(executed["metadata"]) == {"kernelspec", "language_info"}
    assert executed["metadata"]["kernelspec"]["name"] == "python3"


@pytest.mark.slow
def test_execute_leaves_a_failing_notebook_as_it_was(execute):
    notebook = notebook_of("print(1)\n1 / 0")
    done, path = execute("new", notebook)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert load(path) == notebook


@pytest.mark.slow
def test_execute_skips_what_cannot_run_here(execute):
    notebook = notebook_of("import no_such", requires=["numpy", "no_such"])
    done, path = execute("new", notebook)
    assert (done.returncode, done.stdout) == (0, "new: skipped, needs no_such\n")
    assert load(path) == notebook


@pytest.mark.slow
def test_execute_names_a_missing_notebook(execute):
    done, _ = execute("no_such")
    assert done.returncode == 1
    assert done.stderr.startswith("no_such: ")

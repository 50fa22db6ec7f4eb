"""The package before the first call: import, names, signatures, documentation."""

import ast
import doctest
import inspect
import logging
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import centerloss
import centerloss.reference
from tests.helpers.batches import CALLS

THREADS = ("get_num_threads", "set_num_threads")
ROOT = Path(__file__).parents[2]
PACKAGE = Path(centerloss.__file__).parent
PAGES = sorted(
    str(path.relative_to(ROOT))
    for folder in ("", "benchmarks", "csrc", "docs", "notebooks")
    for path in (ROOT / folder).glob("*.md")
)


def parameters(function):
    """Name, kind and default of each parameter."""
    found = inspect.signature(function).parameters.values()
    return [(p.name, p.kind, p.default) for p in found]


def test_import_needs_numpy_alone(tmp_path):
    """Nothing else is imported from outside the standard library."""
    script = (
        "import sys, numpy\n"
        "before = set(sys.modules)\n"
        "import centerloss\n"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    command = [sys.executable, "-c", script]
    output = subprocess.check_output(command, text=True, cwd=tmp_path)
    assert set(output.split()) - {"numpy"} - sys.stdlib_module_names == {"centerloss"}


def test_import_from_a_folder_that_is_not_built(tmp_path):
    """As in a clone, if another folder has the installed package."""
    folder = tmp_path / "centerloss"
    folder.mkdir()
    shutil.copy(Path(centerloss.__file__), folder)
    # Without site-packages, where an editable installation has the extension.
    command = [sys.executable, "-S", "-c", "import centerloss"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    last = done.stderr.splitlines()[-1]
    start = f"ModuleNotFoundError: centerloss was imported from {folder.resolve()}, "
    assert last.startswith(start)
    assert last.endswith("with pip install --editable")


def test_reload(tmp_path):
    """The extension module stays the same; it cannot be loaded twice."""
    script = (
        "import importlib, centerloss\n"
        "step = centerloss.step\n"
        "assert importlib.reload(centerloss).step is step\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path)


def test_import_logs_at_debug_level(tmp_path):
    script = (
        "import logging\n"
        "logging.basicConfig(level=logging.{}, format='%(name)s %(message)s')\n"
        "import centerloss\n"
    )
    build = f"{centerloss._core._build_info()['isa']}, 3 threads"
    logged = f"centerloss centerloss {centerloss.__version__}: {build}\n"
    for level, expected in (("INFO", ""), ("DEBUG", logged)):
        done = subprocess.run(
            [sys.executable, "-c", script.format(level)],
            capture_output=True, text=True, check=True, cwd=tmp_path,
            env=os.environ | {"CENTERLOSS_NUM_THREADS": "3"},
        )  # fmt: skip
        assert (done.stdout, done.stderr) == ("", expected)


def test_nothing_is_printed_without_logging_configured():
    """Python would print warnings of a logger without a handler."""
    (handler,) = logging.getLogger("centerloss").handlers
    assert isinstance(handler, logging.NullHandler)


def test_all_names_exist():
    assert sorted(centerloss.__all__) == centerloss.__all__
    assert set(centerloss.__all__) == {
        *(*CALLS, *THREADS, "CenterLoss", "get_include", "show_versions")
    }
    assert all(hasattr(centerloss, name) for name in centerloss.__all__)


@pytest.mark.parametrize("name", CALLS)
def test_signature_and_docstring_are_those_of_the_reference(name):
    function, twin = getattr(centerloss, name), getattr(centerloss.reference, name)
    assert parameters(function) == parameters(twin)
    assert inspect.getdoc(function) == inspect.getdoc(twin)


def defaults(parsed):
    """The keyword-only arguments that have a default in a parsed function."""
    arguments = zip(parsed.args.kwonlyargs, parsed.args.kw_defaults, strict=True)
    return {
        argument.arg: ast.literal_eval(default)
        for argument, default in arguments
        if default is not None
    }


def parsed_functions(file, owner=None):
    """The functions in a file of the package, or those in one of its classes."""
    tree = ast.parse((PACKAGE / file).read_text(encoding="utf-8"))
    if owner is not None:
        (tree,) = (n for n in tree.body if getattr(n, "name", None) == owner)
    return [node for node in tree.body if isinstance(node, ast.FunctionDef)]


def all_defaults():
    """Places that state defaults, and the defaults they state."""
    for name in CALLS:
        for module in (centerloss, centerloss.reference):
            yield (
                f"{module.__name__}.{name}",
                {
                    option: default
                    for option, kind, default in parameters(getattr(module, name))
                    if kind is inspect.Parameter.KEYWORD_ONLY
                },
            )
        arguments = {"features": [], "labels": [], "centers": np.ones((2, 1))}
        checked = centerloss._core.check(name, arguments)
        yield (
            f"C of {name}",
            {key: checked[key] for key in checked if key not in arguments},
        )
    for function in parsed_functions("_core.pyi"):
        if function.name in CALLS:
            yield f"_core.pyi: {function.name}", defaults(function)
    for file in ("center_loss.py", "torch/module.py"):
        for function in parsed_functions(file, "CenterLoss"):
            if function.name == "__init__":
                yield file, defaults(function)


def test_defaults_are_the_same_everywhere():
    expected = {
        "alpha": 0.5,
        "normalize": True,
        "skip_nonfinite": True,
        "reduction": "mean",
        "loss_weight": 1.0,
        "sample_weight": None,
        "ignore_index": None,
        "out": None,
    }
    found = dict.fromkeys(expected, 0)
    for place, stated in all_defaults():
        for option in expected.keys() & stated.keys():
            default = stated[option]
            assert (type(default), default) == (
                type(expected[option]),
                expected[option],
            ), f"{option} in {place}"
            found[option] += 1
    assert min(found.values()) > 10


@pytest.mark.parametrize("name", centerloss.__all__)
def test_everything_public_has_a_docstring(name):
    public = getattr(centerloss, name)
    assert len(public.__doc__.splitlines()) > 1
    for member, value in inspect.getmembers(public):
        if inspect.isclass(public) and not member.startswith("_") and callable(value):
            assert value.__doc__, member


@pytest.mark.parametrize("name", CALLS)
def test_examples_in_c_docstrings(name):
    """pytest itself finds the examples in Python files."""
    public = {name: getattr(centerloss, name) for name in centerloss.__all__}
    namespace = public | {"np": np, "centerloss": centerloss}
    finder = doctest.DocTestFinder(recurse=False)
    (examples,) = finder.find(public[name], name, globs=namespace)
    assert examples.examples
    failed, _ = doctest.DocTestRunner().run(examples)
    assert failed == 0


def test_module_prints_versions_and_names_the_demo(capsys):
    runpy.run_module("centerloss", run_name="__main__")
    output = capsys.readouterr().out
    assert f"centerloss: {centerloss.__version__}\n" in output
    assert output.endswith("python -m centerloss.demo\n")


def test_citation_and_changelog_have_the_version():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version: {centerloss.__version__}\n" in citation
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    version, date = re.findall(r"^## \[(.*)\](?: - (.*))?$", changelog, re.M)[0]
    if version != "Unreleased":
        assert version == centerloss.__version__
        assert f"date-released: {date}\n" in citation


def test_version_is_a_release_number():
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+)?", centerloss.__version__)


def test_show_versions(capsys):
    centerloss.show_versions()
    rows = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    expected = [
        "centerloss",
        "compiler",
        "isa",
        "threads",
        "numpy",
        "python",
        "platform",
    ]
    assert list(rows) == expected
    assert rows["centerloss"] == centerloss.__version__
    assert rows["numpy"] == np.__version__
    assert rows["threads"] == str(centerloss.get_num_threads())


@pytest.mark.parametrize("page", PAGES)
def test_links_between_files_lead_somewhere(page):
    links = re.findall(r"\]\(([^):#]+)\)", (ROOT / page).read_text(encoding="utf-8"))
    missing = [
        link for link in links if not (ROOT / page).parent.joinpath(link).exists()
    ]
    assert missing == []

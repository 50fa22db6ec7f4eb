"""What a user meets before the first call: import, names, signatures, documentation."""

import doctest
import inspect
import logging
import os
import re
import runpy
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
    """Nothing else is loaded that Python does not bring, be it installed or not."""
    script = (
        "import sys, numpy\n"
        "before = set(sys.modules)\n"
        "import centerloss\n"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    command = [sys.executable, "-c", script]
    output = subprocess.check_output(command, text=True, cwd=tmp_path)
    assert set(output.split()) - {"numpy"} - sys.stdlib_module_names == {"centerloss"}


def test_import_logs_for_those_who_ask(tmp_path):
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


def test_nothing_is_printed_where_nobody_configured_logging():
    """Not even a warning, which Python would print for want of a handler."""
    (handler,) = logging.getLogger("centerloss").handlers
    assert isinstance(handler, logging.NullHandler)


def test_all_names_exist():
    assert sorted(centerloss.__all__) == centerloss.__all__
    assert set(centerloss.__all__) == {
        *(*CALLS, *THREADS, "CenterLoss", "get_include", "show_versions")
    }
    assert all(hasattr(centerloss, name) for name in centerloss.__all__)


@pytest.mark.parametrize("name", CALLS)
def test_c_has_the_signature_of_the_reference(name):
    expected = parameters(getattr(centerloss.reference, name))
    assert parameters(getattr(centerloss, name)) == expected


@pytest.mark.parametrize("name", CALLS)
def test_both_implementations_have_one_docstring(name):
    ours, twin = (getattr(m, name) for m in (centerloss, centerloss.reference))
    assert inspect.getdoc(ours) == inspect.getdoc(twin)


@pytest.mark.parametrize("name", centerloss.__all__)
def test_everything_public_has_a_docstring(name):
    public = getattr(centerloss, name)
    assert len(public.__doc__.splitlines()) > 1
    for member, value in inspect.getmembers(public):
        if inspect.isclass(public) and not member.startswith("_") and callable(value):
            assert value.__doc__, member


@pytest.mark.parametrize("name", CALLS)
def test_examples_in_c_docstrings(name):
    """pytest finds those in Python files by itself."""
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


def test_citation_has_the_version():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version: {centerloss.__version__}\n" in citation


def test_version_is_a_release_number():
    assert re.fullmatch(r"0\.\d+\.\d+(\.dev\d+)?", centerloss.__version__)


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

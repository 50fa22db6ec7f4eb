"""The pages of docs/, as far as they can be tested without Sphinx; csrc/README.md."""

import ast
import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import centerloss

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(path.name for path in DOCS.glob("*.md"))


def text(page):
    return (DOCS / page).read_text("utf-8")


def test_every_page_is_in_one_toctree():
    trees = [
        tree
        for page in PAGES
        for tree in re.findall(r"^```\{toctree\}\n(.*?)^```$", text(page), re.M | re.S)
    ]
    entries = [
        line
        for tree in trees
        for line in tree.splitlines()
        if line and not line.startswith(":")
    ]
    names = [re.sub(r".*<(.*)>", r"\1", entry) for entry in entries]
    pages = {path.stem for path in DOCS.iterdir() if path.suffix in (".md", ".rst")}
    assert sorted(names) == sorted(pages - {"index"})


@pytest.mark.parametrize("page", PAGES)
def test_cards_and_includes_lead_to_files(page):
    cards = re.findall(r"^:link: (.*)", text(page), re.M)
    included = re.findall(r"^```\{(?:literal)?include\} (\S+)$", text(page), re.M)
    assert [name for name in cards if not list(DOCS.glob(f"{name}.*"))] == []
    assert [name for name in included if not (DOCS / name).is_file()] == []


# What has an ``__all__``. The entries of the functions in C are the reference's, too.
MODULES = ["", ".demo", ".distributed", ".reference", ".sklearn", ".torch"]


def public_names(module):
    """The names in ``__all__`` of the source of a module, which is not imported."""
    path = Path(centerloss.__file__).parent.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    (names,) = re.findall(
        r"^__all__ = (\[.*?\])$", path.read_text("utf-8"), re.M | re.S
    )
    return [f"centerloss{module}.{name}" for name in ast.literal_eval(names)]


def entries(directives):
    """The names of the entries in the API reference."""
    found = re.findall(rf"^\.\. {directives}:: ([\w.]+)$", text("api.rst"), re.M)
    return {re.sub(r"^(?!centerloss)", "centerloss.", name) for name in found}


def test_api_has_every_public_name():
    names = {name for module in MODULES for name in public_names(module)}
    names = {name.replace("centerloss.reference.", "centerloss.") for name in names}
    names |= {"centerloss.reference", "centerloss.torch.metric_learning.CenterLoss"}
    assert len(names) > 30
    assert sorted(names - entries(r"auto\w+")) == []


def test_list_at_the_top_of_the_api_has_its_entries():
    parts = re.findall(r"^\.\. autosummary::\n\n((?: +.*\n)+)", text("api.rst"), re.M)
    listed = {f"centerloss.{name}" for part in parts for name in part.split()}
    names = entries("auto(?:function|class)")
    assert listed == {name for name in names if ".demo." not in name}


# --- code ----------------------------------------------------------------------------

# The tests that run the blocks of a language on a page. pytest itself runs those with
# the prompt ">>>"; those with "$" are to be typed.
RUN_BY = {
    ("frameworks.md", "python"): "tests/torch/test_frameworks.py",
    ("index.md", "python"): "tests/torch/test_docs.py",
    ("many-processes.md", "python"): "tests/torch/test_many_processes.py",
    ("pytorch.md", "python"): "tests/torch/test_docs.py",
    ("recipes.md", "python"): "tests/torch/test_recipes.py",
    ("scikit-learn.md", "python"): "tests/torch/test_skorch.py",
    ("internals.md", "c"): "tests/project/test_docs.py",
}
# A change, whose new lines are those of the block above it.
NOT_RUN = {("pytorch.md", "diff")}


def blocks(page):
    """The language and the code of each block of a page, also of what it includes."""
    parts = re.findall(r"^```\{include\} (\S+)$", text(page), re.M)
    whole = "".join([text(page), *((DOCS / part).read_text("utf-8") for part in parts)])
    whole = re.sub(r"^```\{.*?^```$", "", whole, flags=re.M | re.S)  # directives
    return re.findall(r"^```(\w*)\n(.*?)^```$", whole, re.M | re.S)


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_run(page):
    for language, code in blocks(page):
        if language == "pycon":
            assert code.startswith(">>> ")
            assert code in text(page)  # pytest does not see what is included
        elif language == "console":
            assert code.startswith("$ ")
        elif (page, language) not in NOT_RUN:
            test = (ROOT / RUN_BY[page, language]).read_text("utf-8")
            assert ("csrc" if page == "internals.md" else page) in test


def test_pictures_of_the_gallery():
    """All of docs/, and as many texts for each notebook as it has pictures."""
    page = text("gallery.md")
    assert all(f"```{{image}} {path.name}\n" in page for path in DOCS.glob("*.png"))
    described = {
        name: len(texts.splitlines())
        for name, texts in re.findall(
            r"^```\{notebook-figures\} (\w+)\n(.*?)^```$", page, re.M | re.S
        )
    }
    pictures = {
        path.stem: path.read_text("utf-8").count('"image/png": ')
        for path in (ROOT / "notebooks").glob("*.ipynb")
    }
    assert described == pictures


def test_every_picture_has_an_alternative_text():
    for page in PAGES:
        assert "![](" not in text(page)
        images = re.findall(r"^```\{image\} \S+\n(.*?)^```$", text(page), re.M | re.S)
        assert all(re.search(r"^:alt: \w", options, re.M) for options in images)


# --- the C ---------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no cc")
def test_algorithm_in_plain_c_is_a_step(tmp_path):
    """The function in csrc/README.md, compiled, against centerloss.step."""
    page = (ROOT / "csrc" / "README.md").read_text("utf-8")
    (code,) = re.findall(r"^```c\n(.*?)^```$", page, re.M | re.S)
    (tmp_path / "step.c").write_text(code)
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    command = ["cc", *flags, "-o", "step.so", "step.c"]
    subprocess.run(command, cwd=tmp_path, check=True)
    plain_step = ctypes.CDLL(tmp_path / "step.so").step
    plain_step.restype = ctypes.c_double

    B, D, K = 50, 7, 5
    rng = np.random.default_rng(0)
    x, c = (rng.standard_normal((rows, D), np.float32) for rows in (B, K))
    y = rng.integers(0, K - 1, B, np.int32)  # the last class is absent
    gradient, moved = np.empty_like(x), c.copy()
    arrays = [x, y, moved, gradient, np.zeros((K, D)), np.zeros(K)]
    settings = {"loss_weight": 0.3, "alpha": 0.5}
    loss = plain_step(
        *(ctypes.c_int(size) for size in (B, D, K)),
        *(ctypes.c_void_p(array.ctypes.data) for array in arrays),
        *(ctypes.c_double(value) for value in settings.values()),
    )

    expected_loss, expected_gradient = centerloss.step(x, y, c, **settings)
    assert loss == pytest.approx(expected_loss, rel=1e-6)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-6)
    np.testing.assert_allclose(moved, c, rtol=1e-6, atol=1e-6)

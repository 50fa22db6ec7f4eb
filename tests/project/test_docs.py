"""The pages of docs/, as far as they can be tested without Sphinx; csrc/README.md."""

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


def test_every_page_is_in_the_toctree():
    (tree,) = re.findall(r"^```\{toctree\}\n(.*?)^```$", text("index.md"), re.M | re.S)
    entries = [line for line in tree.splitlines() if line and not line.startswith(":")]
    names = [re.sub(r".*<(.*)>", r"\1", entry) for entry in entries]
    pages = {path.stem for path in DOCS.iterdir() if path.suffix in (".md", ".rst")}
    assert sorted(names) == sorted(pages - {"index"})


@pytest.mark.parametrize("page", PAGES)
def test_cards_and_includes_lead_to_files(page):
    cards = re.findall(r"^:link: (.*)", text(page), re.M)
    included = re.findall(r"^```\{(?:literal)?include\} (\S+)$", text(page), re.M)
    assert [name for name in cards if not list(DOCS.glob(f"{name}.*"))] == []
    assert [name for name in included if not (DOCS / name).is_file()] == []


def test_reference_has_every_public_name():
    entries = re.findall(r"^\.\. auto(?:function|class):: (\w+)", text("api.rst"), re.M)
    assert set(centerloss.__all__) <= set(entries)


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

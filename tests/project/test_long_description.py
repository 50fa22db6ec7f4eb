"""What setup.py makes of README.md for pages that show it without the repository."""

import re
import runpy
from pathlib import Path

import pytest

import centerloss

setuptools = pytest.importorskip("setuptools", reason="setuptools is not installed")

ROOT = Path(__file__).parents[2]
SETUP = ROOT / "setup.py"
SOURCE = "https://example.org/someone/centerloss"
pytestmark = pytest.mark.skipif(not SETUP.exists(), reason="setup.py is not here")


@pytest.fixture
def run_setup(monkeypatch):
    """Run setup.py in a folder; returns its names, and what it gives to `setup`."""

    def run(folder):
        given = {}
        monkeypatch.setattr(setuptools, "setup", given.update)
        monkeypatch.chdir(folder)
        return runpy.run_path(str(SETUP)), given

    return run


PAGES = {
    "See [the guide](docs/guide.md).": (
        "See [the guide](https://host/me/it/blob/v1.2/docs/guide.md).",
        "See the guide.",
    ),
    "[in\n`code`](docs/guide.md#the-class)": (
        "[in\n`code`](https://host/me/it/blob/v1.2/docs/guide.md#the-class)",
        "in\n`code`",
    ),
    "below: [Speed](#speed), [x](a), [y](b)": (
        "below: [Speed](https://host/me/it/blob/v1.2/README.md#speed), "
        "[x](https://host/me/it/blob/v1.2/a), [y](https://host/me/it/blob/v1.2/b)",
        "below: Speed, x, y",
    ),
    "![A plot](docs/plot.png)\n": (
        "![A plot](https://host/me/it/raw/v1.2/docs/plot.png)\n",
        "\n",
    ),
    "one <!-- a\ncomment -->two<!-- [b](c) -->": ("one two", "one two"),
    "[doi](https://doi.org/1), ![x](https://a.org/x.png), [m](mailto:a@b.org)": None,
    "`a[i](j)` and\n```python\nf[x](y)  # <!-- no comment -->\n```\n": None,
}


@pytest.mark.parametrize("page", PAGES)
def test_links_pictures_and_comments(run_setup, page):
    convert = run_setup(ROOT)[0]["without_repository"]
    with_source, without = PAGES[page] or (page, page)
    assert convert(page, "https://host/me/it", "1.2") == with_source
    assert convert(page, "https://host/me/it/", "1.2") == with_source
    assert convert(page, None, "1.2") == without


def description(run_setup, folder, urls):
    """The long description of the package with this table of addresses."""
    for name in ("README.md", "centerloss/__init__.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes((ROOT / name).read_bytes())
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    project = re.sub(r"^\[project\.urls\]\n(.+\n)*", "", project, flags=re.M)
    (folder / "pyproject.toml").write_text(project + urls, "utf-8")
    given = run_setup(folder)[1]
    assert given["long_description_content_type"] == "text/markdown"
    return given["long_description"]


def without_links(page):
    """A page without comments, pictures and the targets of links."""
    page = re.sub(r"<!--.*?-->|!\[.*?\]\(.*?\)", "", page, flags=re.S)
    return re.sub(r"\]\([^()]*\)", "]", page)


@pytest.mark.parametrize("urls", ["", '[project.urls]\nOther = "https://a.org"\n'])
def test_readme_without_an_address_has_no_relative_links(run_setup, tmp_path, urls):
    page = description(run_setup, tmp_path, urls)
    links = re.findall(r"\]\((.*?)\)", page)
    assert links
    assert all(link.startswith("https://") for link in links)
    assert "<!--" not in page
    assert "![" not in page
    readme = without_links((ROOT / "README.md").read_text("utf-8"))
    assert re.sub(r"[][]", "", without_links(page)) == re.sub(r"[][]", "", readme)


def test_readme_with_an_address_links_to_files_of_the_tag(run_setup, tmp_path):
    urls = f'[project.urls]\nSource = "{SOURCE}"\n'
    page = description(run_setup, tmp_path, urls)
    readme = (ROOT / "README.md").read_text("utf-8")
    found = re.findall(r"(!?)\[[^][]*\]\((.*?)\)", page)
    assert len(found) == len(re.findall(r"\]\(", readme))
    for mark, link in found:
        start = f"{SOURCE}/{'raw' if mark else 'blob'}/v{centerloss.__version__}/"
        if link.startswith(SOURCE):
            assert link.startswith(start)
            assert (ROOT / link.removeprefix(start).partition("#")[0]).exists()
        else:
            assert link.startswith("https://")
            assert f"]({link})" in readme
    assert "<!--" not in page
    assert without_links(page) == without_links(readme)

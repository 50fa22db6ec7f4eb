"""Checks of docs/ that need no Sphinx: table of contents, links, included text."""

import re
from pathlib import Path

import pytest

import centerloss

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(path.name for path in DOCS.glob("*.md"))
INCLUDE = re.compile(r"^```\{(?:literal)?include\} (\S+)\n(.*?)^```$", re.M | re.S)


def text(page):
    return (DOCS / page).read_text("utf-8")


def test_every_page_is_in_the_toctree():
    (tree,) = re.findall(r"^```\{toctree\}\n(.*?)^```$", text("index.md"), re.M | re.S)
    entries = [line for line in tree.splitlines() if line and not line.startswith(":")]
    names = [re.sub(r".*<(.*)>", r"\1", entry) for entry in entries]
    pages = {path.stem for path in DOCS.iterdir() if path.suffix in (".md", ".rst")}
    assert sorted(names) == sorted(pages - {"index"})


@pytest.mark.parametrize("page", PAGES)
def test_links_of_cards(page):
    cards = re.findall(r"^:link: (.*)", text(page), re.M)
    assert [name for name in cards if not list(DOCS.glob(f"{name}.*"))] == []


@pytest.mark.parametrize("page", PAGES)
def test_included_text_exists(page):
    """The headings where included text starts and ends may have been renamed."""
    for name, options in INCLUDE.findall(text(page)):
        included = (DOCS / name).read_text("utf-8")
        places = re.findall(r'^:(?:start-after|end-before): "(.*)"$', options, re.M)
        positions = [included.find(f"{place}\n") for place in places]
        assert -1 not in positions, (name, places)
        assert positions == sorted(positions), (name, places)


def test_reference_has_every_public_name():
    entries = re.findall(r"^\.\. auto(?:function|class):: (\w+)", text("api.rst"), re.M)
    assert set(centerloss.__all__) <= set(entries)

"""The recipes of docs/recipes.md run, and print the output in their comments."""

import re
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.helpers.processes import run

PAGE = Path(__file__).parents[2] / "docs" / "recipes.md"
TEXT = PAGE.read_text("utf-8")
SECTIONS = dict(re.findall(r"^##? (.*?)\n(.*?)(?=^## |\Z)", TEXT, re.M | re.S))
BLOCKS = {
    heading: re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
    for heading, text in SECTIONS.items()
}
(SETUP,) = BLOCKS.pop("Recipes")

# What some recipes need beside PyTorch.
PACKAGES = {"How do I write it in JAX?": "jax", "How do I use it in Keras?": "keras"}


def printed(block):
    """The output in the comments of a block."""
    lines = re.findall(r"^print\(.*\)  # (.*)$", block, re.M)
    assert lines
    return lines


@pytest.mark.parametrize("question", sorted(BLOCKS.keys() - PACKAGES.keys()))
def test_recipe(question, capsys):
    namespace = {"__name__": "page"}
    for block in [SETUP, *BLOCKS[question]]:
        exec(compile(block, "recipes.md", "exec"), namespace)
        if block != SETUP:
            assert capsys.readouterr().out.splitlines() == printed(block)


@pytest.mark.slow
@pytest.mark.parametrize("question", PACKAGES)
def test_recipe_that_needs_a_package(question):
    """In a process of its own: these packages start threads and have settings."""
    if find_spec(PACKAGES[question]) is None:
        pytest.skip(f"{PACKAGES[question]} is not installed")
    (block,) = BLOCKS[question]
    output = run(sys.executable, "-c", SETUP + block)
    assert output.splitlines() == printed(block)


def test_every_recipe_has_a_block():
    assert len(BLOCKS) > 10
    assert all(BLOCKS.values())

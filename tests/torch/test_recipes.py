"""The recipes of docs/recipes.md run, and print the output in their comments."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "recipes.md"
TEXT = PAGE.read_text("utf-8")
SECTIONS = dict(re.findall(r"^##? (.*?)\n(.*?)(?=^## |\Z)", TEXT, re.M | re.S))
SETUP, *RECIPES = SECTIONS.items()

# What recipes need beside PyTorch: their tests are slow.
PACKAGES = {"in JAX?": "jax", "in Keras?": "keras"}


def blocks(text):
    return re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)


def package_of(question):
    needed = [name for end, name in PACKAGES.items() if question.endswith(end)]
    return needed[0] if needed else None


def parameter(question, text):
    package = package_of(question)
    return pytest.param(text, package, marks=[pytest.mark.slow] if package else [])


def test_every_recipe_has_a_block():
    assert len(RECIPES) > 10
    assert all(blocks(text) for _, text in RECIPES)
    assert len(blocks(SETUP[1])) == 1
    named = [package_of(question) for question, _ in RECIPES]
    assert sorted(filter(None, named)) == sorted(PACKAGES.values())


@pytest.mark.parametrize(
    ("text", "package"),
    [parameter(*recipe) for recipe in RECIPES],
    ids=[question for question, _ in RECIPES],
)
def test_recipe(text, package, capsys, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")  # read by the import
    if package is not None:
        pytest.importorskip(package, reason="it is not installed")
    namespace = {"__name__": "page"}
    exec(compile(blocks(SETUP[1])[0], "recipes.md", "exec"), namespace)
    for block in blocks(text):
        exec(compile(block, "recipes.md", "exec"), namespace)
        expected = re.findall(r"^print\(.*\)  # (.*)$", block, re.M)
        assert expected
        assert capsys.readouterr().out.splitlines() == expected

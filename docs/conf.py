"""The settings of Sphinx. Nothing is fetched while the site is built or read."""

import os
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.ext import autosummary

import centerloss

ROOT = Path(__file__).resolve().parents[1]

project = "centerloss"
author = "centerloss developers"
copyright = "centerloss developers, BSD 3-Clause"  # noqa: A001, the name is Sphinx's
version = release = centerloss.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_parser",
    "sphinx_copybutton",
    "sphinx_design",
]
nitpicky = True
# What others document is not looked up: that would need the network.
nitpick_ignore_regex = [("py:.*", r"(numpy|torch)\..*")]
# Of centerloss.reference, whose functions have the entries of their twins.
nitpick_ignore = [("py:obj", "loss")]
# In a docstring `name` is a link where there is such a name, and else just set off.
default_role = "autolink"
highlight_language = "text"

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # numpydoc's sections have the types, in words
autosummary_generate = False
autosummary.WELL_KNOWN_ABBREVIATIONS += ("Eq.",)  # where no summary ends
numpydoc_show_class_members = False

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "pydata_sphinx_theme"
html_title = f"centerloss {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "header_links_before_dropdown": 6,
    "navbar_align": "left",
    "pygments_light_style": "github-light",
    "pygments_dark_style": "github-dark",
    "secondary_sidebar_items": ["page-toc"],
    "show_prev_next": True,
}
html_sidebars = {"**": []}

# Files and folders that are pages here, by the names they have in the repository.
PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "README.md": "index.md",
    "README.md#promises": "numerics.md",
    "SECURITY.md": "security.md",
    "benchmarks": "performance.md",
    "benchmarks/README.md": "performance.md",
    "benchmarks/results": "performance.md",
    "benchmarks/results/results.md": "performance.md",
    "csrc/README.md": "mathematics.md",
    "notebooks": "notebooks.md",
    "notebooks/README.md": "notebooks.md",
}


def relink(_app: Any, path: Path, _page: str, content: list[str]) -> None:
    """Make the links of an included file lead on from the page that includes it.

    They go to the page that has what they mean, or else to the file itself.
    """
    folder = (ROOT / "docs" / path).resolve().parent

    def here(match: re.Match[str]) -> str:
        target = (folder / match[1]).resolve()
        page = PAGES.get(target.relative_to(ROOT).as_posix())
        return f"]({page or Path(os.path.relpath(target, ROOT / 'docs')).as_posix()})"

    content[0] = re.sub(r"\]\(([^):#][^):]*)\)", here, content[0])


def trim(_app: Any, document: nodes.document) -> None:
    """Drop the empty line at the end of an example: doctest needs it, no reader."""
    for block in document.findall(nodes.literal_block):
        block.rawsource = block.astext().rstrip("\n")
        block.children = [nodes.Text(block.rawsource)]


def setup(app: Any) -> None:
    """Have these called for each file that a page includes, and for each page."""
    app.connect("include-read", relink)
    app.connect("doctree-read", trim)

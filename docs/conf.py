"""Settings of Sphinx. Nothing is downloaded while the site is built or read."""

import os
import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.ext import autosummary

import centerloss

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS))  # for notebook_figures

project = "centerloss"
author = "centerloss developers"
copyright = "centerloss developers, BSD 3-Clause"  # noqa: A001, the name is Sphinx's
version = release = centerloss.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_parser",
    "notebook_figures",
    "sphinx_copybutton",
    "sphinx_design",
]
nitpicky = True
# Looking up what others document would need the network.
nitpick_ignore_regex = [
    ("py:.*", r"(numpy|sklearn|torch)\..*"),
    ("py:obj", r"centerloss\.demo\.(animation|report).*"),  # no part of the API
]
# centerloss.reference: its functions share the entries of the C functions.
nitpick_ignore = [("py:obj", "loss")]
# In a docstring, `name` is a link if there is such a name.
default_role = "autolink"
highlight_language = "text"

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # numpydoc's sections describe the types
autosummary_generate = False
autosummary.WELL_KNOWN_ABBREVIATIONS += ("Eq.",)  # does not end a summary
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
    "logo": {"text": "centerloss"},
    "navbar_align": "left",
    "pygments_light_style": "github-light",
    "pygments_dark_style": "github-dark",
    "secondary_sidebar_items": ["page-toc"],
    "show_prev_next": True,
}
html_sidebars = {"index": [], "api": []}  # elsewhere, the pages of the section

INCLUDE = re.compile(r"^```\{include\} (\S+)$", re.MULTILINE)

# Files of the repository that are included as pages.
PAGES = {
    (DOCS / name).resolve(): page.name
    for page in DOCS.glob("*.md")
    for name in INCLUDE.findall(page.read_text("utf-8"))
}


def relink(file: Path, content: list[str]) -> None:
    """Adapt the relative links of a Markdown file to pages in docs/.

    A link to a file that is included as a page leads to the page. Other links are made
    relative to docs/, and those to other Markdown files download them.
    """

    def link(match: re.Match[str]) -> str:
        target = (file.parent / match[1]).resolve()
        path = Path(os.path.relpath(target, DOCS)).as_posix()
        if target.suffix == ".md" and target.parent != DOCS:
            path = PAGES.get(target, f"path:{path}")
        return f"]({path}"

    content[0] = re.sub(r"\]\(([^):#]+)(?=[#)])", link, content[0])


def relink_page(app: Any, name: str, content: list[str]) -> None:
    """Adapt the links of a page."""
    relink(Path(app.env.doc2path(name)), content)


def relink_included(_app: Any, path: Path, _name: str, content: list[str]) -> None:
    """Adapt the links of a file that a page includes."""
    relink((DOCS / path).resolve(), content)


def trim(_app: Any, document: nodes.document) -> None:
    """Drop the empty line at the end of an example, which only doctest needs."""
    for block in document.findall(nodes.literal_block):
        block.rawsource = block.astext().rstrip("\n")
        block.children = [nodes.Text(block.rawsource)]


def setup(app: Any) -> None:
    """Register the functions above."""
    app.connect("source-read", relink_page)
    app.connect("include-read", relink_included)
    app.connect("doctree-read", trim)

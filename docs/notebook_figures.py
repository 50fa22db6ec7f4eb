"""The directive ``notebook-figures``: the pictures of a notebook, with their code.

They are taken from the outputs of the committed notebook while the pages are built. The
argument is the notebook's name. Each line of the content is the alternative text of a
picture, in the order of the notebook.
"""

import base64
import json
import os
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"


class Figure(NamedTuple):
    """A picture, the code of its cell, and the heading above."""

    png: bytes
    code: str
    heading: str


def read_figures(path: Path) -> list[Figure]:
    """Return the pictures in the outputs of a notebook."""
    figures, heading = [], ""
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            headings = [line for line in source.splitlines() if line.startswith("#")]
            heading = headings[-1].lstrip("# ") if headings else heading
        for output in cell.get("outputs", []):
            png = output.get("data", {}).get("image/png")
            if png is not None:
                figures.append(Figure(base64.b64decode(png), source, heading))
    return figures


class NotebookFigures(SphinxDirective):
    """The pictures of a notebook, side by side, each with its code."""

    required_arguments = 1
    has_content = True
    option_spec: ClassVar[dict[str, Any]] = {}

    def run(self) -> list[nodes.Node]:
        """Write the pictures to the build folder, and return what shows them."""
        name = self.arguments[0]
        notebook = NOTEBOOKS / f"{name}.ipynb"
        self.env.note_dependency(str(notebook))
        figures = read_figures(notebook)
        texts = [line for line in self.content if line.strip()]
        if len(texts) != len(figures):
            raise self.error(f"{name} has {len(figures)} pictures, not {len(texts)}")
        folder = Path(self.env.doctreedir) / "notebooks"
        folder.mkdir(parents=True, exist_ok=True)
        lines = ["::::::{grid} 1 1 2 2", ":gutter: 3"]
        for i, (figure, text) in enumerate(zip(figures, texts, strict=True), 1):
            file = folder / f"{name}-{i}.png"
            file.write_bytes(figure.png)
            lines += self._card(figure, text, file)
        return self.parse_text_to_nodes("\n".join([*lines, "::::::"]))

    def _card(self, figure: Figure, text: str, file: Path) -> list[str]:
        """Return the Markdown of a picture, its heading and its code."""
        path = Path(os.path.relpath(file, self.env.srcdir)).as_posix()
        return [
            ":::::{grid-item-card}",
            f"```{{image}} {path}",
            f":alt: {text}",
            f":target: _images/{file.name}",
            "```",
            f"::::{{dropdown}} {figure.heading}",
            "```python",
            figure.code,
            "```",
            "::::",
            ":::::",
        ]


def setup(app: Any) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("notebook-figures", NotebookFigures)
    return {"parallel_read_safe": True}

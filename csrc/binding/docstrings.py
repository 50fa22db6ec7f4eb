"""Write docstrings.h: the docstrings of the functions, taken from reference.py.

`python csrc/binding/docstrings.py centerloss/reference.py docstrings.h`. setup.py runs
this in every build. reference.py is parsed, not imported: it needs the extension.
"""

import ast
import json
import sys
from pathlib import Path


def text_signature(function: ast.FunctionDef) -> str:
    """Return the line from which `inspect.signature` reads the parameters."""
    arguments = function.args
    parameters = ["$module", *(argument.arg for argument in arguments.args), "*"]
    for argument, default in zip(
        arguments.kwonlyargs, arguments.kw_defaults, strict=True
    ):
        value = "" if default is None else f"={ast.unparse(default)}"
        parameters.append(argument.arg + value)
    return f"{function.name}({', '.join(parameters)})"


def c_definition(function: ast.FunctionDef) -> str:
    """Define a C string with the signature and docstring of a function."""
    text = f"{text_signature(function)}\n--\n\n{ast.get_docstring(function)}\n"
    lines = [f"    {json.dumps(line)}" for line in text.splitlines(keepends=True)]
    return f"static const char {function.name}_doc[] =\n" + "\n".join(lines) + ";\n"


def main(reference: str, header: str) -> None:
    """Write the header."""
    module = ast.parse(Path(reference).read_text(encoding="utf-8"))
    text = "/* Written by docstrings.py. */\n" + "\n".join(
        c_definition(node)
        for node in module.body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    )
    path = Path(header)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])

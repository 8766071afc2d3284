"""Writes the list of rooms and modules in ARCHITECTURE.md, from the docstrings of the packages.

    python -m scripts.module_list

A room is a sub-package. Its line is the first sentence of its docstring, and so is the line of each
module. The list replaces what is between the two marks; a test checks that it is up to date.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "ARCHITECTURE.md"
PACKAGES = ("config", "keys", "publisher", "sftpd", "portal", "scripts")
_BEGIN, _END = "<!-- modules: begin -->\n", "<!-- modules: end -->\n"


def updated(document: str) -> str:
    """Return the document with the list of modules as they are now; ValueError without marks."""
    before, _, rest = document.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not end:
        raise ValueError(f"ARCHITECTURE.md lacks the marks {_BEGIN.strip()} and {_END.strip()}")
    return before + _BEGIN + "\n" + "\n".join(lines()) + "\n" + end + after


def lines() -> Iterator[str]:
    """Yield the lines of the list, package by package."""
    for package in PACKAGES:
        folder = ROOT / package
        yield f"### {package}/"
        yield ""
        yield from _entries(folder, "")
        rooms = sorted(path.parent for path in folder.glob("*/__init__.py"))
        for room in rooms:
            yield f"- **{room.name}/** {first_sentence(room / '__init__.py')}"
            yield from _entries(room, "  ")
            for inner in sorted(path.parent for path in room.glob("*/__init__.py")):
                sentence = first_sentence(inner / "__init__.py")
                yield f"  - **{inner.name}/** {sentence}"
                yield from _entries(inner, "    ")
        yield ""


def first_sentence(module: Path) -> str:
    """Return the first sentence of a module's docstring, on one line."""
    docstring = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(docstring.split("\n\n")[0].split())
    return re.split(r"(?<=[.]) (?=[A-Z])", paragraph)[0]


def _entries(folder: Path, indent: str) -> Iterator[str]:
    for module in sorted(folder.glob("*.py")):
        if module.name != "__init__.py":
            yield f"{indent}- `{module.name}` {first_sentence(module)}"


if __name__ == "__main__":
    DOCUMENT.write_text(updated(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")

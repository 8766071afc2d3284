"""The documents are true: their links and paths exist, and every setting and module is in them."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from config import schema
from scripts import module_list

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
LINK = re.compile(r"\]\(([^)#:]+)\)")
PATH = re.compile(r"`((?:config|keys|publisher|sftpd|portal|scripts|tests|docs)/[\w./-]*)`")
# Paths of a site that begin like paths of this repository.
OF_A_SITE = {
    "keys/",
    "keys/parties/",
    "keys/host/",
    "keys/users/",
    "keys/operators.toml",
    "results/",
}


def documents() -> list[Path]:
    return [*(ROOT / name for name in DOCUMENTS), *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.name)
def test_every_link_of_a_document_leads_to_a_file(document: Path) -> None:
    targets = LINK.findall(document.read_text(encoding="utf-8"))

    assert [link for link in targets if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.name)
def test_every_path_that_a_document_names_exists(document: Path) -> None:
    named = set(PATH.findall(document.read_text(encoding="utf-8"))) - OF_A_SITE

    assert {path for path in named if not exists(path)} == set()


def exists(path: str) -> bool:
    return (ROOT / path).exists() or (ROOT / f"{path}.py").exists()


def settings(model: type[BaseModel], table: str = "") -> Iterator[str]:
    """Yield the dotted key of every setting, as docs/reference.md writes it."""
    for name, field in model.model_fields.items():
        inner = optional(field.annotation)
        if table == "" and isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from settings(inner, f"{name}.")
        elif table:
            yield table + name


def optional(annotation: object) -> object:
    """Return the table of a section that may be left out."""
    tables = [each for each in get_args(annotation) if each is not type(None)]
    return tables[0] if len(tables) == 1 else annotation


def test_every_setting_is_in_the_reference() -> None:
    reference = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    keys = {
        *settings(schema.Site),
        *settings(schema.Rehearsal, "rehearsal."),
        *settings(schema.Party, "party."),
    }

    assert len(keys) > 30
    assert {key for key in keys if f"`{key}`" not in reference} == set()


def test_no_removed_setting_is_in_the_reference() -> None:
    reference = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")

    assert [key for key in schema.REMOVED_KEYS if f"`{key}`" in reference] == []


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 80


def test_every_module_is_in_the_list_of_architecture_and_no_other() -> None:
    # Not compared are the sentences: they follow the docstrings when the list is written again.
    document = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    entry = re.compile(r"^#+ .*|^ *- `[\w.]+`|^ *- \*\*\w+/\*\*", re.MULTILINE)

    listed = entry.findall(document)

    assert len(listed) > 150
    assert listed == entry.findall(module_list.updated(document)), (
        "run: python -m scripts.module_list"
    )


def test_every_module_begins_with_a_sentence_that_says_what_it_does() -> None:
    listed = subprocess.run(
        ["git", "ls-files", *module_list.PACKAGES], cwd=ROOT, capture_output=True, check=True
    )
    modules = [ROOT / name for name in listed.stdout.decode().split() if name.endswith(".py")]

    assert len(modules) > 150
    assert [path for path in modules if not module_list.first_sentence(path).endswith(".")] == []

"""Walks all commands of `ssps`: each explains itself, fits a terminal, and is documented.

The documents are README.md and the Markdown files in docs/ and scripts/. A command is documented
if one of them has `ssps NAME`, also as one of several: `ssps party suspend|resume PARTY`.
"""

import re
import shlex
from pathlib import Path

import click
import pytest

from scripts.command_reference import COLUMNS, contexts, render

ROOT = Path(__file__).resolve().parents[3]
REFERENCE = ROOT / "docs" / "reference" / "commands.md"
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
ALL = {context.command_path: context for context in contexts()}
COMMANDS = [path for path in ALL if not isinstance(ALL[path].command, click.Group)]


@pytest.mark.parametrize("path", ALL)
def test_every_command_and_option_has_help(path: str) -> None:
    command = ALL[path].command
    options = [
        option.opts[0]
        for option in command.params
        if isinstance(option, click.Option) and not option.hidden and not option.help
    ]

    assert command.help
    assert options == []


@pytest.mark.parametrize("path", ALL)
def test_every_argument_is_named_in_the_help_text(path: str) -> None:
    command = ALL[path].command
    unnamed = [
        name
        for argument in command.params
        if isinstance(argument, click.Argument)
        for name in re.findall(r"[A-Z]+", argument.make_metavar(ALL[path]))
        if not re.search(rf"\b{name}\b", command.help or "")
    ]

    assert unnamed == []


@pytest.mark.parametrize("path", ALL)
def test_help_fits_the_terminal_and_is_not_cut(path: str) -> None:
    lines = ALL[path].get_help().splitlines()

    assert [line for line in lines if len(line) > COLUMNS] == []
    assert [line for line in lines if re.fullmatch(r"  \S+ {2,}.*\.\.\.", line)] == []


@pytest.mark.parametrize("path", ALL)
def test_no_summary_is_cut_on_a_terminal_of_80_columns(path: str) -> None:
    """Click leaves two columns free, which the command reference does not."""
    command = ALL[path].command
    shown = click.Context(command, info_name=path, terminal_width=COLUMNS - 2)

    lines = command.get_help(shown).splitlines()

    assert [line for line in lines if re.fullmatch(r"  \S+ {2,}.*\.\.\.", line)] == []


@pytest.mark.parametrize("path", COMMANDS)
def test_the_help_ends_with_an_example_that_the_command_accepts(path: str) -> None:
    """Every option of the example is known, each needed value is there, and no word is left."""
    context = ALL[path]
    shown = context.get_help().splitlines()[-1].strip()
    words = shlex.split(shown.partition(" > ")[0])
    names = path.split()
    assert words[: len(names)] == names

    given, left, _ = context.command.make_parser(context).parse_args(words[len(names) :])

    needed = {each.name for each in context.command.params if each.required}
    assert left == []
    assert needed <= {name for name, value in given.items() if value}
    for each in context.command.params:
        value = given.get(each.name or "")
        if isinstance(value, str) and not isinstance(each.type, click.Path | click.File):
            each.type_cast_value(context, value)


def documented() -> set[str]:
    """Return `party suspend` and `party resume` for `ssps party suspend|resume PARTY`."""
    found: set[str] = set()
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8").replace("\\|", "|")
        for words in re.findall(r"\bssps((?: [a-z][a-z|-]*)+)", text):
            alternatives = [""]
            for word in words.split():
                alternatives = [f"{a} {w}".strip() for a in alternatives for w in word.split("|")]
                found.update(alternatives)
    return found


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_is_documented(path: str) -> None:
    assert path.removeprefix("ssps ") in documented()


def test_a_command_that_is_not_documented_is_found() -> None:
    assert "party explode" not in documented()


def test_the_command_reference_is_up_to_date() -> None:
    advice = "run: python -m scripts.command_reference > docs/reference/commands.md"

    assert REFERENCE.read_text(encoding="utf-8") == render(), advice

"""Prints docs/reference/commands.md: the help text of every `ssps` command, in Markdown.

    python -m scripts.command_reference > docs/reference/commands.md

The help texts in the code are the only source; a test checks that the file is up to date.
"""

from collections.abc import Iterator

import click

from scripts.ssps import main

COLUMNS = 80
_HEAD = """\
# Commands

This file is generated from the help texts in the code, so do not edit it:

    python -m scripts.command_reference > docs/reference/commands.md
"""


def contexts(
    command: click.Command = main, parent: click.Context | None = None, name: str = "ssps"
) -> Iterator[click.Context]:
    """Yield a context for each command and group, in the order of `--help`."""
    settings = {**command.context_settings, "terminal_width": COLUMNS, "max_content_width": COLUMNS}
    found = click.Context(command, parent, name, **settings)
    yield found
    if isinstance(command, click.Group):
        for each in command.list_commands(found):
            inner = command.get_command(found, each)
            if inner is not None and not inner.hidden:
                yield from contexts(inner, found, each)


def render() -> str:
    """Return the text of docs/reference/commands.md."""
    parts = [_HEAD]
    for context in contexts():
        parts.append(f"\n## {context.command_path}\n\n```text\n{context.get_help()}\n```\n")
    return "".join(parts)


if __name__ == "__main__":
    print(render(), end="")

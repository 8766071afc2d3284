"""Prints the man page of `ssps`, from the same help texts as `--help` and docs/reference.

    python -m scripts.man_page > /usr/local/share/man/man1/ssps.1

`ssps init --system` writes it there, and the completion of bash beside it. The macros are those of
man(7); each command is a subsection with its synopsis, text, options and example.
"""

import re
from collections.abc import Iterator

import click

from scripts.command_reference import contexts

_HEAD = r"""'\" t
.TH SSPS 1 "" "ssps" "User Commands"
.SH NAME
ssps \- file signed tally sheets by QR code and serve them to the parties
"""


def render() -> str:
    """Return the man page."""
    parts = [_HEAD]
    first, *commands = contexts()
    parts += [".SH SYNOPSIS", *_synopsis(first), ".SH DESCRIPTION", *_text(first)]
    parts += [".SH OPTIONS", *_options(first), ".SH COMMANDS"]
    for context in commands:
        parts += [f".SS {_escape(context.command_path)}", *_synopsis(context)]
        parts += [*_text(context), *_options(context), *_example(context)]
    parts += [
        ".SH EXIT STATUS",
        "0 success, 1 an error (one line for each fault), 2 wrong usage.",
        "Commands that say so have others.",
    ]
    text = "\n".join(parts).replace("\n\n", "\n") + "\n"
    return "".join(c if c.isascii() else rf"\[u{ord(c):04X}]" for c in text)


def _synopsis(context: click.Context) -> Iterator[str]:
    usage = " ".join([context.command_path, *context.command.collect_usage_pieces(context)])
    yield rf"\fB{_escape(usage)}\fR"


def _text(context: click.Context) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", context.command.help or ""):
        lines = paragraph.splitlines()
        yield ".PP"
        if lines and lines[0].strip() == "\b":
            yield from (".nf", *(_escape(line) for line in lines[1:]), ".fi")
        else:
            yield _escape(" ".join(line.strip() for line in lines))


def _options(context: click.Context) -> Iterator[str]:
    for option in context.command.get_params(context):
        record = option.get_help_record(context)
        if record is not None:
            yield from (".TP", rf"\fB{_escape(record[0])}\fR", _escape(" ".join(record[1].split())))


def _example(context: click.Context) -> Iterator[str]:
    """Yield what the help ends with (scripts/shared/examples)."""
    _, *lines = (context.command.epilog or "").splitlines() or [""]
    if lines:
        yield from (".PP", ".nf", *(_escape(line) for line in lines), ".fi")


def _escape(text: str) -> str:
    escaped = text.replace("\\", r"\e").replace("-", r"\-")
    return rf"\&{escaped}" if escaped[:1] in (".", "'") else escaped


if __name__ == "__main__":
    print(render(), end="")

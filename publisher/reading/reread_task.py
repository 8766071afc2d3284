"""What an operator asks for when a page is to be read again: which page, how turned, which part.

    1 90 1200,40,1640,520        page 1, turned by 90 degrees clockwise, this part of it
    1 0 -                        page 1 as it is, all of it

The part is left, top, right and bottom in pixels of the page, before it is turned. The message to
the worker (publisher/reading/reread) is this line, a newline, and the bytes of the file.
"""

import re
from typing import NamedTuple

TURNS = (0, 90, 180, 270)
MAX_PIXEL = 100_000
_LINE = re.compile(r"([1-9][0-9]{0,1}) (0|90|180|270) (-|[0-9]{1,6}(?:,[0-9]{1,6}){3})", re.ASCII)

Box = tuple[int, int, int, int]


class RereadSettings(NamedTuple):
    """How to read a page again; `turn` is in degrees clockwise, `crop` None for all of it."""

    page: int = 1
    turn: int = 0
    crop: Box | None = None

    def __str__(self) -> str:
        part = "-" if self.crop is None else ",".join(map(str, self.crop))
        return f"{self.page} {self.turn} {part}"


def parse_settings(line: str) -> RereadSettings:
    """Parse what `str` wrote; raise ValueError with what is wrong."""
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError("not settings to read a page again: write page, turn and part")
    page, turn, part = match.groups()
    crop = None if part == "-" else _box(part)
    return RereadSettings(int(page), int(turn), crop)


def _box(part: str) -> Box:
    left, top, right, bottom = map(int, part.split(","))
    if not (left < right <= MAX_PIXEL and top < bottom <= MAX_PIXEL):
        raise ValueError("the part of the page is empty: left before right, top above bottom")
    return left, top, right, bottom


def format_task(settings: RereadSettings, content: bytes) -> bytes:
    """Return the message to the worker about a file."""
    return f"{settings}\n".encode() + content


def parse_task(message: bytes) -> tuple[RereadSettings, bytes]:
    """Return settings and bytes of a message."""
    line, _, content = message.partition(b"\n")
    return parse_settings(line.decode()), content

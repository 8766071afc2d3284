"""The worker that reads pages: file bytes in, a Look at each page out.

    python -m publisher.qr        speaks on the socket that is its standard input

publisher/messages says what is spoken. It is given bytes, never a path, and is shut in before it
sees any (publisher/cage). The page may take the worker with it (a crash, a hang, all its memory):
publisher/reader survives that.
"""

import io
import os
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator

from PIL import Image

from publisher import cage, cascade, frames
from publisher.cascade import milliseconds
from publisher.messages import MOST_BYTES, READY, format_look, receive, send
from publisher.page import Look, Reading, Reason


def look(data: bytes) -> Look:
    """Return every code in the file, or why the bytes are no pages that could be read."""
    return Look.of(list(looks(data)))


def looks(data: bytes) -> Iterator[Look]:
    """Yield what is on each page of the file, each with how many there are."""
    begun = time.monotonic()
    kind = frames.kind_of(data)
    try:
        opened = frames.opened(data)
    except frames.Refused as refused:
        yield Look(kind, ms=milliseconds(begun), fault=refused.reason)
        return
    for number, (width, height) in enumerate(opened.sizes):
        fault: Reason | None = None
        readings: tuple[Reading, ...] = ()
        try:
            grey = opened.grey(number)
            readings = tuple(cascade.read(grey, width / grey.width))
        except frames.Refused as refused:
            fault = refused.reason
        except MemoryError:
            fault = Reason.TOO_LARGE
        ms = milliseconds(begun)
        yield Look(kind, width, height, readings, ms, fault, len(opened.sizes))
        begun = time.monotonic()


def serve(channel: socket.socket, read: Callable[[bytes], Iterable[Look]] = looks) -> None:
    """Answer until the publisher hangs up."""
    send(channel, READY)
    while (data := receive(channel, MOST_BYTES)) is not None:
        cage.allow_cpu()
        for seen in read(data):
            send(channel, format_look(seen))
            cage.allow_cpu()


def warm_up() -> None:
    """Read a page of each format, so that all that has to be loaded from the disk is loaded."""
    page = Image.new("L", (64, 64), 255)
    for kind in ("JPEG", "PNG", "TIFF", "PDF"):
        file = io.BytesIO()
        page.save(file, kind)
        grey = frames.opened(file.getvalue()).grey(0)
    cascade.read(grey)


def main(parent: int, read: Callable[[bytes], Iterable[Look]] = looks) -> None:
    """Be a worker of the process `parent`."""
    warnings.simplefilter("ignore")
    warm_up()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with socket.socket(fileno=0) as channel:
        cage.confine(parent)
        os.dup2(nowhere, 2)  # libtiff and ZBar write what the page says to standard error
        serve(channel, read)


if __name__ == "__main__":
    main(int(sys.argv[1]))

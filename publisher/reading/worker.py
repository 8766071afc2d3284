"""The worker that reads pages: file bytes in, a ReadResult at each page out.

    python -m publisher.reading.worker        speaks on the socket that is its standard input

publisher/reading/protocol says what is spoken. It is given bytes, never a path, and is shut in
before it
sees any (publisher/reading/sandbox). The page may take the worker with it (a crash, a hang, all
its memory): publisher/reading/worker_client survives that.
"""

import io
import os
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator

from PIL import Image

from publisher.page import MAGIC, Reading, ReadResult, Reason, format_of
from publisher.reading import decode, rasterize, sandbox
from publisher.reading.decode import milliseconds
from publisher.reading.protocol import MAX_FILE_BYTES, READY, format_result, receive, send


def read_file(data: bytes) -> ReadResult:
    """Return every code in the file, or why the bytes are no pages that could be read."""
    return ReadResult.combined(list(read_pages(data)))


def read_pages(data: bytes) -> Iterator[ReadResult]:
    """Yield what is on each page of the file, each with how many there are."""
    begun = time.monotonic()
    kind = format_of(data)
    try:
        opened = rasterize.opened(data)
    except rasterize.Refused as refused:
        yield ReadResult(kind, ms=milliseconds(begun), fault=refused.reason)
        return
    for number, (width, height) in enumerate(opened.sizes):
        fault: Reason | None = None
        readings: tuple[Reading, ...] = ()
        try:
            grey = opened.grey(number)
            readings = tuple(decode.read(grey, width / grey.width))
        except rasterize.Refused as refused:
            fault = refused.reason
        except MemoryError:
            fault = Reason.TOO_LARGE
        ms = milliseconds(begun)
        yield ReadResult(kind, width, height, readings, ms, fault, len(opened.sizes))
        begun = time.monotonic()


def serve(
    channel: socket.socket, read: Callable[[bytes], Iterable[ReadResult]] = read_pages
) -> None:
    """Answer until the publisher hangs up."""
    send(channel, READY)
    while (data := receive(channel, MAX_FILE_BYTES)) is not None:
        sandbox.allow_cpu()
        for seen in read(data):
            send(channel, format_result(seen))
            sandbox.allow_cpu()


def warm_up() -> None:
    """Read a page of each format, so that all that has to be loaded from the disk is loaded."""
    page = Image.new("L", (64, 64), 255)
    for kind in MAGIC:
        file = io.BytesIO()
        page.save(file, kind)
        grey = rasterize.opened(file.getvalue()).grey(0)
    decode.read(grey)


def main(parent: int, read: Callable[[bytes], Iterable[ReadResult]] = read_pages) -> None:
    """Be a worker of the process `parent`."""
    warnings.simplefilter("ignore")
    warm_up()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with socket.socket(fileno=0) as channel:
        sandbox.confine(parent)
        os.dup2(nowhere, 2)  # libtiff and ZBar write what the page says to standard error
        serve(channel, read)


if __name__ == "__main__":
    main(int(sys.argv[1]))

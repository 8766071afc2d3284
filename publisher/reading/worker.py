"""The worker process: it gets the bytes of a file and returns what is on each page.

    python -m publisher.reading.worker PARENT_PID      the socket is its standard input

publisher/reading/protocol describes the messages. The worker gets bytes, never a path, and enters
its sandbox (publisher/reading/sandbox) before it gets the first. A page may make the worker crash,
hang or use up its memory; publisher/reading/worker_client handles that.
"""

import io
import os
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator

import qrcode
from PIL import Image

from publisher.page import MAGIC, Reading, ReadResult, Reason, format_of
from publisher.reading import decode, rasterize, sandbox
from publisher.reading.decode import milliseconds
from publisher.reading.protocol import MAX_FILE_BYTES, READY, format_result, receive, send


def read_file(data: bytes) -> ReadResult:
    """Return every code in the file, or why its pages cannot be read."""
    return ReadResult.combined(list(read_pages(data)))


def read_pages(data: bytes) -> Iterator[ReadResult]:
    """Yield the result of each page of the file."""
    begun = time.monotonic()
    kind = format_of(data)
    try:
        frames = rasterize.open_file(data)
    except rasterize.Refused as refused:
        yield ReadResult(kind, ms=milliseconds(begun), fault=refused.reason)
        return
    for number, (width, height) in enumerate(frames.sizes):
        fault: Reason | None = None
        readings: tuple[Reading, ...] = ()
        try:
            grey = frames.grey(number)
            codes = decode.read_codes(grey, width / grey.width)
            readings, fault = tuple(codes.readings), codes.fault
        except rasterize.Refused as refused:
            fault = refused.reason
        except MemoryError:
            fault = Reason.TOO_LARGE
        ms = milliseconds(begun)
        yield ReadResult(kind, width, height, readings, ms, fault, len(frames.sizes))
        begun = time.monotonic()


def serve(
    channel: socket.socket, read: Callable[[bytes], Iterable[ReadResult]] = read_pages
) -> None:
    """Answer requests until the publisher closes the socket."""
    send(channel, READY)
    while (data := receive(channel, MAX_FILE_BYTES)) is not None:
        sandbox.allow_cpu()
        for seen in read(data):
            send(channel, format_result(seen))
            sandbox.allow_cpu()


def warm_up() -> None:
    """Read a page of each format, so that every library is loaded before the sandbox."""
    code = qrcode.QRCode(1, qrcode.ERROR_CORRECT_L, box_size=2, border=4)
    code.add_data("0000000000")
    image = code.make_image().convert("L")
    page = Image.new("L", (64 * 8, 64 * 12), 255)
    for top in (0, 64 * 10):
        page.paste(image, (64 * 7, top))
    for kind in MAGIC:
        file = io.BytesIO()
        page.save(file, kind)
        grey = rasterize.open_file(file.getvalue()).grey(0)
    decode.read_codes(grey)
    decode.read_codes(grey.crop((0, 0, 64, 64)))  # the passes over a page without a code


def main(parent: int, read: Callable[[bytes], Iterable[ReadResult]] = read_pages) -> None:
    """Run as a worker of the process `parent`."""
    warnings.simplefilter("ignore")
    warm_up()
    devnull = os.open(os.devnull, os.O_WRONLY)
    with socket.socket(fileno=0) as channel:
        sandbox.confine(parent)
        os.dup2(devnull, 2)  # libtiff and ZBar write content of the page to standard error
        serve(channel, read)


if __name__ == "__main__":
    main(int(sys.argv[1]))

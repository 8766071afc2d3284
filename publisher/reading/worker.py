"""The worker process: it gets the bytes of a file and returns the codes on its page.

A file of several pages is not read: for each page a file that has only this page is returned.

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
from dataclasses import replace

import numpy as np
import qrcode
from PIL import Image

from config.registry import is_karekod
from publisher.page import MAGIC, MAX_FILE_BYTES, Reading, ReadResult, Reason, format_of
from publisher.reading import sandbox
from publisher.reading.codes import decode, digits
from publisher.reading.codes.decode import milliseconds
from publisher.reading.formats import rasterize
from publisher.reading.protocol import READY, format_result, receive, send


def read_file(data: bytes) -> ReadResult:
    """Return the codes in a file of one page, or files with one page each; or why neither works."""
    first, *extracts = answers(data)
    assert isinstance(first, ReadResult)  # noqa: S101 - the first answer is always the result
    return replace(first, extracts=tuple(part for part in extracts if isinstance(part, bytes)))


def answers(data: bytes) -> Iterator[ReadResult | bytes]:
    """Yield the result of a file, and then a file for each page if it has several."""
    begun = time.monotonic()
    kind = format_of(data)
    try:
        frames = rasterize.open_file(data)
        if len(frames.sizes) == 1:
            yield _read_page(frames, begun)
            return
        # All pages are copied first: if one cannot be copied, the answer is a fault.
        extracts = [frames.extract(number) for number in range(len(frames.sizes))]
        if sum(map(len, extracts)) > MAX_FILE_BYTES:
            raise rasterize.Refused(Reason.TOO_LARGE)
    except rasterize.Refused as refused:
        yield ReadResult(kind, ms=milliseconds(begun), fault=refused.reason)
        return
    width, height = frames.sizes[0]
    yield ReadResult(kind, width, height, ms=milliseconds(begun), frames=len(extracts))
    yield from extracts


def _read_page(frames: rasterize.Frames, begun: float) -> ReadResult:
    ((width, height),) = frames.sizes
    fault: Reason | None = None
    readings: tuple[Reading, ...] = ()
    pixels = print_map = None
    try:
        grey = frames.grey(0)
        codes = decode.read_codes(grey, width / grey.width)
        readings, fault = (*codes.readings, *codes.measures), codes.fault
        print_map = codes.print_map
        if fault is None and any(is_karekod(reading.text) for reading in readings):
            pixels = frames.pixels(0)
    except rasterize.Refused as refused:
        fault = refused.reason
    except MemoryError:
        fault = Reason.TOO_LARGE
    ms = milliseconds(begun)
    return ReadResult(
        frames.format, width, height, readings, ms, fault, pixels=pixels, print_map=print_map
    )


def serve(
    channel: socket.socket, read: Callable[[bytes], Iterable[ReadResult | bytes]] = answers
) -> None:
    """Answer requests until the publisher closes the socket."""
    send(channel, READY)
    while (data := receive(channel, MAX_FILE_BYTES)) is not None:
        sandbox.allow_cpu()
        for answer in read(data):
            send(channel, answer if isinstance(answer, bytes) else format_result(answer))
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
        frames = rasterize.open_file(file.getvalue())
        grey = frames.grey(0)
        frames.extract(0)
        frames.pixels(0)
    digits.classify(np.zeros((1, digits.CELL_HIGH, digits.CELL_WIDE), np.float32))
    decode.read_codes(grey)
    decode.read_codes(grey.crop((0, 0, 64, 64)))  # the passes over a page without a code


def main(parent: int, read: Callable[[bytes], Iterable[ReadResult | bytes]] = answers) -> None:
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

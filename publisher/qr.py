"""Page bytes -> karekod texts: the only home of pyzbar and zxing-cpp, run as a worker process.

    python -m publisher.qr        speaks on the socket that is its standard input

publisher/messages says what is spoken. The page may take the worker with it (a crash, a hang,
all its memory): publisher/reader survives that.

Each scan runs only where those before found no karekod with two witnesses:

    whole   zxing-cpp on the grey page         half    the same at half size
    zbar    pyzbar on the grey page            hard    zxing-cpp with everything on
"""

import ctypes
import io
import os
import resource
import signal
import socket
import struct
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import zxingcpp
from PIL import Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError
from pyzbar.pyzbar import ZBarSymbol
from pyzbar.pyzbar import decode as zbar_decode

from config.registry import is_karekod
from publisher.messages import (
    LONGEST_TEXT,
    MOST_BYTES,
    MOST_FRAMES,
    READY,
    format_look,
    receive,
    send,
)
from publisher.page import Look, Reading, Reason

MOST_PIXELS = 120_000_000
_MEMORY = 1536 << 20
_CPU_SECONDS = 8
_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
)
_PLUGINS = (JpegImagePlugin, PngImagePlugin, TiffImagePlugin)  # loaded before the limits fall
_NO_IMAGE = (UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError, struct.error)
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38

Scan = tuple[str, Callable[[Image.Image], Iterator[Reading]]]


def look(data: bytes) -> Look:
    """Return every code in the file, or why the bytes are no pages that could be read."""
    return Look.of(list(looks(data)))


def looks(data: bytes) -> Iterator[Look]:
    """Yield what is on each page of the file, each with how many there are."""
    begun = time.monotonic()
    kind = next((kind for magic, kind in _MAGIC if data.startswith(magic)), None)
    if kind is None:
        yield Look(fault=Reason.NOT_AN_IMAGE)
        return
    try:
        with Image.open(io.BytesIO(data), formats=[kind]) as image:
            frames = _frames(image)
            if frames > MOST_FRAMES:
                yield Look(kind, *image.size, fault=Reason.TOO_MANY_PAGES)
                return
            for frame in range(frames):
                yield _page(image, frame, frames, begun)
                begun = time.monotonic()
    except MemoryError:
        yield Look(kind, ms=_ms(begun), fault=Reason.TOO_LARGE)
    except _NO_IMAGE:
        yield Look(kind, ms=_ms(begun), fault=Reason.UNREADABLE_IMAGE)


def _frames(image: Image.Image) -> int:
    """Count the pages, and stop beyond the cap, however many the file claims to have."""
    if image.format != "TIFF":
        return getattr(image, "n_frames", 1)
    for frame in range(1, MOST_FRAMES + 1):
        try:
            image.seek(frame)
        except EOFError:
            return frame
    return MOST_FRAMES + 1


def _page(image: Image.Image, frame: int, frames: int, begun: float) -> Look:
    kind, size = image.format, (0, 0)
    fault: Reason | None = None
    readings: tuple[Reading, ...] = ()
    try:
        image.seek(frame)
        size = image.size
        if size[0] * size[1] > MOST_PIXELS:
            fault = Reason.TOO_LARGE
        else:
            readings = tuple(_readings(_grey(image)))
    except MemoryError:
        fault = Reason.TOO_LARGE
    except _NO_IMAGE:
        fault = Reason.UNREADABLE_IMAGE
    return Look(kind, *size, readings, _ms(begun), fault, frames)


def _grey(image: Image.Image) -> Image.Image:
    if image.format == "JPEG":
        image.draft("L", image.size)
    if image.mode.startswith("I;16"):
        return image.point(lambda value: value * (1 / 256)).convert("L")
    if image.mode in ("F", "I"):
        raise ValueError(f"no scanner writes mode {image.mode}")
    if image.has_transparency_data:
        paper = Image.new("LA", image.size, (255, 255))
        return Image.alpha_composite(paper.convert("RGBA"), image.convert("RGBA")).convert("L")
    image.load()
    return image.convert("L")


def _readings(grey: Image.Image) -> Iterator[Reading]:
    heard: Counter[str] = Counter()
    for _, scan in _SCANS:
        for reading in scan(grey):
            heard[reading.text] += is_karekod(reading.text)
            yield reading
        if heard and max(heard.values()) > 1:
            return


def _whole(grey: Image.Image) -> Iterator[Reading]:
    return _zxing(grey, "whole", 1, thorough=False)


def _half(grey: Image.Image) -> Iterator[Reading]:
    return _zxing(grey.reduce(2), "half", 2, thorough=False)


def _hard(grey: Image.Image) -> Iterator[Reading]:
    return _zxing(grey, "hard", 1, thorough=True)


def _zxing(grey: Image.Image, scan: str, factor: int, *, thorough: bool) -> Iterator[Reading]:
    begun = time.monotonic()
    # QRCodeModel2 alone: QRCode also looks for Micro QR, which noise resembles.
    found = zxingcpp.read_barcodes(
        grey,
        formats=zxingcpp.BarcodeFormats(zxingcpp.BarcodeFormat.QRCodeModel2),
        try_rotate=thorough,
        try_downscale=thorough,
        try_invert=thorough,
    )
    ms = _ms(begun)
    for code in found:
        at = code.position
        corners = (at.top_left, at.top_right, at.bottom_right, at.bottom_left)
        places = tuple((corner.x * factor, corner.y * factor) for corner in corners)
        # `.text` rewrites control characters, `.bytes` is what the code holds.
        yield Reading(_text(code.bytes), "zxing-cpp", scan, ms, places)


def _zbar(grey: Image.Image) -> Iterator[Reading]:
    begun = time.monotonic()
    found = zbar_decode(grey, symbols=[ZBarSymbol.QRCODE])
    ms = _ms(begun)
    for code in found:
        places = tuple((point.x, point.y) for point in code.polygon)
        yield Reading(_text(code.data), "pyzbar", "zbar", ms, places)


_SCANS: tuple[Scan, ...] = (("whole", _whole), ("half", _half), ("zbar", _zbar), ("hard", _hard))


def _text(content: bytes) -> str:
    # Escaping bytes that are no UTF-8 can never turn them into a karekod.
    return content.decode("utf-8", "backslashreplace")[:LONGEST_TEXT]


def _ms(begun: float) -> int:
    return round((time.monotonic() - begun) * 1000)


def serve(channel: socket.socket, read: Callable[[bytes], Iterable[Look]] = looks) -> None:
    """Answer until the publisher hangs up."""
    send(channel, READY)
    _silence()
    while (data := receive(channel, MOST_BYTES)) is not None:
        _allow_cpu()
        for seen in read(data):
            send(channel, format_look(seen))
            _allow_cpu()


def confine(parent: int) -> None:
    """Bind this process to its parent's life, and give up what a reader does not need."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's, meant for the publisher
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # it died before we asked
        raise SystemExit(1)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no_new_privs")
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
    Image.MAX_IMAGE_PIXELS = None  # checked here, before decoding; Pillow only warns at first
    warnings.simplefilter("ignore")


def _allow_cpu() -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    spent = int(used.ru_utime + used.ru_stime)
    resource.setrlimit(
        resource.RLIMIT_CPU, (spent + _CPU_SECONDS, resource.getrlimit(resource.RLIMIT_CPU)[1])
    )


def _silence() -> None:
    # libtiff and ZBar write what the page says to standard error.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def main(parent: int, read: Callable[[bytes], Iterable[Look]] = looks) -> None:
    """Be a worker of the process `parent`."""
    confine(parent)
    with socket.socket(fileno=0) as channel:
        serve(channel, read)


if __name__ == "__main__":
    import sys

    main(int(sys.argv[1]))

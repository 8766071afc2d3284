"""Page bytes -> karekod texts: the only home of pyzbar and zxing-cpp, run as a worker process.

    python -m publisher.qr        speaks on the socket that is its standard input

publisher/messages says what is spoken. The page may take the worker with it (a crash, a hang,
all its memory): publisher/reader survives that.

Each scan runs only where those before found no karekod, but for the second, which is cheap and
looks for the other printed copy, too:

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
from collections.abc import Callable, Iterator

import zxingcpp
from PIL import Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError
from pyzbar.pyzbar import ZBarSymbol
from pyzbar.pyzbar import decode as zbar_decode

from config.registry import is_karekod
from publisher.messages import LONGEST_TEXT, MOST_BYTES, READY, format_look, receive, send
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
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38

Scan = tuple[str, Callable[[Image.Image], Iterator[Reading]]]


def look(data: bytes) -> Look:
    """Return every code on the page, or why the bytes are no page that could be read."""
    begun = time.monotonic()
    kind = next((kind for magic, kind in _MAGIC if data.startswith(magic)), None)
    if kind is None:
        return Look(fault=Reason.NOT_AN_IMAGE)
    width = height = 0
    try:
        with Image.open(io.BytesIO(data), formats=[kind]) as image:
            width, height = image.size
            fault = _refused(image)
            readings = () if fault else tuple(_readings(_grey(image)))
    except MemoryError:
        fault, readings = Reason.TOO_LARGE, ()
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError, struct.error):
        fault, readings = Reason.UNREADABLE_IMAGE, ()
    return Look(kind, width, height, readings, _ms(begun), fault)


def _refused(image: Image.Image) -> Reason | None:
    width, height = image.size
    if width * height > MOST_PIXELS:
        return Reason.TOO_LARGE
    if image.format == "TIFF":
        try:
            image.seek(1)  # asks for one page more, however many the file claims to have
        except EOFError:
            return None
        return Reason.MULTI_PAGE
    return Reason.MULTI_PAGE if getattr(image, "is_animated", False) else None


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
    copies = 0
    for name, scan in _SCANS:
        if copies > 1 or (copies and name != "half"):
            return
        for reading in scan(grey):
            copies += is_karekod(reading.text)
            yield reading


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


def serve(channel: socket.socket, read: Callable[[bytes], Look] = look) -> None:
    """Answer until the publisher hangs up."""
    send(channel, READY)
    _silence()
    while (data := receive(channel, MOST_BYTES)) is not None:
        _allow_cpu()
        send(channel, format_look(read(data)))


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


def main(parent: int, read: Callable[[bytes], Look] = look) -> None:
    """Be a worker of the process `parent`."""
    confine(parent)
    with socket.socket(fileno=0) as channel:
        serve(channel, read)


if __name__ == "__main__":
    import sys

    main(int(sys.argv[1]))

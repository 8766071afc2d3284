"""Makes one picture of a page: it gets the bytes of a file on standard input.

    python -m portal.pictures.worker PARENT_PID FRAME [--lenient]

The picture is its standard output. With `--lenient` a JPEG, PNG or TIFF that the readers of pages
refuse, for example one that is cut off, is shown as far as it goes.

A scan comes from outside, so its bytes are decoded in a process that is restricted as the readers
of pages are (publisher/reading/sandbox): it can open no file, no socket and no program.
"""

import io
import os
import struct
import sys
import warnings

from PIL import Image, ImageFile

from publisher.page import Reason
from publisher.reading import sandbox
from publisher.reading.formats import rasterize

_QUALITY = 80
_SIDE = rasterize.MAX_SIDE
_NO_PICTURE = (OSError, ValueError, SyntaxError, EOFError, MemoryError, struct.error)


def picture(data: bytes, frame: int) -> bytes:
    """Return a page as a grey JPEG; `frame` counts from 0. Raises rasterize.Refused."""
    grey = rasterize.open_file(data).grey(frame)
    out = io.BytesIO()
    # Of an image that still belongs to its file, Pillow asks for the working directory.
    grey.copy().save(out, "JPEG", quality=_QUALITY)
    return out.getvalue()


def lenient_picture(data: bytes, frame: int) -> bytes:
    """Return what can be shown of a picture that is damaged; raises Refused or OSError."""
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    image = Image.open(io.BytesIO(data), formats=["JPEG", "PNG", "TIFF"])
    image.seek(frame)
    if image.width * image.height > rasterize.MAX_PIXELS:
        raise rasterize.Refused(Reason.TOO_LARGE)
    side = max(image.size)
    if image.format == "JPEG":
        image.draft("L", (image.width * _SIDE // side, image.height * _SIDE // side))
    grey = image.convert("L")
    grey.thumbnail((_SIDE, _SIDE))
    out = io.BytesIO()
    grey.save(out, "JPEG", quality=_QUALITY)
    return out.getvalue()


def main(parent: int, frame: int, *, lenient: bool = False) -> int:
    """Make one picture; return 1 if there is none."""
    warnings.simplefilter("ignore")
    for kind in ("TIFF", "PDF", "PNG", "JPEG"):  # loads every library before the sandbox
        file = io.BytesIO()
        Image.new("L", (64, 64), 255).save(file, kind)
        picture(file.getvalue(), 0)
        if lenient and kind != "PDF":
            lenient_picture(file.getvalue(), 0)
    devnull = os.open(os.devnull, os.O_WRONLY)
    sandbox.confine(parent)
    os.dup2(devnull, 2)  # libtiff writes content of the page to standard error
    sandbox.allow_cpu()
    data = sys.stdin.buffer.read()
    try:
        made = _picture(data, frame, lenient=lenient)
    except (rasterize.Refused, IndexError, *_NO_PICTURE):
        return 1
    sys.stdout.buffer.write(made)
    sys.stdout.buffer.flush()
    return 0


def _picture(data: bytes, frame: int, *, lenient: bool) -> bytes:
    try:
        return picture(data, frame)
    except rasterize.Refused:
        if not lenient:
            raise
        return lenient_picture(data, frame)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), lenient="--lenient" in sys.argv[3:]))

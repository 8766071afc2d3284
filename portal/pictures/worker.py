"""Makes one picture of a page: it gets the bytes of a file on standard input.

    python -m portal.pictures.worker PARENT_PID FRAME      the picture is its standard output

A scan comes from outside, so its bytes are decoded in a process that is restricted as the readers
of pages are (publisher/reading/sandbox): it can open no file, no socket and no program.
"""

import io
import os
import sys
import warnings

from PIL import Image

from publisher.reading import sandbox
from publisher.reading.formats import rasterize

_QUALITY = 80


def picture(data: bytes, frame: int) -> bytes:
    """Return a page as a grey JPEG; `frame` counts from 0. Raises rasterize.Refused."""
    grey = rasterize.open_file(data).grey(frame)
    out = io.BytesIO()
    # Of an image that still belongs to its file, Pillow asks for the working directory.
    grey.copy().save(out, "JPEG", quality=_QUALITY)
    return out.getvalue()


def main(parent: int, frame: int) -> int:
    """Make one picture; return 1 if there is none."""
    warnings.simplefilter("ignore")
    for kind in ("TIFF", "PDF", "PNG", "JPEG"):  # loads every library before the sandbox
        file = io.BytesIO()
        Image.new("L", (64, 64), 255).save(file, kind)
        picture(file.getvalue(), 0)
    devnull = os.open(os.devnull, os.O_WRONLY)
    sandbox.confine(parent)
    os.dup2(devnull, 2)  # libtiff writes content of the page to standard error
    sandbox.allow_cpu()
    data = sys.stdin.buffer.read()
    try:
        made = picture(data, frame)
    except (rasterize.Refused, IndexError):
        return 1
    sys.stdout.buffer.write(made)
    sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))

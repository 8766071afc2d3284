"""The worker process that reads one page again, as an operator asks: turned, or only a part of it.

    python -m publisher.reading.reread PARENT_PID      the socket is its standard input

It is the worker of publisher/reading/worker with its sandbox, but makes every pass
(publisher/reading/codes/decode) and returns all that any engine reads. Nothing is filed for it:
an operator sees the readings and decides.
"""

import sys
import time
from collections.abc import Iterator
from dataclasses import replace

from PIL import Image

from publisher.page import Reading, ReadResult, Reason, format_of
from publisher.reading import worker
from publisher.reading.codes import decode
from publisher.reading.codes.decode import milliseconds
from publisher.reading.formats import rasterize
from publisher.reading.reread_task import Box, RereadSettings, parse_task

_TURNED = {
    90: Image.Transpose.ROTATE_270,  # Pillow turns anticlockwise
    180: Image.Transpose.ROTATE_180,
    270: Image.Transpose.ROTATE_90,
}


def answers(message: bytes) -> Iterator[ReadResult]:
    """Yield all that is read on the page that a message asks for, or why nothing can be."""
    begun = time.monotonic()
    settings, data = parse_task(message)
    kind = format_of(data)
    try:
        frames = rasterize.open_file(data)
        if settings.page > len(frames.sizes):
            raise rasterize.Refused(Reason.UNREADABLE_IMAGE)
        width, height = frames.sizes[settings.page - 1]
        grey = frames.grey(settings.page - 1)
        readings = read_part(grey, width / grey.width, settings)
        # Never more than one frame: no files with single pages follow.
        yield ReadResult(kind, width, height, readings, milliseconds(begun))
    except rasterize.Refused as refused:
        yield ReadResult(kind, ms=milliseconds(begun), fault=refused.reason)
    except MemoryError:
        yield ReadResult(kind, ms=milliseconds(begun), fault=Reason.TOO_LARGE)


def read_part(grey: Image.Image, scale: float, settings: RereadSettings) -> tuple[Reading, ...]:
    """Read a page as the settings say; corners are in pixels of the page, not turned.

    `scale` is the width of the page divided by the width of `grey`.
    """
    left, top, right, bottom = _within(grey.size, scale, settings.crop)
    part = grey.crop((left, top, right, bottom))
    if settings.turn:
        part = part.transpose(_TURNED[settings.turn])
    size = right - left, bottom - top

    def on_page(x: int, y: int) -> tuple[int, int]:
        across, down = unturned(x, y, size, settings.turn)
        return round((across + left) * scale), round((down + top) * scale)

    return tuple(
        replace(
            reading,
            corners=tuple(on_page(x, y) for x, y in reading.corners),
            frame=settings.page,
        )
        for reading in decode.read_everything(part)
    )


def unturned(x: int, y: int, size: tuple[int, int], turn: int) -> tuple[int, int]:
    """Return where a point of a turned picture was; `size` is the size before it was turned."""
    width, height = size
    match turn:
        case 90:
            return y, height - 1 - x
        case 180:
            return width - 1 - x, height - 1 - y
        case 270:
            return width - 1 - y, x
    return x, y


def _within(size: tuple[int, int], scale: float, crop: Box | None) -> Box:
    width, height = size
    if crop is None:
        return 0, 0, width, height
    left, top, right, bottom = (round(side / scale) for side in crop)
    left, top = min(left, width - 1), min(top, height - 1)
    return left, top, max(left + 1, min(right, width)), max(top + 1, min(bottom, height))


if __name__ == "__main__":
    worker.main(int(sys.argv[1]), answers)

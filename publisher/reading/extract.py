"""Copies one page out of a TIFF or PDF, to the same bytes as the publisher did.

    python -m publisher.reading.extract FILE PAGE > COPY

FILE is the original that a filing record names (`original`), for example from the store, and PAGE
is its `original_page`. The SHA-256 of COPY must be the `sha256` of the record.
"""

import sys
from pathlib import Path

from publisher.reading.formats import rasterize


def extract(data: bytes, page: int) -> bytes:
    """Return a file with only one page of `data`; pages are counted from 1.

    Raises IndexError if there is no such page, and Refused.
    """
    frames = rasterize.open_file(data)
    if not 1 <= page <= len(frames.sizes):
        raise IndexError(f"the file has {len(frames.sizes)} pages")
    return frames.extract(page - 1)


def main() -> None:
    """Write the page of a file, as the command line names both, to standard output."""
    if len(sys.argv) != 3 or not sys.argv[2].isdigit():
        sys.exit("usage: python -m publisher.reading.extract FILE PAGE > COPY")
    try:
        copy = extract(Path(sys.argv[1]).read_bytes(), int(sys.argv[2]))
    except rasterize.Refused as refused:
        sys.exit(f"{sys.argv[1]}: {refused.reason}")
    except (OSError, IndexError) as error:
        sys.exit(f"{sys.argv[1]}: {error}")
    sys.stdout.buffer.write(copy)


if __name__ == "__main__":
    main()

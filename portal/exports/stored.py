"""Makes an answer as fast as this machine can, and sends it as fast as its client takes it.

What an answer is made from may be large: an old state of the results, or a process that reads a
snapshot. A slow client must not hold that for hours. So the answer is made first, compressed with
Zstandard, in a temporary file, and its maker is released before the first byte is sent.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import zstandard

_CHUNK = 32 * 1024  # compressed; a table takes twenty times as much as it is
_LEVEL = 3


def compressed(
    chunks: Iterator[bytes], when_made: Callable[[], object] = lambda: None
) -> Iterator[bytes]:
    """Yield the chunks as one Zstandard frame, and nothing (b"") for each while they are made.

    `when_made` is called when all are made, or when the client is gone before, or if that fails.
    """
    with ExitStack() as opened:
        try:
            file = opened.enter_context(tempfile.TemporaryFile())
            compressor = zstandard.ZstdCompressor(level=_LEVEL).compressobj()
            yield b""
            for chunk in chunks:
                file.write(compressor.compress(chunk))
                yield b""
            file.write(compressor.flush())
        finally:
            when_made()
        file.seek(0)
        while content := file.read(_CHUNK):
            yield content


def stored(
    chunks: Iterator[bytes], when_made: Callable[[], object] = lambda: None
) -> Iterator[bytes]:
    """Yield the chunks as they are; otherwise as `compressed`."""
    decompressor = zstandard.ZstdDecompressor().decompressobj()
    yield from map(decompressor.decompress, compressed(chunks, when_made))

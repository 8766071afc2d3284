"""What is sent of files that are served as one."""

import asyncio
from pathlib import Path

import pytest

from portal.service import serve_file
from portal.service.serve_file import Part, Range


@pytest.mark.parametrize(
    ("wanted", "chunks"),
    [
        (Range(0, 13), [b"aaaab", b"bbccc", b"ccc"]),
        (Range(2, 8), [b"aabbbc"]),
        (Range(7, 13), [b"ccccc", b"c"]),
        (Range(0, 7), [b"aaaab", b"bb"]),
        (Range(2, 13), [b"aabbbc", b"ccccc"]),
    ],
)
def test_a_chunk_goes_on_with_the_next_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: Range, chunks: list[bytes]
) -> None:
    monkeypatch.setattr(serve_file, "_CHUNK", 5)
    parts = []
    for content in (b"aaaa", b"bbb", b"cccccc"):
        path = tmp_path / content.decode()
        path.write_bytes(content)
        parts.append(Part(path, len(content)))

    async def read() -> list[bytes]:
        return [chunk async for chunk in serve_file._bytes(parts, wanted)]

    assert asyncio.run(read()) == chunks

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import duckdb
import pytest
import web_site
from unit.portal.portal_site import PortalSite
from web_site import Portal

from portal.data.numbers import parquet


@pytest.fixture
def site(tmp_path: Path) -> PortalSite:
    return PortalSite(tmp_path / "site")


@pytest.fixture
def portal(tmp_path: Path) -> Iterator[Portal]:
    with web_site.running(web_site.make(tmp_path / "site")) as found:
        yield found


@pytest.fixture(autouse=True)
def parquet_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read Parquet files in this process: starting one takes longer than most of these tests.

    data/test_parquet.py reads them as the portal does.
    """

    @contextmanager
    def read(*words: str) -> Iterator[IO[bytes]]:
        output = io.BytesIO()
        failed = False
        try:
            parquet.write(words, output)
        except duckdb.Error:
            failed = True
        output.seek(0)
        yield output
        if failed:
            raise OSError(f"{words[1]}: cannot be read, see the log")

    monkeypatch.setattr(parquet, "_process", read)

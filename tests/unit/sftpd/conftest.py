import os
from collections.abc import Iterator
from pathlib import Path
from struct import pack

import pytest
from published import published_files
from unit.sftpd.sftp_client import NOW, Client, MemoryRecorder

from sftpd.sftp.session import Session
from sftpd.sftp.view import View

__all__ = ["published_files"]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site with the trees of two parties and a store."""
    for name in ("trees/parti-a/akis", "trees/parti-b", "store"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "trees/parti-a/BENIOKU.txt").write_bytes(b"oku beni\n")
    (tmp_path / "trees/parti-a/akis/son.txt").write_bytes(b"42\n")
    (tmp_path / "trees/parti-b/gizli.txt").write_bytes(b"of parti-b\n")
    (tmp_path / "store/gizli.txt").write_bytes(b"in the store\n")
    os.utime(tmp_path / "trees/parti-a/BENIOKU.txt", (1684072800.9, 1684072800.9))
    return tmp_path


@pytest.fixture
def tree(site: Path) -> Path:
    return site / "trees/parti-a"


@pytest.fixture
def view(tree: Path) -> Iterator[View]:
    view = View(tree)
    yield view
    view.close()


@pytest.fixture
def recorder() -> MemoryRecorder:
    return MemoryRecorder()


@pytest.fixture
def new_client(view: View, recorder: MemoryRecorder) -> Iterator[Client]:
    """A client that has not sent INIT yet."""
    session = Session(view, recorder, lambda: NOW)
    yield Client(session)
    session.end()


@pytest.fixture
def client(new_client: Client) -> Client:
    """A client that has sent INIT."""
    new_client.send(new_client.packet(1, pack(">I", 3)))
    return new_client

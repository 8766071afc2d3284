import sqlite3
from contextlib import closing

import pytest

from publisher.fsck import snapshot


@pytest.mark.parametrize("inode", [1, (1 << 63) - 1, 1 << 63, 12_345_678_901_234_567_890])
def test_sqlite_keeps_the_inodes_of_every_file_system_apart(inode: int) -> None:
    with closing(sqlite3.connect(":memory:")) as copy:
        copy.execute("CREATE TABLE inode (number INTEGER)")
        copy.execute("INSERT INTO inode VALUES (?)", [snapshot.inode_number(inode)])
        (found,) = copy.execute("SELECT number FROM inode").fetchone()

    assert found == snapshot.inode_number(inode)
    assert snapshot.inode_number(inode) != snapshot.inode_number(inode ^ 1)
    assert snapshot.inode_number(inode) % (1 << 64) == inode

import os
import socket
from functools import partial
from itertools import chain
from pathlib import Path

import pytest

from config import layout, scope
from sftpd.sftp.view import MAX_ENTRIES, Attributes, Folder, NotFound, OpenFile, View, canonical


def read(view: View, path: bytes) -> bytes | None:
    found = view.open_file(path)
    if isinstance(found, NotFound):
        return None
    try:
        return os.pread(found.descriptor, 100, 0)
    finally:
        os.close(found.descriptor)


def names(view: View, path: bytes = b"/") -> list[bytes] | None:
    found = view.open_folder(path)
    if isinstance(found, NotFound):
        return None
    try:
        entries = []
        while more := found.read():
            entries += more
        return [name for name, _ in entries][2:]  # without `.` and `..`
    finally:
        found.close()


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        (b"", b"/"),
        (b".", b"/"),
        (b"/", b"/"),
        (b"a", b"/a"),
        (b"//a///b/", b"/a/b"),
        (b"a/./b", b"/a/b"),
        (b"a/../b", b"/b"),
        (b"..", b"/"),
        (b"/../../a", b"/a"),
        (b"a/b/../../..", b"/"),
        (b"...", b"/..."),
    ],
)
def test_a_path_is_resolved_as_in_a_chroot(path: bytes, meant: bytes) -> None:
    assert canonical(path) == meant


@pytest.mark.parametrize("path", [b"BENIOKU.txt", b"/BENIOKU.txt", b"akis/../../BENIOKU.txt"])
def test_a_file_in_the_tree_is_found(view: View, path: bytes) -> None:
    assert read(view, path) == b"oku beni\n"


@pytest.mark.parametrize(
    "path",
    [
        b"../parti-b/gizli.txt",
        b"/../parti-b/gizli.txt",
        b"akis/../../parti-b/gizli.txt",
        b"../../store/gizli.txt",
        b"/etc/passwd",
        b"/proc/self/root/etc/passwd",
        b"BENIOKU.txt\0",
        b"\0",
        b"BENIOKU.txt\n",
        b"x" * 300,
        b"a/" * 2048,
        b"a/" * 4096,
    ],
)
def test_a_path_outside_the_tree_or_malformed_is_not_found(view: View, path: bytes) -> None:
    assert read(view, path) is None
    assert view.stat(path) == NotFound()
    assert names(view, path) is None


def test_an_absolute_path_is_relative_to_the_tree(site: Path, view: View) -> None:
    assert read(view, os.fsencode(site / "trees/parti-b/gizli.txt")) is None


@pytest.mark.parametrize(
    "target",
    ["../parti-b/gizli.txt", "../../store/gizli.txt", "/etc/passwd", "BENIOKU.txt", "/proc/self"],
)
def test_a_planted_symlink_is_neither_found_nor_listed(tree: Path, view: View, target: str) -> None:
    (tree / "link").symlink_to(target)

    assert read(view, b"link") is None
    assert view.stat(b"link") == NotFound()
    assert names(view, b"link") is None
    assert names(view) == [b"BENIOKU.txt", b"akis"]


@pytest.mark.parametrize(
    ("target", "inside"),
    [
        ("../parti-b", b"gizli.txt"),
        ("../../store", b"gizli.txt"),
        ("akis", b"son.txt"),
        ("/proc/self", b"root/etc/passwd"),
        ("/proc/self/cwd", b"setup.cfg"),
    ],
)
def test_nothing_is_found_through_a_planted_symlink_to_a_folder(
    tree: Path, view: View, target: str, inside: bytes
) -> None:
    (tree / "link").symlink_to(target)

    assert read(view, b"link/" + inside) is None
    assert view.stat(b"link/" + inside) == NotFound()


def test_a_fifo_or_socket_is_neither_found_nor_listed(tree: Path, view: View) -> None:
    os.mkfifo(tree / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tree / "socket"))
        for name in (b"fifo", b"socket"):
            assert read(view, name) is None
            assert view.stat(name) == NotFound()
        assert names(view) == [b"BENIOKU.txt", b"akis"]


def test_a_name_with_control_characters_is_neither_found_nor_listed(tree: Path, view: View) -> None:
    (tree / "iki\nsatir").write_bytes(b"x")
    (tree / "kirmizi\x1b[31m").write_bytes(b"x")

    assert read(view, b"iki\nsatir") is None
    assert names(view) == [b"BENIOKU.txt", b"akis"]


def test_a_folder_is_not_opened_as_a_file_or_the_reverse(view: View) -> None:
    assert read(view, b"akis") is None
    assert names(view, b"BENIOKU.txt") is None


def test_attributes_are_size_and_whole_seconds(view: View) -> None:
    assert view.stat(b"BENIOKU.txt") == Attributes(folder=False, size=9, mtime=1684072800)


def test_a_listing_is_sorted_by_the_bytes_of_the_names(tree: Path, view: View) -> None:
    for name in (b"b", b"B", b"a10", b"a9", b"\xff"):
        (tree / os.fsdecode(name)).write_bytes(b"")

    assert names(view) == [b"B", b"BENIOKU.txt", b"a10", b"a9", b"akis", b"b", b"\xff"]


def many(tree: Path, count: int) -> list[bytes]:
    """Put files into a folder, more than are listed at once; return their names, sorted."""
    names = [f"{number:040}" for number in range(count)]
    (tree / "many").mkdir()
    for name in names:
        (tree / "many" / name).write_bytes(b"")
    return [name.encode() for name in names]


def test_a_large_folder_is_listed_in_parts_and_each_name_comes_once(tree: Path, view: View) -> None:
    expected = many(tree, 3000)
    folder = view.open_folder(b"many")
    assert isinstance(folder, Folder)
    parts = [[name for name, _ in folder.read()] for _ in range(20)]
    folder.close()

    assert parts[0][:2] == [b".", b".."]
    assert sorted(chain.from_iterable(parts))[2:] == expected
    assert all(part == sorted(part) for part in parts)
    assert max(map(len, parts)) <= MAX_ENTRIES
    assert parts[-1] == []


def test_what_is_removed_during_a_listing_is_left_out(tree: Path, view: View) -> None:
    expected = set(many(tree, 3000))
    folder = view.open_folder(b"many")
    assert isinstance(folder, Folder)
    first = {name for name, _ in folder.read()}
    for path in (tree / "many").iterdir():
        if path.name.encode() not in first:
            path.unlink()

    # A file system in memory may repeat what was listed before the removal, a disk does not.
    assert {name for name, _ in folder.read()} <= first
    assert 100 < len(first & expected) < 3000
    for path in (tree / "many").iterdir():
        path.unlink()
    (tree / "many").rmdir()
    assert folder.read() == []
    folder.close()


def test_a_tree_that_does_not_exist_yet_is_an_empty_folder(tmp_path: Path) -> None:
    view = View(tmp_path / "none")

    assert names(view) == []
    assert view.stat(b"/") == Attributes(folder=True, size=0, mtime=0)
    assert read(view, b"BENIOKU.txt") is None
    assert view.root is None
    view.close()


def test_a_tree_that_is_a_symlink_is_refused(site: Path) -> None:
    (site / "trees/parti-c").symlink_to("parti-a")
    with pytest.raises(OSError, match=r"symbolic links|Not a directory"):
        View(site / "trees/parti-c")


def test_a_descriptor_is_not_inherited_by_other_programs(view: View) -> None:
    found = view.open_file(b"BENIOKU.txt")
    assert isinstance(found, OpenFile)
    assert not os.get_inheritable(found.descriptor)
    os.close(found.descriptor)


def test_a_file_outside_the_scope_is_neither_found_nor_listed(tmp_path: Path) -> None:
    for place in ("34-istanbul-1/kadikoy-2", "34-istanbul-1/uskudar-1", "06-ankara-1/cankaya-1"):
        box = tmp_path / "trees/parti-a/e" / place / "sandik-1"
        box.mkdir(parents=True)
        (box / "cb-sandik-sonuc-s1.jpg").write_bytes(b"x")
    narrow = scope.parse(["34-istanbul-1/kadikoy-2"])
    view = View(tmp_path / "trees/parti-a", partial(layout.in_scope, scope=narrow))

    assert names(view) == [b"e"]
    assert names(view, b"/e") == [b"34-istanbul-1"]
    assert names(view, b"/e/34-istanbul-1") == [b"kadikoy-2"]
    assert names(view, b"/e/06-ankara-1") is None
    sheet = b"sandik-1/cb-sandik-sonuc-s1.jpg"
    assert read(view, b"/e/34-istanbul-1/kadikoy-2/" + sheet) == b"x"
    assert read(view, b"/e/34-istanbul-1/uskudar-1/" + sheet) is None
    assert view.stat(b"/e/34-istanbul-1/kadikoy-2/../uskudar-1/" + sheet) == NotFound()
    view.close()


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o440, 0o555, 0o4444])
def test_a_file_that_the_publisher_did_not_make_is_neither_found_nor_listed(
    view: View, tree: Path, mode: int
) -> None:
    (tree / "akis/son.txt").chmod(mode)

    assert isinstance(view.open_file(b"akis/son.txt"), NotFound)
    assert isinstance(view.stat(b"akis/son.txt"), NotFound)
    assert names(view, b"/akis") == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_owner_is_neither_found_nor_listed(view: View, tree: Path) -> None:
    os.chown(tree / "akis/son.txt", 65534, 65534)

    assert isinstance(view.open_file(b"akis/son.txt"), NotFound)
    assert names(view, b"/akis") == []


def test_a_hard_link_to_the_signing_key_is_not_served(view: View, site: Path, tree: Path) -> None:
    key = site / "signing_key"
    key.write_bytes(b"secret")
    key.chmod(0o600)
    (tree / "anahtar").hardlink_to(key)

    assert isinstance(view.open_file(b"anahtar"), NotFound)
    assert names(view, b"/") == [b"BENIOKU.txt", b"akis"]

import errno
import os
import resource
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from sftpd import cage
from sftpd.view import View

needs_landlock = pytest.mark.skipif(cage.landlock_abi() == 0, reason="the kernel has no Landlock")


def caged(tree: Path, act: Callable[[View], object]) -> str:
    """What `act` came to in a child that is caged with `tree`: its value, or its errno's name."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            view = View(tree)
            cage.enter(view.root)
            try:
                said = str(act(view))
            except OSError as error:
                said = errno.errorcode[error.errno or 0]
            os.write(writing, said.encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        found = answer.read()
    os.waitpid(pid, 0)
    return found


def read(view: View) -> bytes:
    found = view.open_file(b"BENIOKU.txt")
    return os.pread(found.descriptor, 100, 0)  # type: ignore[union-attr]


def test_its_own_tree_is_read(tree: Path) -> None:
    assert caged(tree, read) == "b'oku beni\\n'"
    assert caged(tree, lambda _: (tree / "BENIOKU.txt").read_bytes()) == "b'oku beni\\n'"
    assert caged(tree, lambda _: sorted(p.name for p in tree.iterdir())) == (
        "['BENIOKU.txt', 'akis']"
    )


@needs_landlock
def test_nothing_else_is(site: Path, tree: Path) -> None:
    for path in (Path("/etc/passwd"), site / "trees/parti-b/gizli.txt", site / "store/gizli.txt"):
        assert caged(tree, lambda _, path=path: path.read_bytes()) == "EACCES"
    assert caged(tree, lambda _: os.listdir(site)) == "EACCES"  # noqa: PTH208
    assert caged(tree, lambda _: Path("/proc/self/environ").read_bytes()) == "EACCES"


@needs_landlock
def test_nothing_is_written(site: Path, tree: Path) -> None:
    for path in (tree / "new", site / "new", Path("/tmp/new-in-cage")):
        assert caged(tree, lambda _, path=path: path.write_bytes(b"x")) == "EACCES"
        assert not path.exists()
    for act in (
        lambda _: (tree / "BENIOKU.txt").unlink(),
        lambda _: (tree / "BENIOKU.txt").rename(tree / "b"),
        lambda _: (tree / "new").mkdir(),
        lambda _: os.truncate(tree / "BENIOKU.txt", 0),
    ):
        assert caged(tree, act) == "EACCES"
    assert (tree / "BENIOKU.txt").read_bytes() == b"oku beni\n"


@needs_landlock
def test_no_connection_is_made(tree: Path) -> None:
    if cage.landlock_abi() < 4:
        pytest.skip("this kernel's Landlock does not know TCP")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        name = listener.getsockname()
        assert caged(tree, lambda _: socket.create_connection(name)) == "EACCES"
        assert caged(tree, lambda _: socket.create_server(("127.0.0.1", 0))) == "EACCES"


@needs_landlock
def test_nothing_outside_is_signalled(tree: Path) -> None:
    if cage.landlock_abi() < 6:
        pytest.skip("this kernel's Landlock does not know signals")
    assert caged(tree, lambda _: os.kill(os.getppid(), 0)) == "EPERM"


def test_a_party_without_a_tree_sees_nothing(site: Path) -> None:
    def act(view: View) -> object:
        assert view.open_file(b"BENIOKU.txt")
        return Path("/etc/passwd").read_bytes()

    wanted = "EACCES" if cage.landlock_abi() else None
    assert wanted is None or caged(site / "none", act) == wanted


def test_limits_are_set(tree: Path) -> None:
    limits = caged(
        tree,
        lambda _: [
            resource.getrlimit(resource.RLIMIT_CORE),
            resource.getrlimit(resource.RLIMIT_NOFILE)[1] <= 1280,
            resource.getrlimit(resource.RLIMIT_AS)[1] < 8 << 30,
        ],
    )
    assert limits == "[(0, 0), True, True]"


def test_memory_is_bounded(tree: Path) -> None:
    def act(_: View) -> object:
        try:
            return len(bytearray(1 << 30))
        except MemoryError:
            return "none left"

    assert caged(tree, act) == "none left"


def test_what_python_needs_later_is_there(tree: Path) -> None:
    def act(view: View) -> object:
        import threading
        import time
        import traceback

        said = []
        try:
            raise ValueError
        except ValueError:
            said.append(bool(traceback.format_exc()))
        thread = threading.Thread(target=lambda: said.append(bool(read(view))))
        thread.start()
        thread.join()
        said.append(bool(time.strftime("%c")))
        said.append(b"\xff".decode("utf-8", "surrogateescape").encode("utf-8", "backslashreplace"))
        said.append(len(os.urandom(8)))
        return said

    assert caged(tree, act) == "[True, True, True, b'\\\\udcff', 8]"

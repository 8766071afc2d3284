import errno
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from publisher.intake import lease, spool
from publisher.intake.lease import StillWritten
from publisher.page import MAX_FILE_BYTES, Arrival, Stamp
from publisher.source import Source

NOON = datetime(2023, 5, 14, 14, 0, tzinfo=UTC)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for name in ("in", "spool"):
        (tmp_path / name).mkdir()
    (tmp_path / "in" / "a.jpg").write_bytes(b"a page")
    return tmp_path


@pytest.fixture
def other_file_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a rename out of the intake fail, as from another file system."""

    rename = os.rename

    def refused(source: str | Path, target: Path, **at: int) -> None:
        if "src_dir_fd" in at:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        rename(source, target)

    monkeypatch.setattr(os, "rename", refused)


def arrived(folders: Path, name: str = "a.jpg") -> Arrival:
    path = folders / "in" / name
    stamp = Stamp.of(path.lstat())
    return Arrival(
        "20230514T140003000041-ffffffff", name, Source(str(folders / "in"), name), stamp, NOON
    )


def test_a_claim_moves_the_file_itself(folders: Path) -> None:
    arrival = arrived(folders)

    spool.claim(arrival, folders / "spool")

    assert Stamp.of((folders / "spool" / arrival.file).stat()) == arrival.stamp
    assert list((folders / "in").iterdir()) == []


def test_a_file_that_changed_or_was_removed_is_not_claimed(folders: Path) -> None:
    arrival = arrived(folders)
    (folders / "in" / "a.jpg").write_bytes(b"longer than before")

    with pytest.raises(spool.SourceChanged):
        spool.claim(arrival, folders / "spool")
    (folders / "in" / "a.jpg").unlink()
    with pytest.raises(spool.SourceChanged):
        spool.claim(arrival, folders / "spool")

    assert list((folders / "spool").iterdir()) == []


@pytest.mark.usefixtures("other_file_system")
def test_a_file_on_another_file_system_is_copied_and_then_removed(folders: Path) -> None:
    arrival = arrived(folders)

    spool.claim(arrival, folders / "spool")

    assert [p.name for p in (folders / "spool").iterdir()] == [arrival.file]
    assert (folders / "spool" / arrival.file).read_bytes() == b"a page"
    assert list((folders / "in").iterdir()) == []


@pytest.mark.usefixtures("other_file_system")
@pytest.mark.parametrize("kind", ["pipe", "link"])
def test_a_pipe_or_a_link_is_claimed_without_being_opened(folders: Path, kind: str) -> None:
    if kind == "pipe":
        os.mkfifo(folders / "in" / "odd")
    else:
        (folders / "in" / "odd").symlink_to("/etc/passwd")
    arrival = arrived(folders, "odd")

    spool.claim(arrival, folders / "spool")

    mode = (folders / "spool" / arrival.file).lstat().st_mode
    assert stat.S_ISFIFO(mode) if kind == "pipe" else stat.S_ISLNK(mode)
    assert not os.path.lexists(folders / "in" / "odd")


def test_the_source_of_a_copy_is_removed_only_if_it_is_unchanged(folders: Path) -> None:
    arrival = arrived(folders)
    spool.finish_claim(arrival)
    spool.finish_claim(arrival)
    assert list((folders / "in").iterdir()) == []

    (folders / "in" / "a.jpg").write_bytes(b"another")
    spool.finish_claim(arrival)
    assert (folders / "in" / "a.jpg").read_bytes() == b"another"


def test_sweep_removes_unfinished_copies_only(folders: Path) -> None:
    (folders / "spool" / ".half").write_bytes(b"a p")
    (folders / "spool" / "whole").write_bytes(b"a page")

    spool.sweep(folders / "spool")

    assert [p.name for p in (folders / "spool").iterdir()] == ["whole"]


def test_a_folder_that_was_replaced_by_a_link_is_not_followed(folders: Path) -> None:
    """A scanner's account must not make the publisher fetch a file that only it may read."""
    (folders / "keys").mkdir()
    (folders / "keys" / "secret").write_bytes(b"a key")
    (folders / "in" / "sub").symlink_to(folders / "keys")
    stamp = Stamp.of((folders / "keys" / "secret").stat())
    source = Source(str(folders / "in"), "sub/secret")
    arrival = Arrival("20230514T140003000041-ffffffff", "sub/secret", source, stamp, NOON)

    with pytest.raises(spool.SourceChanged):
        spool.claim(arrival, folders / "spool")
    spool.finish_claim(arrival)

    assert not spool.is_source_unchanged(arrival)
    assert (folders / "keys" / "secret").read_bytes() == b"a key"
    assert list((folders / "spool").iterdir()) == []


def test_a_file_that_became_a_folder_is_not_claimed(folders: Path) -> None:
    (folders / "in" / "b").mkdir()
    (folders / "in" / "b" / "1.jpg").touch()

    with pytest.raises(spool.SourceChanged):
        spool.claim(arrived(folders, "b"), folders / "spool")

    assert (folders / "in" / "b" / "1.jpg").exists()


def test_a_claim_is_finished_even_if_the_sources_folder_became_a_file(
    folders: Path,
) -> None:
    (folders / "in" / "sub").mkdir()
    (folders / "in" / "sub" / "1.jpg").write_bytes(b"1")
    arrival = arrived(folders, "sub/1.jpg")
    assert spool.claim(arrival, folders / "spool")
    (folders / "in" / "sub").rmdir()
    (folders / "in" / "sub").touch()

    assert spool.finish_claim(arrival)


@pytest.mark.usefixtures("other_file_system")
@pytest.mark.parametrize("error", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_source_that_may_not_be_removed_is_claimed_and_stays(
    folders: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    arrival = arrived(folders)
    unlink = os.unlink

    def refused(path: str | Path, **at: int) -> None:
        if at:
            raise OSError(error, os.strerror(error))
        unlink(path)

    monkeypatch.setattr(os, "unlink", refused)

    assert spool.claim(arrival, folders / "spool") is spool.Claim.NOT_REMOVABLE

    assert (folders / "spool" / arrival.file).read_bytes() == b"a page"
    assert (folders / "in" / "a.jpg").exists()


@pytest.mark.usefixtures("other_file_system")
def test_a_file_open_for_writing_is_not_copied_from_another_file_system(
    folders: Path,
) -> None:
    with (folders / "in" / "a.jpg").open("ab"), pytest.raises(spool.SourceChanged):
        spool.claim(arrived(folders), folders / "spool")

    assert spool.claim(arrived(folders), folders / "spool")


@pytest.fixture
def no_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_take_lease", lambda descriptor: False)


PATIENCE = spool.Patience(settle=2.0, quiet=600.0)


def wait_of(folders: Path, unchanged: float) -> float:
    """Return how long the page must still wait, 0 if it can be claimed."""
    arrival = arrived(folders)
    try:
        spool.check(arrival.source, arrival.stamp, unchanged, PATIENCE)
    except spool.Postponed as postponed:
        assert not postponed.trouble
        return postponed.seconds
    return 0.0


def test_a_page_without_its_end_waits_longer_if_it_is_not_known_whether_it_is_open(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folders / "in" / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0 half a page")

    assert (wait_of(folders, 2.0), wait_of(folders, 30.0)) == (28.0, 0.0)
    monkeypatch.setattr(lease, "_take_lease", lambda descriptor: False)
    assert (wait_of(folders, 2.0), wait_of(folders, 600.0)) == (598.0, 0.0)


@pytest.mark.usefixtures("no_leases")
def test_a_file_that_is_empty_or_has_only_zeros_waits_if_it_may_be_open(folders: Path) -> None:
    for content in (b"", bytes(5000)):
        (folders / "in" / "a.jpg").write_bytes(content)

        assert (wait_of(folders, 2.0), wait_of(folders, 600.0)) == (598.0, 0.0)


def test_a_page_that_a_process_has_open_is_tried_again_soon_and_claimed_once_it_is_quiet(
    folders: Path,
) -> None:
    with (folders / "in" / "a.jpg").open("ab"):
        waits = [wait_of(folders, unchanged) for unchanged in (2.0, 10.0, 300.0, 600.0)]

    assert waits == [2.0, 10.0, 30.0, 0.0]
    assert wait_of(folders, 2.0) == 0.0


@pytest.mark.usefixtures("no_leases")
def test_a_page_that_may_still_be_open_is_copied_and_stays(folders: Path) -> None:
    arrival = arrived(folders)

    assert spool.claim(arrival, folders / "spool", hold=True) is spool.Claim.HELD

    assert (folders / "spool" / arrival.file).read_bytes() == b"a page"
    assert spool.is_source_unchanged(arrival)


def test_a_page_that_is_kept_for_a_standby_is_copied_and_stays_as_it_is(folders: Path) -> None:
    arrival = arrived(folders)

    assert spool.claim(arrival, folders / "spool", hold=True, keep=True) is spool.Claim.HELD

    assert (folders / "spool" / arrival.file).read_bytes() == b"a page"
    assert spool.is_source_unchanged(arrival)


def test_a_page_that_is_open_for_writing_is_not_removed(folders: Path) -> None:
    arrival = arrived(folders)
    with (folders / "in" / "a.jpg").open("ab"):
        assert spool.claim(arrival, folders / "spool", hold=True) is spool.Claim.HELD
        with pytest.raises(StillWritten):
            spool.remove(arrival.source, arrival.stamp)

    spool.remove(arrival.source, arrival.stamp)
    with pytest.raises(spool.SourceGone):
        spool.remove(arrival.source, arrival.stamp)


@pytest.mark.usefixtures("no_leases")
def test_a_page_that_changes_while_it_is_copied_is_not_claimed(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrival, read = arrived(folders), os.read

    def grown(descriptor: int, size: int) -> bytes:
        with (folders / "in" / "a.jpg").open("ab") as file:
            file.write(b" more")
        return read(descriptor, size)

    monkeypatch.setattr(os, "read", grown)
    with pytest.raises(spool.SourceChanged):
        spool.claim(arrival, folders / "spool", hold=True)

    assert list((folders / "spool").iterdir()) == []


@pytest.mark.usefixtures("other_file_system")
def test_of_a_file_that_is_too_large_no_byte_is_copied(folders: Path) -> None:
    os.truncate(folders / "in" / "a.jpg", MAX_FILE_BYTES + 1)
    arrival = arrived(folders)
    spool.check(arrival.source, arrival.stamp, 2.0, PATIENCE)

    assert spool.claim(arrival, folders / "spool", hold=True) is spool.Claim.HELD

    assert (folders / "spool" / arrival.file).readlink() == folders / "in" / "a.jpg"
    assert spool.is_source_unchanged(arrival)


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EIO, errno.ESTALE, errno.ETIMEDOUT])
@pytest.mark.parametrize("call", ["stat", "open", "read", "rename"])
def test_an_error_of_one_file_postpones_that_file_alone(
    folders: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    arrival = arrived(folders)
    if call == "read":
        monkeypatch.setattr(lease, "_take_lease", lambda descriptor: False)

    def refused(*_: object, **at: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refused)
        with pytest.raises(spool.Postponed, match=os.strerror(number)) as postponed:
            spool.claim(arrival, folders / "spool", hold=True)

    assert postponed.value.trouble
    assert list((folders / "spool").iterdir()) == []


@pytest.mark.usefixtures("no_leases")
@pytest.mark.parametrize("call", ["write", "fsync"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_an_error_of_the_spools_disk_is_not_blamed_on_the_file(
    folders: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    arrival = arrived(folders)

    def refused(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refused)
        with pytest.raises(OSError, match=os.strerror(number)):
            spool.claim(arrival, folders / "spool", hold=True)

    assert list((folders / "spool").iterdir()) == []
    assert spool.is_source_unchanged(arrival)


def test_a_folder_from_which_nothing_may_be_moved_is_copied_from(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scanner with umask 022 makes folders of mode 0755."""
    arrival, rename, unlink = arrived(folders), os.rename, os.unlink

    def refused_rename(source: str | Path, target: Path, **at: int) -> None:
        if at:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        rename(source, target)

    def refused_unlink(path: str | Path, **at: int) -> None:
        if at:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        unlink(path)

    monkeypatch.setattr(os, "rename", refused_rename)
    monkeypatch.setattr(os, "unlink", refused_unlink)

    assert spool.claim(arrival, folders / "spool", hold=True) is spool.Claim.NOT_REMOVABLE

    assert (folders / "spool" / arrival.file).read_bytes() == b"a page"

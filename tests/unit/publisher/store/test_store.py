import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.fault import Faults
from keys import digest
from keys.kernel import file_system
from publisher.store import store as store_module
from publisher.store.store import CannotLink, Store

CONTENT = b"a page"
SHA = hashlib.sha256(CONTENT).hexdigest()
PATH = "2023-05-14-cb-mv/34-istanbul-1/kadikoy-2/sandik-1234/cb-sandik-sonuc-s1.jpg"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path)
    made.make_root("parti-a")
    return made


def kept(store: Store, filed_at: int = 1684080000) -> Path:
    store.stage("arrival-1", CONTENT)
    store.keep("arrival-1", SHA, filed_at)
    return store.original(SHA)


def test_an_original_is_stored_by_its_digest_read_only_with_the_filing_time(store: Store) -> None:
    original = kept(store)

    assert original.parts[-3:] == (SHA[:2], SHA[2:4], SHA)
    assert original.read_bytes() == CONTENT
    assert stat.S_IMODE(original.stat().st_mode) == 0o444
    assert original.stat().st_mtime_ns == 1684080000_000_000_000


@pytest.mark.parametrize("syncfs", [True, False])
def test_a_page_is_synced_by_itself_only_where_syncfs_does_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, syncfs: bool
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(file_system, "has_syncfs", lambda descriptor: syncfs)
    store = Store(tmp_path)
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))

    staged = store.stage("arrival-1", CONTENT)

    assert synced == ([] if syncfs else [staged.stat().st_ino])


def test_other_bytes_in_the_place_of_an_original_are_not_sealed(
    store: Store, tmp_path: Path
) -> None:
    original = kept(store)
    store.seal(SHA)
    original.chmod(0o644)
    original.write_bytes(b"forged")

    Store(tmp_path).seal(SHA)

    with original.open("rb") as file:
        found = digest.check(digest.Claim.of(file.fileno()), store.stamp_key)
    assert found is digest.Proof.WRONG


def test_a_missing_original_is_restored_only_from_a_tree_with_the_same_bytes(
    store: Store, tmp_path: Path
) -> None:
    original, shown = store.original(SHA), tmp_path / "trees" / "parti-a" / PATH
    shown.parent.mkdir(parents=True)
    shown.write_bytes(b"forged")

    assert not store.restore_from_tree(SHA, "parti-a", PATH)
    assert not original.exists()
    shown.unlink()
    shown.write_bytes(CONTENT)
    assert store.restore_from_tree(SHA, "parti-a", PATH)
    assert original.samefile(shown)


def test_an_original_has_its_digests_stored_with_it(store: Store) -> None:
    with kept(store).open("rb") as file:
        assert digest.read_stamp(file.fileno()) == digest.digests_of(CONTENT)


def test_keeping_the_same_page_again_changes_nothing(store: Store) -> None:
    before = kept(store).stat()

    store.stage("arrival-2", CONTENT)
    mtime = store.keep("arrival-2", SHA, 1684089999)

    after = store.original(SHA).stat()
    assert (after.st_ino, after.st_mtime) == (before.st_ino, before.st_mtime)
    assert mtime == 1684080000
    assert not store.staged_path("arrival-2").exists()


def test_an_incomplete_original_left_by_a_crash_is_replaced(store: Store) -> None:
    original = store.original(SHA)
    original.parent.mkdir(parents=True)
    original.write_bytes(CONTENT[:3])

    kept(store)

    assert original.read_bytes() == CONTENT


@pytest.fixture(params=[0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_a_link_is_the_original_itself_and_can_be_made_twice(umask: int, tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.make_root("parti-a")
    original = kept(store)
    store.link(SHA, "parti-a", PATH)
    store.link(SHA, "parti-a", PATH)
    store.sync()

    shown = tmp_path / "trees" / "parti-a" / PATH
    assert shown.samefile(original)
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in list(shown.parents)[:5]} == {0o755}


def test_under_the_publishers_umask_a_folder_has_its_mode_without_chmod(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        os, "chmod", lambda *_: pytest.fail("a crash before chmod would leave the folder closed")
    )
    before = os.umask(0o022)
    try:
        store = Store(tmp_path)
        store.make_root("parti-a")
        kept(store)
        store.link(SHA, "parti-a", PATH)
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "trees/parti-a" / PATH).parent.stat().st_mode) == 0o755


def test_a_folder_missing_in_one_tree_is_created_first_in_the_next_trees(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(store)
    parties = [f"parti-{n}" for n in range(40)]
    for party in parties:
        store.make_root(party)
    tried: list[str] = []
    link = os.link

    def counted(source: str, place: str) -> None:
        tried.append(place)
        link(source, place)

    monkeypatch.setattr(os, "link", counted)
    for party in parties:
        store.link(SHA, party, PATH)
    assert len(tried) == 1 + 40, "only the first tree needs a second attempt"

    tried.clear()
    for party in parties:
        store.link(SHA, party, PATH.replace("cb-sandik", "mv-sandik"))
    assert len(tried) == 40, "the folder exists now"
    assert all((tmp_path / "trees" / p / PATH).samefile(store.original(SHA)) for p in parties)


def test_a_foreign_file_at_the_path_of_a_link_is_an_error_and_stays(
    store: Store, tmp_path: Path
) -> None:
    kept(store)
    shown = tmp_path / "trees" / "parti-a" / PATH
    shown.parent.mkdir(parents=True)
    shown.write_bytes(b"planted")

    with pytest.raises(CannotLink):
        store.link(SHA, "parti-a", PATH)

    assert shown.read_bytes() == b"planted"


def test_a_file_at_the_path_of_a_folder_is_an_error(store: Store, tmp_path: Path) -> None:
    kept(store)
    (tmp_path / "trees" / "parti-a" / "2023-05-14-cb-mv").write_bytes(b"planted")

    with pytest.raises(CannotLink):
        store.link(SHA, "parti-a", PATH)


def test_removing_a_page_removes_empty_folders_and_keeps_the_original(
    store: Store, tmp_path: Path
) -> None:
    original = kept(store)
    store.link(SHA, "parti-a", PATH)

    store.remove("parti-a", PATH)

    store.sync()
    assert list((tmp_path / "trees" / "parti-a").iterdir()) == []
    assert original.read_bytes() == CONTENT


def test_every_file_in_a_tree_with_the_name_of_a_page_is_found(
    store: Store, tmp_path: Path
) -> None:
    kept(store)
    store.link(SHA, "parti-a", PATH)
    root = tmp_path / "trees" / "parti-a"
    (root / "odd.PNG").symlink_to("/etc/passwd")
    (root / "BENIOKU.txt").touch()
    (root / Path(PATH).parent / "SHA256SUMS").touch()

    assert sorted(store.pages_in_tree("parti-a", lambda error: None)) == [PATH, "odd.PNG"]


def test_a_page_in_a_tree_is_stored_if_the_store_has_its_bytes_under_any_inode(
    store: Store, tmp_path: Path
) -> None:
    kept(store)
    store.link(SHA, "parti-a", PATH)
    root = tmp_path / "trees" / "parti-a"
    (root / "restored.jpg").write_bytes(CONTENT)
    (root / "planted.jpg").write_bytes(b"planted")
    (root / "link.jpg").symlink_to(store.original(SHA))

    assert store.is_stored("parti-a", PATH, SHA)
    assert store.is_stored("parti-a", PATH, None)
    assert store.is_stored("parti-a", "restored.jpg", None)
    assert not store.is_stored("parti-a", "planted.jpg", SHA)
    assert not store.is_stored("parti-a", "link.jpg", None)


def test_changes_of_an_earlier_run_are_synced_by_the_first_sync(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(store)
    store.link(SHA, "parti-a", PATH)
    synced: list[Path] = []
    monkeypatch.setattr(store_module, "sync_file_system", synced.append)

    later = Store(tmp_path)
    later.sync()
    later.sync()
    assert synced == [tmp_path / "store"], "the whole file system, once"

    later.stage("arrival-1", CONTENT)
    later.sync()
    later.link(SHA, "parti-a", PATH)
    later.sync()
    assert len(synced) == 3


def test_a_link_to_a_missing_original_is_an_error(store: Store) -> None:
    kept(store).unlink()

    with pytest.raises(CannotLink, match="is missing, restore it"):
        store.link(SHA, "parti-a", PATH)


def test_sweep_removes_staged_files(store: Store, tmp_path: Path) -> None:
    store.stage("arrival-1", CONTENT)

    store.sweep()

    assert list((tmp_path / "store").iterdir()) == []


@pytest.mark.skipif(
    not Path("/dev/shm").is_dir() or Path("/dev/shm").stat().st_dev == Path("/tmp").stat().st_dev,
    reason="needs two file systems",
)
def test_trees_on_another_file_system_are_a_fault(tmp_path: Path) -> None:
    found = (Path("/dev/shm"), Path("/tmp"))
    elsewhere = next(folder for folder in found if folder.stat().st_dev != tmp_path.stat().st_dev)
    other = elsewhere / f"trees-{os.getpid()}"
    other.mkdir()
    (tmp_path / "trees").symlink_to(other)
    try:
        with pytest.raises(Faults, match="trees: is on another file system than store/"):
            Store(tmp_path)
    finally:
        other.rmdir()

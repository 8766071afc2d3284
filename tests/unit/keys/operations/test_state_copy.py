import io
import json
import os
import shutil
import sqlite3
import tarfile
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import office
import pytest

from config.event import Event
from config.fault import Faults
from config.site import LEDGERS, TRANSFER
from keys.folder_lock import FolderLock
from keys.ledger import segments, writer
from keys.operations import state_copy
from keys.operations.state_copy import CopiedFile, FolderTarget, Manifest, TarTarget

NOW = datetime(2023, 5, 14, 20, tzinfo=UTC)
TEXT = office.SITE_TOML + (
    '[catalog]\nurl = "postgresql+psycopg://ssps@db/ssps"\npassword_file = "catalog.pgpass"\n'
)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site with one file of each kind."""
    site = office.site(tmp_path / "site", site_toml=TEXT)
    for path in (
        "catalog.pgpass", "keys/host/ssh_host_ed25519_key", "keys/parties/parti-a.toml",
        "store/ab/cd/page", "trees/parti-a/page", "feed/akis/1.csv", "intake/scan.jpg",
        "results/batch.ndjson", "snapshots/latest", "quarantine/page", "rehearsals/x/site.toml",
        "state/spool/waiting", "state/ended-sessions.json", "state/serve.lock",
        "state/serving.json", "state/hosts/a/serving.json", "state/staff-cache/index",
        "ledgers/transfer/checkpoint", "ledgers/transfer/0000000000000000.hashes",
        "ledgers/transfer/.lock",
    ):  # fmt: skip
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(path)
        (site / path).chmod(0o600)
    with writer.Ledger(site / LEDGERS / TRANSFER) as ledger:
        ledger.append(Event("open", "parti-a", "192.0.2.7", "page"))
    with closing(sqlite3.connect(site / "state/results.sqlite")) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE result (number)")
        database.execute("INSERT INTO result VALUES (7)")
        database.commit()
    return site


KEPT = [
    "catalog.pgpass",
    "keys/host/ssh_host_ed25519_key",
    "keys/parties/parti-a.toml",
    "ledgers/transfer/000000000000.jsonl",
    "ledgers/transfer/0000000000000000.hashes",
    "ledgers/transfer/checkpoint",
    "parties.toml",
    "site.toml",
    "state/ended-sessions.json",
    "state/results.sqlite",
    "state/spool/waiting",
]


def names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_a_copy_in_a_folder_has_what_a_second_machine_needs_and_nothing_else(
    site: Path, tmp_path: Path
) -> None:
    manifest = state_copy.export(site, FolderTarget(tmp_path / "copy"), NOW, with_keys=True)

    kept = sorted(file.path for file in manifest.files)
    assert [name for name in kept if not name.endswith(".jsonl")] == [
        name for name in KEPT if not name.endswith(".jsonl")
    ]
    assert names(tmp_path / "copy") == sorted([*kept, "MANIFEST.json"])
    assert Manifest.parse((tmp_path / "copy/MANIFEST.json").read_bytes()) == manifest
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "copy").rglob("*")}
    assert modes == {0o600, 0o700}


def test_without_keys_a_copy_has_no_key_no_credential_and_no_password(
    site: Path, tmp_path: Path
) -> None:
    state_copy.export(site, FolderTarget(tmp_path / "copy"), NOW, with_keys=False)

    assert not [n for n in names(tmp_path / "copy") if n.startswith("keys/") or "pgpass" in n]
    assert not json.loads((tmp_path / "copy/MANIFEST.json").read_text())["keys"]


def test_a_copy_through_a_pipe_is_the_site_again(site: Path, tmp_path: Path) -> None:
    pipe, new = io.BytesIO(), tmp_path / "new"
    archive = TarTarget(pipe)
    made = state_copy.export(site, archive, NOW, with_keys=True)
    archive.close()
    pipe.seek(0)

    assert state_copy.install(state_copy.read_archive(pipe), new) == made

    assert names(new) == sorted(file.path for file in made.files)
    for file in made.files:
        if not file.path.endswith(".sqlite"):
            assert (new / file.path).read_bytes() == (site / file.path).read_bytes()
        there, here = (site / file.path).stat(), (new / file.path).stat()
        assert (here.st_mode, here.st_mtime_ns) == (there.st_mode, there.st_mtime_ns)
    with closing(sqlite3.connect(new / "state/results.sqlite")) as database:
        assert database.execute("SELECT number FROM result").fetchall() == [(7,)]
    assert len(list(segments.read_records(new / LEDGERS / TRANSFER))) == 1


def test_the_checkpoint_of_a_ledger_is_copied_before_its_records(site: Path) -> None:
    order: list[str] = []

    class Recording:
        def add(self, file: CopiedFile, content: BinaryIO) -> None:
            order.append(Path(file.path).name if "ledgers" in file.path else "")
            content.read()

    state_copy.export(site, Recording(), NOW, with_keys=False)

    ledger = [name for name in order if name]
    assert ledger[0] == "checkpoint"
    assert ledger[1].endswith(".hashes") and ledger[2].endswith(".jsonl")


@pytest.fixture
def copy(site: Path, tmp_path: Path) -> Path:
    state_copy.export(site, FolderTarget(tmp_path / "copy"), NOW, with_keys=True)
    return tmp_path / "copy"


def refused(copy: Path, new: Path) -> list[str]:
    """Return why a copy is not installed; then nothing of it is in the folder."""
    before = names(new) if new.is_dir() else []
    with pytest.raises(Faults) as error:
        state_copy.install(state_copy.read_folder(copy), new)
    assert names(new) == before
    assert [path for path in new.iterdir() if path.name.startswith(".import")] == []
    return [f"{fault.file}: {fault.message}" for fault in error.value.faults]


def test_a_damaged_a_missing_and_a_foreign_file_are_named_and_nothing_is_installed(
    copy: Path, tmp_path: Path
) -> None:
    (copy / "site.toml").write_text("other")
    (copy / "state/spool/waiting").unlink()
    (copy / "keys/parties/parti-x.toml").write_text("added")

    assert refused(copy, tmp_path / "new") == [
        "site.toml: is damaged in the copy: make the copy again",
        "state/spool/waiting: is missing in the copy: make the copy again",
        "keys/parties/parti-x.toml: is not in the manifest: make the copy again",
    ]


def test_a_file_that_is_there_already_is_not_written_over(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "new/store").mkdir(parents=True)
    (tmp_path / "new/store/page").write_text("copied by rsync")
    (tmp_path / "new/parties.toml").write_text("of another site")

    assert refused(copy, tmp_path / "new") == [
        "parties.toml: is in the site's folder already: import into a folder without it"
    ]
    assert (tmp_path / "new/parties.toml").read_text() == "of another site"


def test_a_copy_that_was_cut_off_is_refused(site: Path, copy: Path, tmp_path: Path) -> None:
    (copy / "MANIFEST.json").unlink()
    pipe = io.BytesIO()
    archive = TarTarget(pipe)
    state_copy.export(site, archive, NOW, with_keys=True)
    archive.close()
    half = io.BytesIO(pipe.getvalue()[: len(pipe.getvalue()) // 2])

    assert refused(copy, tmp_path / "new") == [
        "MANIFEST.json: is missing, so the copy is not complete: make the copy again"
    ]
    with pytest.raises(Faults):
        state_copy.install(state_copy.read_archive(half), tmp_path / "new")
    assert names(tmp_path / "new") == []


def refused_archive(new: Path, *entries: tarfile.TarInfo) -> str:
    """Return why an archive of these entries is not installed."""
    pipe = io.BytesIO()
    with tarfile.open(fileobj=pipe, mode="w|") as archive:
        for entry in entries:
            archive.addfile(entry, io.BytesIO(b"x" * entry.size))
    pipe.seek(0)
    with pytest.raises(Faults) as error:
        state_copy.install(state_copy.read_archive(pipe), new)
    assert list(new.iterdir()) == []
    return str(error.value)


def entry(name: str, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, "" if kind == tarfile.REGTYPE else "/etc/passwd"
    made.size = 1 if kind == tarfile.REGTYPE else 0
    made.uid, made.mode = 4711, 0o6755
    return made


@pytest.mark.parametrize(
    "name",
    [
        "../outside", "/etc/passwd", "state/../../outside", "", "state//x", "state/\0x",
        "store/ab/cd/page", "results/batch.ndjson", ".ssh/authorized_keys",
    ],
)  # fmt: skip
def test_a_file_that_no_copy_has_is_refused(tmp_path: Path, name: str) -> None:
    assert "which no site has" in refused_archive(tmp_path / "new", entry(name))
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE]
)
def test_what_is_no_file_in_an_archive_is_refused(tmp_path: Path, kind: bytes) -> None:
    assert "which no site has" in refused_archive(tmp_path / "new", entry("site.toml", kind))


def test_a_file_that_an_archive_has_twice_is_refused(tmp_path: Path) -> None:
    twice = entry("site.toml"), entry("site.toml")

    assert "which no site has" in refused_archive(tmp_path / "new", *twice)


@pytest.mark.parametrize(
    "change",
    [
        {"mtime_ns": 2**63}, {"mtime_ns": -1}, {"mtime_ns": "now"}, {"mode": "4755"},
        {"mode": "rw"}, {"path": "../outside"}, {"path": 7},
    ],
)  # fmt: skip
def test_a_manifest_with_what_no_file_has_is_refused(
    copy: Path, tmp_path: Path, change: dict[str, object]
) -> None:
    manifest = json.loads((copy / "MANIFEST.json").read_text())
    manifest["files"][-1] |= change
    (copy / "MANIFEST.json").write_text(json.dumps(manifest))

    [why] = refused(copy, tmp_path / "new")
    assert why.startswith("MANIFEST.json: is not the manifest of a copy")


def test_a_manifest_with_a_file_twice_is_refused(copy: Path, tmp_path: Path) -> None:
    manifest = json.loads((copy / "MANIFEST.json").read_text())
    manifest["files"].append(manifest["files"][0])
    (copy / "MANIFEST.json").write_text(json.dumps(manifest))

    assert "a file twice" in refused(copy, tmp_path / "new")[0]


class Killed(BaseException):
    """The process is killed."""


@pytest.mark.parametrize("moment", range(1, 12))
def test_an_import_that_was_killed_leaves_no_site_and_can_be_repeated(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    new, moved = tmp_path / "new", 0
    rename = Path.rename

    def move(source: Path, target: Path) -> Path:
        nonlocal moved
        moved += 1
        if moved == moment:
            raise Killed
        return rename(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", move)
        with pytest.raises(Killed):
            state_copy.install(state_copy.read_folder(copy), new)
    (new / ".import-left").mkdir()  # a killed process does not remove it
    assert not (new / "site.toml").exists()

    manifest = state_copy.install(state_copy.read_folder(copy), new)

    assert names(new) == sorted(file.path for file in manifest.files)
    assert not (new / ".import-left").exists()


def test_two_imports_into_one_folder_do_not_mix(copy: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    new.mkdir()
    (new / ".import-other").mkdir()

    with closing(FolderLock(new)), pytest.raises(Faults, match="another import"):
        state_copy.install(state_copy.read_folder(copy), new)

    assert [path.name for path in new.iterdir()] == [".import-other"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")
def test_the_owner_of_the_folder_owns_what_root_installs(copy: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    new.mkdir()
    os.chown(new, 4711, 4712)

    state_copy.install(state_copy.read_folder(copy), new)

    owners = {(path.stat().st_uid, path.stat().st_gid) for path in new.rglob("*")}
    assert owners == {(4711, 4712)}


def test_a_file_that_shrinks_while_it_is_copied_is_a_fault(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Shrinking:
        def add(self, file: CopiedFile, content: BinaryIO) -> None:
            os.truncate(site / file.path, 0)
            shutil.copyfileobj(content, io.BytesIO())

    with pytest.raises(Faults, match="became shorter while it was copied"):
        state_copy.export(site, Shrinking(), NOW, with_keys=True)

"""The probe of a file system that several hosts mount: it finds what a file system lacks."""

import errno
import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from office import Ssps

from config import load
from keys import digest, files
from scripts.site import shared_files
from scripts.site.shared_files import Lack, Mount, mount_lacks, mount_of


@pytest.fixture
def folders(site: Path) -> Path:
    for name in ("store", "trees", "state"):
        (site / name).mkdir(exist_ok=True)
    return site


def probed(site: Path) -> list[Lack]:
    return list(shared_files.probe(site, 3))


def names(found: list[Lack]) -> list[str]:
    return [f"{lack.folder}: {lack.what}" for lack in found]


def refusing(number: int) -> Callable[..., None]:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


def test_a_local_disk_lacks_nothing_and_keeps_nothing_of_the_probe(folders: Path) -> None:
    before = sorted(folders.rglob("*"))

    assert probed(folders) == []
    assert sorted(folders.rglob("*")) == before


def test_missing_hard_links_are_found(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", refusing(errno.EPERM))

    found = probed(folders)

    assert (
        "trees: no hard link to a file of store/ (Operation not permitted, after 0 of 3)"
        in names(found)
    )
    assert all(lack.serious for lack in found)


def test_a_limit_of_links_below_the_number_of_trees_is_found(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def limited(source: str, target: str) -> None:
        if Path(source).stat().st_nlink == 2 and "trees" in str(target):
            raise OSError(errno.EMLINK, os.strerror(errno.EMLINK))
        link(source, target)

    monkeypatch.setattr(os, "link", limited)

    [lack] = probed(folders)
    assert lack.what == "no hard link to a file of store/ (Too many links, after 1 of 3)"
    assert "storage.max-hardlinks" in lack.advice


def test_a_named_host_with_a_disk_of_its_own_is_noted(folders: Path) -> None:
    [lack] = shared_files.probe(folders, 3, "gw2")

    kind = mount_of(folders, Path("/proc/self/mountinfo").read_text())
    lost = ", and loses with its power" if kind is not None and kind.kind == "tmpfs" else ""
    assert lack.what.endswith(f", which only this machine has{lost}")
    assert "gw2 is one of several hosts" in lack.advice and not lack.serious


def test_locks_that_hold_back_no_one_are_found(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("flock", "lockf", "fcntl"):
        monkeypatch.setattr(fcntl, name, lambda *_: None)

    assert names(probed(folders))[:2] == [
        "state: flock(2) gives one lock to two",
        "state: fcntl(2) gives one lock to two",
    ]


def test_times_that_are_not_kept_are_found(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "utime", lambda *_, **__: None)

    assert "state: a file's modification time cannot be set and kept" in names(probed(folders))


def test_a_clock_that_differs_is_found(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 90)

    assert "state: the file server's clock differs from this host's by -90.0 s" in names(
        probed(folders)
    )


def test_late_changes_and_a_missing_exchange_are_only_noted(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digest, "SETTLE_NS", -1)
    monkeypatch.setattr(files, "exchange", refusing(errno.EINVAL))

    found = probed(folders)

    assert names(found)[:2] == [
        "state: a change takes more than 10 ms, or does not set the ctime",
        "state: two folders cannot be exchanged in one step (renameat2)",
    ]
    assert not any(lack.serious for lack in found)


def test_the_mount_of_a_folder_is_the_innermost_and_newest() -> None:
    mountinfo = (
        "22 1 254:0 / / rw - ext4 /dev/vda rw\n"
        "30 22 0:40 / /srv/the\\040site rw,nosuid shared:7 - nfs4 nas:/a rw,actimeo=3\n"
        "31 22 0:41 / /srv/the\\040site rw - nfs4 nas:/b rw,acregmax=1,acdirmax=1,hard\n"
    )

    assert mount_of(Path("/srv/the site/trees"), mountinfo) == Mount(
        "/srv/the site", "nfs4", {"rw": "", "acregmax": "1", "acdirmax": "1", "hard": ""}
    )
    assert mount_of(Path("/srv/other"), mountinfo) == Mount("/", "ext4", {"rw": ""})


@pytest.mark.parametrize(
    ("options", "lacks"),
    [
        ("rw,hard,acregmax=1,acdirmax=1,local_lock=none", []),
        ("rw,hard,noac", []),
        ("rw,noac,local_lock=all", ["locks of /srv do not reach other hosts"]),
        ("rw,noac,nolock", ["locks of /srv do not reach other hosts"]),
        ("rw,noac,soft", ["/srv gives up a write that takes long (`soft`)"]),
        ("rw,hard", ["changes of other hosts are seen up to 60 s late in /srv"]),
    ],
)
def test_nfs_options_that_separate_the_hosts_are_found(options: str, lacks: list[str]) -> None:
    stated = {name: value for name, _, value in (o.partition("=") for o in options.split(","))}

    assert [lack.what for lack in mount_lacks("store", Mount("/srv", "nfs4", stated))] == lacks


def test_a_fuse_file_system_is_noted_and_one_for_one_host_refused() -> None:
    gluster = list(mount_lacks("store", Mount("/srv", "fuse.glusterfs", {})))
    sshfs = list(mount_lacks("store", Mount("/srv", "fuse.sshfs", {})))
    bindfs = list(mount_lacks("store", Mount("/srv", "fuse", {})))  # it does not state its name

    assert [(lack.what, lack.serious) for lack in gluster] == [
        ("syncfs(2) does not reach the disks behind glusterfs", False)
    ]
    assert [(lack.what, lack.serious) for lack in sshfs] == [
        ("locks of sshfs do not reach other hosts", True),
        ("syncfs(2) does not reach the disks behind sshfs", False),
    ]
    assert [(lack.what, lack.serious) for lack in bindfs] == [
        ("whether locks of FUSE reach other hosts is not known", False),
        ("syncfs(2) does not reach the disks behind FUSE", False),
    ]


def test_check_reports_what_lacks_as_faults_and_notes(
    site: Path, ssps: Ssps, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacks = [Lack("store", "no sense", "buy some"), Lack("trees", "no speed", "wait", False)]
    monkeypatch.setattr(shared_files, "concerned", lambda settings: True)
    monkeypatch.setattr(shared_files, "probe", lambda *_: iter(lacks))

    checked = ssps("check", "--site", site)

    assert checked.exit_code == 1
    assert "store: no sense: buy some\n" in checked.stdout
    assert "no speed" not in checked.stdout
    assert "note: trees: no speed: wait\n" in checked.stderr


def test_a_site_of_one_host_on_a_local_disk_is_not_probed(site: Path) -> None:
    assert not shared_files.concerned(load.load(site))

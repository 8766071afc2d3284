"""Story "A client opens a file", with real processes: every file that is served is recorded."""

import os
import subprocess
from collections import Counter
from pathlib import Path

from running_site import ADDRESS, RunningSite, pages, until

from config import layout, load


def sizes(running: RunningSite, party: str) -> dict[str, int]:
    tree = running.site / "trees" / party
    return {"/" + path: (tree / path).stat().st_size for path in running.tree(party)}


def test_the_ledger_records_every_file_of_a_mirror(rehearsal: RunningSite, tmp_path: Path) -> None:
    before = len(rehearsal.records())

    rehearsal.sftp("parti-a", f"get -r / {tmp_path}")

    until(
        lambda: rehearsal.records()[-1].event.event == "session-end",
        "the end of the session is recorded",
        seconds=10,
    )
    events = [r.event for r in rehearsal.records()[before:]]
    login = next(e for e in events if e.event == "login")
    session = login.detail["session"]
    mine = [e for e in events if e.detail.get("session") == session]
    assert {e.who for e in mine} == {"parti-a"}
    assert {e.origin for e in mine} == {"127.0.0.1"}
    opened = {e.what: e.detail["size"] for e in mine if e.event == "open"}
    closed = {e.what: (e.detail["bytes"], e.detail["complete"]) for e in mine if e.event == "close"}
    pages = {path: size for path, size in opened.items() if not layout.is_publisher_file(path[1:])}
    assert pages == sizes(rehearsal, "parti-a")
    assert closed == {path: (size, True) for path, size in opened.items()}
    assert mine[-1].event == "session-end"
    assert mine[-1].detail["bytes"] == sum(int(str(size)) for size, _ in closed.values())


def test_the_ledger_has_the_open_before_the_close(rehearsal: RunningSite) -> None:
    opened: Counter[tuple[object, object]] = Counter()

    for record in rehearsal.records():
        detail = record.event.detail
        handle = (detail.get("session"), detail.get("handle"))
        if record.event.event == "open" and record.event.outcome == "ok":
            opened[handle] += 1
        if record.event.event == "close":
            opened[handle] -= 1
            assert opened[handle] == 0, "a handle is closed once, after it was opened"
    assert [r.seq for r in rehearsal.records()] == list(range(len(rehearsal.records())))


def test_a_partial_download_is_recorded_as_partial(rehearsal: RunningSite, tmp_path: Path) -> None:
    path, size = max(sizes(rehearsal, "parti-a").items(), key=lambda item: item[1])
    half = tmp_path / "half"
    half.write_bytes((rehearsal.site / "trees/parti-a" / path[1:]).read_bytes()[: size // 2])
    before = len(rehearsal.records())

    rehearsal.sftp("parti-a", f"reget {path} {half}")

    closed = next(r.event for r in rehearsal.records()[before:] if r.event.event == "close")
    assert closed.what == path
    assert closed.detail["bytes"] == size - size // 2
    assert closed.detail["complete"] is False
    assert half.stat().st_size == size


def test_a_party_with_one_district_sees_only_that_district(
    rehearsal: RunningSite, tmp_path: Path
) -> None:
    party = load.load(rehearsal.site).party("parti-c")
    assert party is not None
    (district,) = (d for d, _ in party.scope.places or ())

    rehearsal.sftp("parti-c", f"get -r / {tmp_path}")

    shown = {p.name for p in (tmp_path / "prova-cb-mv").iterdir() if p.is_dir()}
    assert shown == {district}
    assert pages(tmp_path) == rehearsal.tree("parti-c")


def test_an_unknown_key_is_refused_and_recorded(rehearsal: RunningSite) -> None:
    before = len(rehearsal.records())
    stranger = [*rehearsal.ssh_options("parti-b"), f"parti-a@{ADDRESS}"]

    done = subprocess.run(
        ["sftp", "-b", "/dev/null", *stranger], capture_output=True, text=True, timeout=30
    )

    assert done.returncode != 0
    assert "Permission denied (publickey" in done.stderr
    until(
        lambda: len(rehearsal.records()) > before + 1, "the refused login is recorded", seconds=10
    )
    events = [r.event for r in rehearsal.records()[before:]]
    assert "login" not in {e.event for e in events}
    refused = next(e for e in events if e.event == "login-refused")
    assert (refused.who, refused.origin, refused.outcome) == ("parti-a", "127.0.0.1", "refused")


def test_a_key_added_while_the_server_runs_works_at_once(
    rehearsal: RunningSite, tmp_path: Path
) -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", str(tmp_path / "id")], check=True
    )
    rehearsal.ssps("key", "add", "parti-b", "--public-key", tmp_path / "id.pub", "--why", "x")
    options = [
        f"-oIdentityFile={tmp_path / 'id'}" if "IdentityFile" in option else option
        for option in rehearsal.ssh_options("parti-b")
    ]

    done = subprocess.run(
        ["sftp", "-b", "-", *options, f"parti-b@{ADDRESS}"],
        input="ls /\n",
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert done.returncode == 0, done.stderr
    assert "prova-cb-mv" in done.stdout


def test_a_password_works_like_a_key(rehearsal: RunningSite, tmp_path: Path) -> None:
    password = rehearsal.ssps("key", "add", "parti-b", "--password", "--why", "x").strip()
    ask = tmp_path / "ask"
    ask.write_text(f"#!/bin/sh\necho {password}\n")
    ask.chmod(0o700)
    options = [o for o in rehearsal.ssh_options("parti-b") if "Batch" not in o]
    options.append("-oPreferredAuthentications=password")

    done = subprocess.run(
        ["sftp", *options, f"parti-b@{ADDRESS}"],
        input="ls /\n",
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force"},
    )

    assert done.returncode == 0, done.stderr
    assert "prova-cb-mv" in done.stdout
    login = [r.event for r in rehearsal.records() if r.event.event == "login"][-1]
    assert login.detail["method"] == "password"
    assert password not in rehearsal.log.read_text()


def test_no_process_of_a_running_site_writes_a_core_file(rehearsal: RunningSite) -> None:
    # Seeds and passwords were found in such files.
    names = Counter[str]()
    for pid in processes_of(rehearsal.site):
        limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
        [core] = [line.split() for line in limits if line.startswith("Max core file size")]
        assert core[4:6] == ["0", "0"], Path(f"/proc/{pid}/cmdline").read_bytes()
        names[Path(f"/proc/{pid}/comm").read_text().strip()] += 1
    assert {"ssps-judge", "ssps-hostkeys", "ssps-forker"} <= names.keys()
    assert names.total() >= 8  # run, publish, serve, results and the signer too


def processes_of(site: Path) -> list[int]:
    """Return the daemons of a site, and their children."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes()
        except OSError:
            continue
        if str(site).encode() in words and b"ssps" in words and b"sftp\0" not in words:
            found.append(int(path.name))
    for pid in found:
        for listed in Path(f"/proc/{pid}/task").glob("*/children"):
            found += [int(child) for child in listed.read_text().split() if int(child) not in found]
    return found

"""Hostile SFTP requests against the real server: memory, handles and records stay limited."""

import json
import os
from collections import Counter
from pathlib import Path
from struct import pack

import paramiko
import pytest
from unit.sftpd.fuzz import SECRET, Attacker, ReplyChecker, VisibleTree, make_hostile_tree, seeded
from wire.attacker import (
    DATA,
    DENIED,
    EOF,
    FAILURE,
    NAME,
    NO_SUCH_FILE,
    OK,
    OPEN,
    OPENDIR,
    READ,
    READDIR,
    STATUS,
    RawSftp,
    assert_record_complete,
    assert_still_serves,
    end_reasons,
    logged_in,
    only_child,
    peak_memory,
    private_memory,
    string,
)
from wire.server import StartServer, until

from config.event import Outcome

MIB = 1 << 20
STAT = 17


def test_a_read_of_two_gigabytes_returns_255_kib(serve: StartServer) -> None:
    server = serve()
    content = server.add_file("big", 4 * MIB)
    with logged_in(server) as transport:
        sftp = RawSftp.on_channel(transport.open_session())
        child = only_child(server)
        handle = sftp.open(b"big")
        before = private_memory(child)
        for length in (2**31, 2**32 - 1, 2**31 - 1):
            answer, rest = sftp.request(READ, handle + pack(">QI", 1000, length))
            assert answer == DATA
            assert rest[4:] == content[1000 : 1000 + 255 * 1024]
        assert private_memory(child) - before < 4 * MIB
        beyond, rest = sftp.request(READ, handle + pack(">QI", 2**63, 2**31))
        assert (beyond, rest[:4]) == (STATUS, pack(">I", EOF))


def test_a_session_can_hold_1000_handles_and_more_are_refused_on_record(serve: StartServer) -> None:
    server = serve()
    with logged_in(server) as transport:
        sftp = RawSftp.on_channel(transport.open_session())
        child = only_child(server)
        codes: Counter[int] = Counter()
        for kind, body in ((OPEN, string(b"BENIOKU.txt") + pack(">II", 1, 0)), (11, string(b"/"))):
            codes.update(sftp.status(kind, body) for _ in range(1100))
        assert codes == {OK: 1000, FAILURE: 1200}
        if os.geteuid() == 0:  # the child is not dumpable, so only root may look
            assert len(list(Path(f"/proc/{child}/fd").iterdir())) < 1050
        sftp.close(pack(">II", 4, 1))
        assert sftp.status(OPENDIR, string(b"/")) == OK
    until(lambda: end_reasons(server))
    assert len([r for r in server.records("open") if r.event.outcome == "ok"]) == 1000
    refused = [r.event.detail for r in server.records("open") if r.event.outcome == "refused"]
    assert {detail["reason"] for detail in refused} == {"too many open handles"}
    assert_record_complete(server)


def test_a_connection_can_hold_eight_channels(serve: StartServer) -> None:
    server = serve()
    with logged_in(server) as transport:
        granted, refused = [], set()
        for _ in range(300):
            try:
                granted.append(transport.open_session())
            except paramiko.ChannelException as error:
                refused.add(error.code)
        assert len(granted) == 8
        assert refused == {4}  # SSH_OPEN_RESOURCE_SHORTAGE
        sessions = [RawSftp.on_channel(channel) for channel in granted]
        assert [sftp.status(OPENDIR, string(b"/")) for sftp in sessions] == [OK] * 8
        granted[0].close()
        until(lambda: RawSftp.on_channel(transport.open_session()))


def test_a_long_listing_comes_in_replies_of_limited_size(serve: StartServer) -> None:
    server = serve()
    folder = server.site / "trees" / "parti-a" / "many"
    folder.mkdir()
    for number in range(10_000):
        (folder / f"cb-sandik-sonuc-s{number}.jpg").touch()
    with logged_in(server) as transport:
        sftp = RawSftp.on_channel(transport.open_session())
        _, handle = sftp.request(OPENDIR, string(b"many"))
        counts = []
        while (reply := sftp.request(READDIR, handle))[0] == NAME:
            assert len(reply[1]) < 256 * 1024
            counts.append(int.from_bytes(reply[1][:4], "big"))
    assert sum(counts) == 10_002  # `.` and `..` too
    assert min(counts[:-1]) >= 100


def test_many_listings_of_a_large_folder_at_once_take_little_memory(serve: StartServer) -> None:
    server = serve()
    folder = server.site / "trees" / "parti-a" / "many"
    folder.mkdir()
    for number in range(20_000):
        (folder / f"{number:060}").touch()
    with logged_in(server) as transport:
        sftp = RawSftp.on_channel(transport.open_session())
        with peak_memory(only_child(server)) as most:
            for _ in range(500):
                _, handle = sftp.request(OPENDIR, string(b"many"))
                assert sftp.request(READDIR, handle)[0] == NAME
        print(f"\n500 begun listings of 20,000 names took {(most[-1] - most[0]) / MIB:.1f} MiB")
        assert most[-1] - most[0] < 4 * MIB
    assert_still_serves(server)


def test_an_error_in_a_verb_is_a_failure_status_and_a_log_line(serve: StartServer) -> None:
    # The disk fails at one path, as with a bad sector; another path meets a bug of ours.
    patch = (
        "import errno\n"
        "from sftpd.sftp.view import View\n"
        "stat = View.stat\n"
        "def failing(view, path):\n"
        "    if path.endswith(b'bozuk'): raise OSError(errno.EIO, 'Input/output error')\n"
        "    if path.endswith(b'hata'): raise ZeroDivisionError('a bug of ours')\n"
        "    return stat(view, path)\n"
        "View.stat = failing\n"
    )
    server = serve(patch=patch)
    with logged_in(server) as transport:
        sftp = RawSftp.on_channel(transport.open_session())
        assert [sftp.status(STAT, string(path)) for path in (b"/bozuk", b"/hata", b"/yok")] == [
            FAILURE,
            FAILURE,
            NO_SUCH_FILE,
        ]
        sftp.close(sftp.open(b"BENIOKU.txt"))
    until(lambda: end_reasons(server) == ["closed"])
    lines = map(json.loads, server.log.read_text().splitlines())
    first, second = (line for line in lines if line["level"] == "error")
    assert first["event"] == second["event"] == "request-failed"
    assert "Input/output error" in first["exception"]
    assert "a bug of ours" in second["exception"]


def test_many_refusals_are_recorded_as_a_count(
    serve: StartServer,
) -> None:
    server = serve()
    missing = string(b"/" + b"x" * 4000) + pack(">II", 1, 0)
    write = string(b"/" + b"x" * 4000) + pack(">II", 2, 0)
    with logged_in(server) as transport:
        sftp = RawSftp.on_channel(transport.open_session())
        codes = [sftp.status(OPEN, body) for _ in range(5000) for body in (missing, write)]
    until(lambda: end_reasons(server) == ["closed"])

    assert codes == [NO_SUCH_FILE, DENIED] * 5000
    written = sum(path.stat().st_size for path in (server.site / "ledgers/transfer").iterdir())
    assert written < 4 * MIB
    refused = [r.event.detail for r in server.records() if r.event.outcome is Outcome.REFUSED]
    assert sum(int(str(detail.get("count", 1))) for detail in refused) == 10_000
    assert_record_complete(server)


@pytest.mark.parametrize("seed", range(3))
def test_thousands_of_hostile_sftp_packets_get_correct_replies(
    serve: StartServer, seed: int
) -> None:
    server = serve()
    tree = server.site / "trees" / "parti-a"
    make_hostile_tree(tree)
    visible, rng = VisibleTree.of(tree), seeded(seed)
    attacker, checker = Attacker(rng, visible, tree), ReplyChecker(visible)
    with logged_in(server) as transport:
        sftp = RawSftp.on_channel(transport.open_session())
        child = only_child(server)
        before = 0
        number = 0
        while number < 3000:
            batch = [
                attacker.packet(pack(">I", number + i)) for i in range(rng.choice((1, 10, 60)))
            ]
            number += len(batch)
            sftp.send(b"".join(batch))
            for asked in batch:
                answer, request, rest = sftp.receive()
                assert SECRET not in rest
                reply = pack(">IBI", 5 + len(rest), answer, request) + rest
                checker.check(asked, reply)
            attacker.handles = list(checker.held)
            before = before or private_memory(child)
        assert private_memory(child) - before < 4 * MIB
        assert server.children() == [child]
    until(lambda: end_reasons(server) == ["closed"])
    assert '"level": "error"' not in server.log.read_text()
    assert_still_serves(server)
    until(lambda: len(end_reasons(server)) == 2)
    assert_record_complete(server)

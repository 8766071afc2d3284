"""SFTP requests that mean harm, against the real server: it stays small and calm."""

import json
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
    Raw,
    add_file,
    assert_record_complete,
    assert_still_serves,
    end_reasons,
    logged_in,
    only_child,
    resident,
    string,
)
from wire.served import Serve, until

from config.event import Outcome

MIB = 1 << 20
STAT = 17


def test_a_read_of_two_gigabytes_gets_255_kib(serve: Serve) -> None:
    served = serve()
    content = add_file(served, "big", 4 * MIB)
    with logged_in(served) as transport:
        raw = Raw.on(transport.open_session())
        child = only_child(served)
        handle = raw.open(b"big")
        before = resident(child)
        for length in (2**31, 2**32 - 1, 2**31 - 1):
            answer, rest = raw.ask(READ, handle + pack(">QI", 1000, length))
            assert answer == DATA
            assert rest[4:] == content[1000 : 1000 + 255 * 1024]
        assert resident(child) - before < 4 * MIB
        beyond, rest = raw.ask(READ, handle + pack(">QI", 2**63, 2**31))
        assert (beyond, rest[:4]) == (STATUS, pack(">I", EOF))


def test_of_five_thousand_opens_128_are_granted(serve: Serve) -> None:
    served = serve()
    with logged_in(served) as transport:
        raw = Raw.on(transport.open_session())
        child = only_child(served)
        codes: Counter[int] = Counter()
        for kind, body in ((OPEN, string(b"BENIOKU.txt") + pack(">II", 1, 0)), (11, string(b"/"))):
            codes.update(raw.code(kind, body) for _ in range(2500))
        assert codes == {OK: 128, FAILURE: 4872}
        assert len(list(Path(f"/proc/{child}/fd").iterdir())) < 150
        raw.close(pack(">II", 4, 1))
        assert raw.code(OPENDIR, string(b"/")) == OK
    until(lambda: end_reasons(served))
    assert len(served.records("open")) == 128
    assert_record_complete(served)


def test_of_three_hundred_channels_eight_are_granted(serve: Serve) -> None:
    served = serve()
    with logged_in(served) as transport:
        granted, refused = [], set()
        for _ in range(300):
            try:
                granted.append(transport.open_session())
            except paramiko.ChannelException as error:
                refused.add(error.code)
        assert len(granted) == 8
        assert refused == {4}  # SSH_OPEN_RESOURCE_SHORTAGE
        sessions = [Raw.on(channel) for channel in granted]
        assert [raw.code(OPENDIR, string(b"/")) for raw in sessions] == [OK] * 8
        granted[0].close()
        until(lambda: Raw.on(transport.open_session()))


def test_a_listing_of_ten_thousand_comes_a_hundred_or_more_at_a_time(serve: Serve) -> None:
    served = serve()
    folder = served.site / "trees" / "parti-a" / "many"
    folder.mkdir()
    for number in range(10_000):
        (folder / f"cb-sandik-sonuc-s{number}.jpg").touch()
    with logged_in(served) as transport:
        raw = Raw.on(transport.open_session())
        _, handle = raw.ask(OPENDIR, string(b"many"))
        counts = []
        while (reply := raw.ask(READDIR, handle))[0] == NAME:
            assert len(reply[1]) < 256 * 1024
            counts.append(int.from_bytes(reply[1][:4], "big"))
    assert sum(counts) == 10_000
    assert min(counts[:-1]) >= 100


def test_what_goes_wrong_in_a_verb_is_a_status_and_an_error_in_the_log(serve: Serve) -> None:
    # A disk that fails at one path, as a bad sector does.
    patch = (
        "import errno\n"
        "from sftpd.sftp.view import View\n"
        "look = View.look\n"
        "def failing(view, path):\n"
        "    if path.endswith(b'bozuk'): raise OSError(errno.EIO, 'Input/output error')\n"
        "    if path.endswith(b'hata'): raise ZeroDivisionError('a mistake of ours')\n"
        "    return look(view, path)\n"
        "View.look = failing\n"
    )
    served = serve(patch=patch)
    with logged_in(served) as transport:
        raw = Raw.on(transport.open_session())
        assert [raw.code(STAT, string(path)) for path in (b"/bozuk", b"/hata", b"/yok")] == [
            FAILURE,
            FAILURE,
            NO_SUCH_FILE,
        ]
        raw.close(raw.open(b"BENIOKU.txt"))
    until(lambda: end_reasons(served) == ["closed"])
    lines = map(json.loads, served.log.read_text().splitlines())
    first, second = (line for line in lines if line["level"] == "error")
    assert first["event"] == second["event"] == "request-failed"
    assert "Input/output error" in first["exception"]
    assert "a mistake of ours" in second["exception"]


def test_what_is_refused_ten_thousand_times_does_not_fill_the_disk_with_records(
    serve: Serve,
) -> None:
    served = serve()
    missing = string(b"/" + b"x" * 4000) + pack(">II", 1, 0)
    write = string(b"/" + b"x" * 4000) + pack(">II", 2, 0)
    with logged_in(served) as transport:
        raw = Raw.on(transport.open_session())
        codes = [raw.code(OPEN, body) for _ in range(5000) for body in (missing, write)]
    until(lambda: end_reasons(served) == ["closed"])

    assert codes == [NO_SUCH_FILE, DENIED] * 5000
    written = sum(path.stat().st_size for path in (served.site / "ledgers/transfer").iterdir())
    assert written < 4 * MIB
    refused = [r.event.detail for r in served.records() if r.event.outcome is Outcome.REFUSED]
    assert sum(int(str(detail.get("count", 1))) for detail in refused) == 10_000
    assert_record_complete(served)


@pytest.mark.parametrize("seed", range(3))
def test_thousands_of_hostile_packets_inside_a_channel(serve: Serve, seed: int) -> None:
    served = serve()
    tree = served.site / "trees" / "parti-a"
    make_hostile_tree(tree)
    visible, rng = VisibleTree.of(tree), seeded(seed)
    attacker, checker = Attacker(rng, visible, tree), ReplyChecker(visible)
    with logged_in(served) as transport:
        raw = Raw.on(transport.open_session())
        child = only_child(served)
        before = 0
        number = 0
        while number < 3000:
            batch = [
                attacker.packet(pack(">I", number + i)) for i in range(rng.choice((1, 10, 60)))
            ]
            number += len(batch)
            raw.send(b"".join(batch))
            for asked in batch:
                answer, request, rest = raw.receive()
                assert SECRET not in rest
                reply = pack(">IBI", 5 + len(rest), answer, request) + rest
                checker.check(asked, reply)
            attacker.handles = list(checker.held)
            before = before or resident(child)
        assert resident(child) - before < 4 * MIB
        assert served.children() == [child]
    until(lambda: end_reasons(served) == ["closed"])
    assert '"level": "error"' not in served.log.read_text()
    assert_still_serves(served)
    until(lambda: len(end_reasons(served)) == 2)
    assert_record_complete(served)

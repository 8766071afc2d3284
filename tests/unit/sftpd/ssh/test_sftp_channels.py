from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from struct import pack

import pytest
import structlog
from paramiko.message import Message
from paramiko.ssh_exception import SSHException
from unit.sftpd.sftp_client import NOW, Client, MemoryRecorder, string

from sftpd.sftp.session import HEADROOM, Session
from sftpd.sftp.view import View
from sftpd.ssh.sftp_channels import SftpChannels

ADJUST, DATA = 93, 94
SIZE = 100_000
INIT = Client.packet(1, pack(">I", 3))


@dataclass
class Line:
    """A channel as paramiko keeps it."""

    chanid: int = 0
    remote_chanid: int = 50
    out_window_size: int = 1 << 21
    out_max_packet_size: int = 32768
    in_window_size: int = 1 << 20
    closed: list[str] = field(default_factory=list)

    def send_exit_status(self, status: int) -> None:
        self.closed.append(f"exit {status}")

    def close(self) -> None:
        self.closed.append("close")


class Wired:
    """Carriers, and what they have sealed, by the client's number of the channel."""

    def __init__(
        self, view: View, kept: MemoryRecorder, pace: Callable[[int], float] | None = None
    ) -> None:
        self.now = 100.0
        self.carriers = SftpChannels(self, lambda: self.now, pace)
        self.sealed: list[tuple[int, bytes]] = []
        self.told: list[bytes] = []
        self.room = 1 << 30
        self._view, self._kept = view, kept

    def send_data(
        self, recipient: int, stream: memoryview, at: int, end: int, max_size: int
    ) -> int:
        assert at >= HEADROOM
        end = min(end, at + self.room)
        self.sealed.append((recipient, bytes(stream[at:end])))
        return end - at

    def add(self, line: Line) -> Line:
        session = Session(self._view, self._kept, NOW)
        self.carriers.add(line, session, self._send_message)  # type: ignore[arg-type]
        return line

    def _send_message(self, message: Message) -> None:
        self.told.append(message.asbytes())

    def data(self, chanid: int, content: bytes) -> bool:
        return self.carriers.handle_packet(
            DATA, memoryview(pack(">BI", DATA, chanid) + string(content))
        )

    def add_window(self, chanid: int, size: int) -> bool:
        return self.carriers.handle_packet(ADJUST, memoryview(pack(">BII", ADJUST, chanid, size)))

    def run(self) -> bytes:
        """Step until nothing more is to be done; return what was sealed meanwhile."""
        before = len(self.sealed)
        while self.carriers.send_some():
            pass
        return b"".join(content for _, content in self.sealed[before:])


@pytest.fixture
def big(tree: Path) -> bytes:
    content = bytes(range(250)) * (SIZE // 250)
    (tree / "big").write_bytes(content)
    return content


@pytest.fixture
def wired(view: View, kept: MemoryRecorder, big: bytes) -> Wired:
    return Wired(view, kept)


def opening(request: int = 1) -> bytes:
    return Client.packet(3, pack(">I", request) + string(b"/big") + pack(">II", 1, 0))


def reading(offset: int = 0, length: int = SIZE, handle: int = 1) -> bytes:
    return Client.packet(
        5, pack(">I", 7) + string(pack(">I", handle)) + pack(">QI", offset, length)
    )


def closing(handle: int = 1) -> bytes:
    return Client.packet(4, pack(">I", 9) + string(pack(">I", handle)))


def test_pipelined_requests_are_answered_together(wired: Wired, big: bytes) -> None:
    wired.add(Line())
    wired.data(0, INIT + opening())
    wired.run()
    wired.data(0, reading(0, 10) + reading(10, 10)[:20])
    wired.data(0, reading(10, 10)[20:])

    answered = wired.run()

    expected = b"".join(pack(">IBII", 19, 103, 7, 10) + big[a : a + 10] for a in (0, 10))
    assert answered == expected
    assert len(wired.sealed) == 2


def test_replies_stay_within_the_clients_window(
    wired: Wired, kept: MemoryRecorder, big: bytes
) -> None:
    wired.add(Line(out_window_size=1000))
    wired.data(0, INIT + opening() + reading())
    first = wired.run()
    assert len(first) == 1000
    assert wired.carriers.waits_for_client()
    wired.data(0, closing())
    assert wired.run() == b""

    wired.add_window(0, 60_000)
    second = wired.run()
    assert len(second) == 60_000
    assert ("close", 1, SIZE, True, "") not in kept.told
    wired.add_window(0, 1 << 20)
    third = wired.run()

    assert big in first + second + third
    assert not wired.carriers.waits_for_client()
    assert kept.told[-1] == ("close", 1, SIZE, True, "")


def test_a_full_socket_is_waited_for(wired: Wired, big: bytes) -> None:
    wired.add(Line())
    wired.data(0, INIT + opening() + reading())
    wired.room = 30_000
    assert wired.carriers.send_some()
    assert sum(len(content) for _, content in wired.sealed) == 30_000
    assert big in wired.sealed[0][1] + wired.run()


def test_what_cannot_be_sealed_yet_is_sealed_later(wired: Wired, big: bytes) -> None:
    wired.add(Line())
    wired.data(0, INIT + opening() + reading())
    wired.room = 0
    assert wired.run() == b""
    wired.room = 1 << 30
    assert big in wired.run()


def test_a_window_has_an_end(wired: Wired) -> None:
    wired.add(Line(out_window_size=2**32 - 10))
    assert wired.add_window(0, 9)
    with pytest.raises(SSHException, match="window"):
        wired.add_window(0, 1)


def test_a_client_that_sends_more_than_its_window_is_refused(wired: Wired) -> None:
    wired.add(Line(in_window_size=100))
    wired.data(0, bytes(60))
    with pytest.raises(SSHException, match="window of 40"):
        wired.data(0, bytes(41))


def test_a_client_that_sends_longer_packets_than_agreed_is_refused(wired: Wired) -> None:
    wired.add(Line())
    with pytest.raises(SSHException, match="32769 bytes"):
        wired.data(0, bytes(32769))


@pytest.mark.parametrize("packet", [b"\x5e\0\0\0\0\0\0\0\5abcd", b"\x5e\0\0\0\0", b"\x5d\0\0\0"])
def test_a_packet_that_ends_too_early_is_refused(wired: Wired, packet: bytes) -> None:
    wired.add(Line())
    with pytest.raises(SSHException, match="too short"):
        wired.carriers.handle_packet(packet[0], memoryview(packet))


def test_channels_that_are_not_here_are_left_to_others(wired: Wired) -> None:
    wired.add(Line())
    assert not wired.data(1, b"x")
    assert not wired.add_window(1, 1)


def test_the_clients_window_opens_again_as_requests_are_used_up(wired: Wired) -> None:
    wired.add(Line(out_window_size=1000))
    wired.data(0, INIT + opening() + reading())
    wired.run()
    pad = Client.packet(17, pack(">I", 1) + string(b"/" + b"x" * 30_000))
    wired.data(0, pad[:32768])
    wired.data(0, pad[:32768])
    wired.run()
    assert wired.told == []

    wired.add_window(0, 1 << 20)
    wired.run()

    used = len(INIT + opening() + reading() + pad + pad)
    adjusted = [int.from_bytes(told[5:], "big") for told in wired.told]
    assert all(told[:5] == pack(">BI", ADJUST, 50) for told in wired.told)
    assert used - 32768 < sum(adjusted) <= used


def test_channels_take_turns(wired: Wired) -> None:
    for chanid in (0, 1):
        wired.add(Line(chanid, 50 + chanid))
        wired.data(chanid, INIT + opening())
    wired.run()
    wired.sealed.clear()
    for chanid in (0, 1):
        wired.data(chanid, reading() * 9)

    wired.run()

    turns = [recipient for recipient, _ in wired.sealed]
    assert turns == [50, 51] * (len(turns) // 2)
    assert len(turns) >= 8


def test_a_client_that_is_gone_and_whose_window_is_shut_is_let_go(
    wired: Wired, kept: MemoryRecorder
) -> None:
    line = wired.add(Line(out_window_size=1000))
    wired.data(0, INIT + opening() + reading())
    wired.run()

    wired.carriers.end_of_file(0)
    wired.run()

    assert line.closed == ["exit 0", "close"]
    assert kept.told[-1] == ("close", 1, 0, False, "session ended")
    assert not wired.add_window(0, 1)


def test_what_was_asked_before_the_end_is_answered_if_there_is_room(
    wired: Wired, big: bytes
) -> None:
    line = wired.add(Line())
    wired.data(0, INIT + opening() + reading() + closing())
    wired.carriers.end_of_file(0)

    assert big in wired.run()

    assert line.closed == ["exit 0", "close"]


def test_nothing_may_be_sent_after_the_end(wired: Wired) -> None:
    wired.add(Line())
    wired.carriers.end_of_file(0)
    with pytest.raises(SSHException, match="after the end"):
        wired.data(0, b"x")


def test_a_channel_that_the_client_closes_is_dropped_where_it_stands(
    wired: Wired, kept: MemoryRecorder
) -> None:
    line = wired.add(Line(out_window_size=1000))
    wired.data(0, INIT + opening() + reading())
    wired.run()

    wired.carriers.discard(0)

    assert line.closed == []
    assert kept.told[-1] == ("close", 1, 0, False, "session ended")
    assert wired.run() == b""


def test_the_end_of_the_connection_ends_every_session(wired: Wired, kept: MemoryRecorder) -> None:
    for chanid in (0, 1):
        wired.add(Line(chanid))
        wired.data(chanid, INIT + opening())
    wired.run()
    wired.carriers.end()
    assert [told[0] for told in kept.told] == ["open", "open", "close", "close"]


def test_a_client_that_speaks_something_else_loses_its_channel_alone(wired: Wired) -> None:
    broken, whole = wired.add(Line(0)), wired.add(Line(1))
    wired.data(0, b"GET / HTTP/1.1\r\n\r\n")
    wired.data(1, INIT)
    with structlog.testing.capture_logs() as logs:
        wired.run()
    assert [log["event"] for log in logs] == ["client-dropped"]
    assert (broken.closed, whole.closed) == (["close"], [])
    assert [recipient for recipient, _ in wired.sealed] == [50]


def test_the_pace_is_kept(view: View, kept: MemoryRecorder, big: bytes) -> None:
    asked: list[int] = []

    def pace(size: int) -> float:
        asked.append(size)
        return 2.5

    wired = Wired(view, kept, pace)
    wired.add(Line())
    wired.data(0, INIT)
    assert len(wired.run()) == asked[0]
    wired.data(0, opening())
    assert wired.run() == b""
    assert wired.carriers.seconds_to_pause() == 2.5
    wired.now += 2.5
    assert len(wired.run()) == asked[1]

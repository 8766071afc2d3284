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
class FakeChannel:
    """The part of a paramiko channel that is used."""

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


class Harness:
    """SFTP channels, and the data that they had sealed, with the client's channel numbers."""

    def __init__(
        self, view: View, recorder: MemoryRecorder, pace: Callable[[int], float] | None = None
    ) -> None:
        self.now = 100.0
        self.channels = SftpChannels(self, lambda: self.now, pace)
        self.sealed: list[tuple[int, bytes]] = []
        self.records: list[bytes] = []
        self.room = 1 << 30
        self._view, self._recorder = view, recorder

    def send_data(
        self, recipient: int, stream: memoryview, at: int, end: int, max_size: int
    ) -> int:
        assert at >= HEADROOM
        end = min(end, at + self.room)
        self.sealed.append((recipient, bytes(stream[at:end])))
        return end - at

    def add(self, channel: FakeChannel) -> FakeChannel:
        session = Session(self._view, self._recorder, lambda: NOW)
        self.channels.add(channel, session, self._send_message)  # type: ignore[arg-type]
        return channel

    def _send_message(self, message: Message) -> None:
        self.records.append(message.asbytes())

    def data(self, chanid: int, content: bytes) -> bool:
        return self.channels.handle_packet(
            DATA, memoryview(pack(">BI", DATA, chanid) + string(content))
        )

    def add_window(self, chanid: int, size: int) -> bool:
        return self.channels.handle_packet(ADJUST, memoryview(pack(">BII", ADJUST, chanid, size)))

    def run(self) -> bytes:
        """Send until nothing more can be sealed; return what was sealed."""
        before = len(self.sealed)
        while self.channels.send_some():
            pass
        return b"".join(content for _, content in self.sealed[before:])


@pytest.fixture
def big(tree: Path) -> bytes:
    content = bytes(range(250)) * (SIZE // 250)
    (tree / "big").write_bytes(content)
    return content


@pytest.fixture
def harness(view: View, recorder: MemoryRecorder, big: bytes) -> Harness:
    return Harness(view, recorder)


def opening(request: int = 1) -> bytes:
    return Client.packet(3, pack(">I", request) + string(b"/big") + pack(">II", 1, 0))


def reading(offset: int = 0, length: int = SIZE, handle: int = 1) -> bytes:
    return Client.packet(
        5, pack(">I", 7) + string(pack(">I", handle)) + pack(">QI", offset, length)
    )


def closing(handle: int = 1) -> bytes:
    return Client.packet(4, pack(">I", 9) + string(pack(">I", handle)))


def test_pipelined_requests_are_answered_together(harness: Harness, big: bytes) -> None:
    harness.add(FakeChannel())
    harness.data(0, INIT + opening())
    harness.run()
    harness.data(0, reading(0, 10) + reading(10, 10)[:20])
    harness.data(0, reading(10, 10)[20:])

    answered = harness.run()

    expected = b"".join(pack(">IBII", 19, 103, 7, 10) + big[a : a + 10] for a in (0, 10))
    assert answered == expected
    assert len(harness.sealed) == 2


def test_replies_stay_within_the_client_s_window(
    harness: Harness, recorder: MemoryRecorder, big: bytes
) -> None:
    harness.add(FakeChannel(out_window_size=1000))
    harness.data(0, INIT + opening() + reading())
    first = harness.run()
    assert len(first) == 1000
    assert harness.channels.waits_for_client()
    harness.data(0, closing())
    assert harness.run() == b""

    harness.add_window(0, 60_000)
    second = harness.run()
    assert len(second) == 60_000
    assert ("close", 1, SIZE, True, "") not in recorder.records
    harness.add_window(0, 1 << 20)
    third = harness.run()

    assert big in first + second + third
    assert not harness.channels.waits_for_client()
    assert recorder.records[-1] == ("close", 1, SIZE, True, "")


def test_sealing_goes_on_after_the_queue_was_full(harness: Harness, big: bytes) -> None:
    harness.add(FakeChannel())
    harness.data(0, INIT + opening() + reading())
    harness.room = 30_000
    assert harness.channels.send_some()
    assert sum(len(content) for _, content in harness.sealed) == 30_000
    assert big in harness.sealed[0][1] + harness.run()


def test_replies_are_sealed_later_if_the_packetizer_refuses(harness: Harness, big: bytes) -> None:
    harness.add(FakeChannel())
    harness.data(0, INIT + opening() + reading())
    harness.room = 0
    assert harness.run() == b""
    harness.room = 1 << 30
    assert big in harness.run()


def test_a_window_overflow_is_refused(harness: Harness) -> None:
    harness.add(FakeChannel(out_window_size=2**32 - 10))
    assert harness.add_window(0, 9)
    with pytest.raises(SSHException, match="window"):
        harness.add_window(0, 1)


def test_data_beyond_the_client_s_window_is_refused(harness: Harness) -> None:
    harness.add(FakeChannel(in_window_size=100))
    harness.data(0, bytes(60))
    with pytest.raises(SSHException, match="window of 40"):
        harness.data(0, bytes(41))


def test_a_packet_with_too_much_data_is_refused(harness: Harness) -> None:
    harness.add(FakeChannel())
    with pytest.raises(SSHException, match="32769 bytes"):
        harness.data(0, bytes(32769))


@pytest.mark.parametrize("packet", [b"\x5e\0\0\0\0\0\0\0\5abcd", b"\x5e\0\0\0\0", b"\x5d\0\0\0"])
def test_a_packet_that_is_too_short_is_refused(harness: Harness, packet: bytes) -> None:
    harness.add(FakeChannel())
    with pytest.raises(SSHException, match="too short"):
        harness.channels.handle_packet(packet[0], memoryview(packet))


def test_packets_for_other_channels_are_left_to_paramiko(harness: Harness) -> None:
    harness.add(FakeChannel())
    assert not harness.data(1, b"x")
    assert not harness.add_window(1, 1)


def test_the_client_s_window_opens_again_as_requests_are_processed(harness: Harness) -> None:
    harness.add(FakeChannel(out_window_size=1000))
    harness.data(0, INIT + opening() + reading())
    harness.run()
    pad = Client.packet(17, pack(">I", 1) + string(b"/" + b"x" * 30_000))
    harness.data(0, pad[:32768])
    harness.data(0, pad[:32768])
    harness.run()
    assert harness.records == []

    harness.add_window(0, 1 << 20)
    harness.run()

    used = len(INIT + opening() + reading() + pad + pad)
    adjusted = [int.from_bytes(record[5:], "big") for record in harness.records]
    assert all(record[:5] == pack(">BI", ADJUST, 50) for record in harness.records)
    assert used - 32768 < sum(adjusted) <= used


def test_channels_take_turns(harness: Harness) -> None:
    for chanid in (0, 1):
        harness.add(FakeChannel(chanid, 50 + chanid))
        harness.data(chanid, INIT + opening())
    harness.run()
    harness.sealed.clear()
    for chanid in (0, 1):
        harness.data(chanid, reading() * 9)

    harness.run()

    turns = [recipient for recipient, _ in harness.sealed]
    assert turns == [50, 51] * (len(turns) // 2)
    assert len(turns) >= 8


def test_a_channel_with_eof_and_a_closed_window_is_ended(
    harness: Harness, recorder: MemoryRecorder
) -> None:
    channel = harness.add(FakeChannel(out_window_size=1000))
    harness.data(0, INIT + opening() + reading())
    harness.run()

    harness.channels.end_of_file(0)
    harness.run()

    assert channel.closed == ["exit 0", "close"]
    assert recorder.records[-1] == ("close", 1, 0, False, "session ended")
    assert not harness.add_window(0, 1)


def test_requests_before_eof_are_answered_as_far_as_the_window_allows(
    harness: Harness, big: bytes
) -> None:
    channel = harness.add(FakeChannel())
    harness.data(0, INIT + opening() + reading() + closing())
    harness.channels.end_of_file(0)

    assert big in harness.run()

    assert channel.closed == ["exit 0", "close"]


def test_data_after_eof_is_refused(harness: Harness) -> None:
    harness.add(FakeChannel())
    harness.channels.end_of_file(0)
    with pytest.raises(SSHException, match="after the end"):
        harness.data(0, b"x")


def test_a_channel_that_the_client_closes_is_ended_at_once(
    harness: Harness, recorder: MemoryRecorder
) -> None:
    channel = harness.add(FakeChannel(out_window_size=1000))
    harness.data(0, INIT + opening() + reading())
    harness.run()

    harness.channels.discard(0)

    assert channel.closed == []
    assert recorder.records[-1] == ("close", 1, 0, False, "session ended")
    assert harness.run() == b""


def test_the_end_of_the_connection_ends_every_session(
    harness: Harness, recorder: MemoryRecorder
) -> None:
    for chanid in (0, 1):
        harness.add(FakeChannel(chanid))
        harness.data(chanid, INIT + opening())
    harness.run()
    harness.channels.end()
    assert [record[0] for record in recorder.records] == ["open", "open", "close", "close"]


def test_a_protocol_error_ends_only_its_own_channel(harness: Harness) -> None:
    broken, whole = harness.add(FakeChannel(0)), harness.add(FakeChannel(1))
    harness.data(0, b"GET / HTTP/1.1\r\n\r\n")
    harness.data(1, INIT)
    with structlog.testing.capture_logs() as logs:
        harness.run()
    assert [log["event"] for log in logs] == ["client-dropped"]
    assert (broken.closed, whole.closed) == (["close"], [])
    assert [recipient for recipient, _ in harness.sealed] == [50]


def test_a_bandwidth_limit_delays_sealing(view: View, recorder: MemoryRecorder, big: bytes) -> None:
    paced: list[int] = []

    def pace(size: int) -> float:
        paced.append(size)
        return 2.5

    harness = Harness(view, recorder, pace)
    harness.add(FakeChannel())
    harness.data(0, INIT)
    assert len(harness.run()) == paced[0]
    harness.data(0, opening())
    assert harness.run() == b""
    assert harness.channels.seconds_to_pause() == 2.5
    harness.now += 2.5
    assert len(harness.run()) == paced[1]

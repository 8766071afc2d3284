"""What a client may ask for on a connection: SFTP, on several channels at once, and digests.

Shells, all commands but those for digests (sftpd/ssh/exec_digests), terminals, environment, and the
forwarding of ports, agents or displays are refused and put on record. Over the plain transport
each SFTP channel is answered by a thread of its own, which carries bytes between paramiko's
channel and a Session; the fast one carries them itself (sftpd/ssh/direct).
"""

import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import structlog
from paramiko.channel import Channel
from paramiko.common import (
    OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED,
    OPEN_FAILED_RESOURCE_SHORTAGE,
    OPEN_SUCCEEDED,
)
from paramiko.server import ServerInterface
from paramiko.ssh_exception import SSHException

from sftpd.sftp.session import ProtocolError, Session
from sftpd.ssh import client_socket
from sftpd.ssh.exec_digests import Answer

MAX_CHANNELS = 8
_CHUNK = 1 << 18
_PATIENCE = 1.0  # seconds between looks at whether a client that reads nothing is still there
_OVERHEAD = 64  # of a channel's data packet, as paramiko counts it

_log = structlog.get_logger()


class ChannelPolicy(ServerInterface):
    """The channels of one connection.

    `record_denied` is told the verb of each refusal, `count_open` says how many channels there are.
    `carries` takes a channel and its session, if the transport carries them; if not, `pace` is
    told how many bytes were sent, and returns the seconds to wait before more are. `command` says
    what a command prints, None if it is refused, and `call_after_reply` has something done once the
    request is answered.
    """

    def __init__(
        self,
        record_denied: Callable[[str], None],
        session: Callable[[], Session],
        count_open: Callable[[], int],
        max_channels: int = MAX_CHANNELS,
        serve_channel: Callable[[Channel, Session], None] | None = None,
        pace: Callable[[int], float] | None = None,
        command: Callable[[bytes], Answer | None] = lambda command: None,
        call_after_reply: Callable[[Callable[[], None]], None] = lambda what: what(),
    ) -> None:
        self._answer_command = command
        self._afterwards = call_after_reply
        self._record_denied = record_denied
        self._new_session = session
        self._count_open = count_open
        self._max_channels = max_channels
        self._serve_channel = serve_channel
        self._pace = pace
        self._served: weakref.WeakSet[Channel] = weakref.WeakSet()
        self._threads: dict[int, threading.Thread] = {}
        self._environment_denied = False

    def join(self, patience: float) -> None:
        """Wait up to `patience` seconds for each thread, once the connection is over."""
        for thread in list(self._threads.values()):
            thread.join(patience)

    def check_channel_request(self, kind: str, chanid: int) -> int:
        """Grant session channels, up to a number at once."""
        if kind != "session":
            self._record_denied(kind[:64])
            return OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
        if self._count_open() >= self._max_channels:
            return OPEN_FAILED_RESOURCE_SHORTAGE
        return OPEN_SUCCEEDED

    def check_channel_subsystem_request(self, channel: Channel, name: str) -> bool:
        """Serve `sftp`, once a channel."""
        if name != "sftp" or channel in self._served:
            self._record_denied(f"subsystem {name[:64]}")
            return False
        self._served.add(channel)
        if self._serve_channel is not None:
            self._serve_channel(channel, self._new_session())
            return True
        thread = threading.Thread(
            target=self._serve, args=(channel, self._new_session()), name=f"sftp-{channel.chanid}"
        )
        thread.daemon = True
        self._threads[channel.chanid] = thread
        thread.start()
        return True

    def _serve(self, channel: Channel, session: Session) -> None:
        try:
            carry(channel, session, self._pace)
        finally:
            self._threads.pop(channel.chanid, None)

    def check_channel_direct_tcpip_request(
        self, chanid: int, origin: tuple[str, int], destination: tuple[str, int]
    ) -> int:
        """Refuse."""
        self._record_denied("direct-tcpip")
        return OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED

    def check_channel_exec_request(self, channel: Channel, command: bytes) -> bool:
        """Answer the commands for digests, once a channel, and refuse all others."""
        answer = None if channel in self._served else self._answer_command(command)
        if answer is None:
            return self._refuse("exec")
        self._served.add(channel)
        self._afterwards(partial(send_output, channel, answer))
        return True

    def check_channel_shell_request(self, channel: Channel) -> bool:
        """Refuse."""
        return self._refuse("shell")

    def check_channel_pty_request(self, channel: Channel, *_: object) -> bool:
        """Refuse."""
        return self._refuse("pty")

    def check_channel_x11_request(self, channel: Channel, *_: object) -> bool:
        """Refuse."""
        return self._refuse("x11")

    def check_channel_forward_agent_request(self, channel: Channel) -> bool:
        """Refuse."""
        return self._refuse("agent")

    def check_channel_env_request(self, channel: Channel, name: bytes, value: bytes) -> bool:
        """Refuse; recorded once, since many clients send their LANG and LC_* unasked."""
        if not self._environment_denied:
            self._environment_denied = True
            self._record_denied("env")
        return False

    def _refuse(self, verb: str) -> bool:
        self._record_denied(verb)
        return False


def send_output(channel: Channel, answer: Answer) -> None:
    """Send what a command prints, its exit status, and the end; the thread that reads may."""
    out, error, status = answer
    with suppress(OSError, EOFError, SSHException):
        if len(out) + len(error) > channel.out_window_size:
            # Nothing waits here for a window that only this thread can open.
            out, error, status = b"", b"", 1
        for text, send in ((out, channel.send), (error, channel.send_stderr)):
            while text and (sent := send(text)):
                text = text[sent:]
        channel.send_exit_status(status)
        channel.close()


def carry(channel: Channel, session: Session, pace: Callable[[int], float] | None = None) -> None:
    """Carry bytes between a channel and its session until either ends; then end both."""
    try:
        channel.settimeout(None)
        while data := channel.recv(_CHUNK):
            for replies in session.feed(data):
                _send(channel, bytes(replies), pace)
            channel.settimeout(None)
        channel.send_exit_status(0)
    except ProtocolError as error:
        _log.warning("client dropped", cause=str(error))
    except (OSError, EOFError, SSHException) as error:
        _log.debug("channel lost", cause=str(error))
    except Exception:
        _log.exception("session failed")
    finally:
        session.end()
        with suppress(OSError, EOFError, SSHException):
            channel.close()


def _send(channel: Channel, replies: bytes, pace: Callable[[int], float] | None) -> None:
    max_channels = max(channel.out_max_packet_size - _OVERHEAD, 1)
    channel.settimeout(_PATIENCE)
    at, moved = 0, time.monotonic()
    while at < len(replies):
        try:
            sent = channel.send(replies[at : at + max_channels])
        except TimeoutError:
            # A client that was killed leaves its ssh behind, which says that it is at the end
            # and never opens the window again.
            if channel.eof_received:
                raise EOFError("the client is gone") from None
            if time.monotonic() - moved > client_socket.STALL_SECONDS:
                channel.get_transport().close()
            continue
        if not sent:
            raise EOFError("the channel is closed")
        at, moved = at + sent, time.monotonic()
        if pace is not None and (wait := pace(sent)) > 0:
            time.sleep(wait)

"""Decides what a client may request on a connection: SFTP on several channels, and digests.

SFTP channels go to sftpd/ssh/sftp_channels. The commands for digests are answered here
(sftpd/ssh/exec_digests). Instead of a shell or another command the client gets a sentence that says
that there is only SFTP. Terminals, environment variables, and the forwarding of ports, agents or
displays are refused. Each refusal is recorded.
"""

import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Protocol

from paramiko.channel import Channel
from paramiko.common import (
    OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED,
    OPEN_FAILED_RESOURCE_SHORTAGE,
    OPEN_SUCCEEDED,
    cMSG_CHANNEL_DATA,
    cMSG_CHANNEL_EXTENDED_DATA,
)
from paramiko.message import Message
from paramiko.server import ServerInterface
from paramiko.ssh_exception import SSHException

from sftpd.sftp.session import Session
from sftpd.ssh.exec_digests import Output

MAX_CHANNELS = 8
_STDERR = 1  # SSH_EXTENDED_DATA_STDERR
_ONLY_SFTP = (
    b"Bu sunucu yalniz SFTP sunar: sftp, lftp, rclone, WinSCP ya da -O olmadan scp kullanin.\n"
    b"This server offers SFTP only: use sftp, lftp, rclone, WinSCP, or scp without -O.\n"
)
_MAX_VERB = 64  # characters of a client's word that go into a record


class Channels(Protocol):
    """The channels of the connection; see sftpd/ssh/transport."""

    @property
    def channel_count(self) -> int:
        """Return how many channels are open."""

    def serve_sftp(self, channel: Channel, session: Session) -> None:
        """Let `session` answer the channel's SFTP requests from now on."""

    def send_unasked(self, message: Message) -> None:
        """Send a message that is not a reply."""

    def call_after_reply(self, action: Callable[[], None]) -> None:
        """Call `action` as soon as the reply to the current channel request has been sent."""


class ChannelBackend(Protocol):
    """What serves the channels; see sftpd/connection."""

    def new_session(self) -> Session:
        """Start the SFTP session of a channel."""

    def run_command(self, command: bytes) -> Output | None:
        """Return what a command prints, None to refuse it."""

    def record_denied(self, verb: str) -> None:
        """Record a refused request."""


class ChannelPolicy(ServerInterface):
    """Grants or refuses each request; paramiko calls the `check_` methods."""

    def __init__(self, channels: Channels, backend: ChannelBackend) -> None:
        self._channels = channels
        self._backend = backend
        self._served: weakref.WeakSet[Channel] = weakref.WeakSet()
        self._environment_denied = False

    def check_channel_request(self, kind: str, chanid: int) -> int:
        """Grant up to MAX_CHANNELS session channels."""
        if kind != "session":
            self._backend.record_denied(kind[:_MAX_VERB])
            return OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
        if self._channels.channel_count >= MAX_CHANNELS:
            return OPEN_FAILED_RESOURCE_SHORTAGE
        return OPEN_SUCCEEDED

    def check_channel_subsystem_request(self, channel: Channel, name: str) -> bool:
        """Grant `sftp`, once for each channel."""
        if name != "sftp" or channel in self._served:
            return self._deny(f"subsystem {name[:_MAX_VERB]}")
        self._served.add(channel)
        self._channels.serve_sftp(channel, self._backend.new_session())
        return True

    def check_channel_exec_request(self, channel: Channel, command: bytes) -> bool:
        """Answer a command for digests, once for each channel; explain that there are no others."""
        if channel in self._served:
            return self._deny("exec")
        output = self._backend.run_command(command)
        if output is None:
            return self._explain(channel, "exec")
        self._print(channel, output)
        return True

    def _print(self, channel: Channel, output: Output) -> None:
        self._served.add(channel)
        send = self._channels.send_unasked
        self._channels.call_after_reply(partial(send_output, channel, output, send))

    def _explain(self, channel: Channel, verb: str) -> bool:
        """Record that a shell or a command is refused, and say so on the channel's stderr.

        A request that fails tells the user nothing ("exec request failed on channel 0"), so it
        succeeds, and ends with this sentence and exit status 1, as with OpenSSH's internal-sftp.
        """
        self._deny(verb)
        if channel in self._served:
            return False
        self._print(channel, Output(b"", _ONLY_SFTP, 1))
        return True

    def check_channel_direct_tcpip_request(
        self, chanid: int, origin: tuple[str, int], destination: tuple[str, int]
    ) -> int:
        """Refuse."""
        self._backend.record_denied("direct-tcpip")
        return OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED

    def check_channel_shell_request(self, channel: Channel) -> bool:
        """Explain that there is none."""
        return self._explain(channel, "shell")

    def check_channel_pty_request(self, channel: Channel, *_: object) -> bool:
        """Refuse."""
        return self._deny("pty")

    def check_channel_x11_request(self, channel: Channel, *_: object) -> bool:
        """Refuse."""
        return self._deny("x11")

    def check_channel_forward_agent_request(self, channel: Channel) -> bool:
        """Refuse."""
        return self._deny("agent")

    def check_channel_env_request(self, channel: Channel, name: bytes, value: bytes) -> bool:
        """Refuse; record only the first, because many clients send their LANG and LC_* unasked."""
        if not self._environment_denied:
            self._environment_denied = True
            self._deny("env")
        return False

    def _deny(self, verb: str) -> bool:
        self._backend.record_denied(verb)
        return False


def send_output(channel: Channel, output: Output, send_message: Callable[[Message], None]) -> None:
    """Send what a command prints, its exit status, and close the channel.

    This runs in the thread that reads the connection, so it must not wait for the client's window
    to open. Output that does not fit into the window is dropped, and the exit status is 1.
    paramiko's Channel.send is not used: it cannot send packets of 64 bytes or less.
    """
    out, error, status = output
    with suppress(OSError, EOFError, SSHException):
        if len(out) + len(error) > channel.out_window_size:
            out, error, status = b"", b"", 1
        size = channel.out_max_packet_size
        for text, is_error in ((out, False), (error, True)):
            for at in range(0, len(text), size):
                message = Message()
                message.add_byte(cMSG_CHANNEL_EXTENDED_DATA if is_error else cMSG_CHANNEL_DATA)
                message.add_int(channel.remote_chanid)
                if is_error:
                    message.add_int(_STDERR)
                message.add_string(text[at : at + size])
                send_message(message)
        channel.send_exit_status(status)
        channel.close()

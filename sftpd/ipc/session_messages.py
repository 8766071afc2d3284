"""What the monitor and the forker (sftpd/sessions) say to each other: one JSON object a datagram.

    monitor   {"settings": {...}}                                 SessionSettings, from now on
              {"start": 7, "trees": ["/srv/ssps/trees/parti-a"], "address": "192.0.2.7"}
                  with three descriptors: the client's connection, the session's end of its socket
                  to the monitor, and its page of pending closes
    forker    {"ready": true}                                     once, when everything is loaded
              {"started": 7, "pid": 4711}
              {"failed": 7, "errno": 11}

The numbers are the monitor's. `trees` are the folders that a login from this address could open.
Nothing here is a secret: of the parties, only the folders for this address are named.
"""

import base64
import json
from dataclasses import asdict, dataclass
from typing import Any

from sftpd.sandbox.sandbox import KernelFeatures, SandboxPolicy, User

MAX_MESSAGE = 1 << 17


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """What all sessions that start from now on share.

    `host_keys` and `announced` are public keys in the wire form of RFC 4253 section 6.6: those in
    use, and these and the prepared ones. Then come the names of the algorithms that are offered. A
    client has `grace` seconds to log in. `interactive` offers keyboard-interactive.
    """

    host_keys: tuple[bytes, ...]
    announced: tuple[bytes, ...]
    kex: tuple[str, ...]
    macs: tuple[str, ...]
    host_key_algorithms: tuple[str, ...]
    public_keys: tuple[str, ...]
    stall_seconds: float
    idle_seconds: float
    grace: float
    interactive: bool
    policy: SandboxPolicy

    def pack(self) -> bytes:
        """Return it as the value of `settings`, with its name."""
        values: dict[str, Any] = asdict(self)
        for name in ("host_keys", "announced"):
            values[name] = [base64.b64encode(blob).decode() for blob in getattr(self, name)]
        return json.dumps({"settings": values}).encode()


def parse_settings(values: dict[str, Any]) -> SessionSettings:
    """Read the value of `settings`."""
    policy = values["policy"]
    user = policy["user"]
    return SessionSettings(
        tuple(map(base64.b64decode, values["host_keys"])),
        tuple(map(base64.b64decode, values["announced"])),
        tuple(values["kex"]),
        tuple(values["macs"]),
        tuple(values["host_key_algorithms"]),
        tuple(values["public_keys"]),
        values["stall_seconds"],
        values["idle_seconds"],
        values["grace"],
        values["interactive"],
        SandboxPolicy(
            KernelFeatures(**policy["kernel"]),
            None if user is None else User(**user),
            policy["chroot"],
        ),
    )

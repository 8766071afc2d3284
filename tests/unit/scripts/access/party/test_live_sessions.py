"""`ssps party sessions` lists who is connected."""

from dataclasses import replace
from pathlib import Path

import pytest
from office import Ssps

from keys.operations import live_sessions
from keys.operations.live_sessions import LiveSession

EVIL = "\x1b[2J"
SINCE = "2023-05-14T18:04:10+03:00"
WEB = LiveSession(
    1 << 47, "parti-a", "192.0.2.7", "Mozilla/5.0 (X11) \x1b[2J", SINCE, service="web", user="ayse"
)


def test_no_column_is_cut_and_a_client_cannot_move_the_cursor(
    site: Path, ssps: Ssps, monkeypatch: pytest.MonkeyPatch
) -> None:
    sftp = LiveSession(90, "parti-b", "192.0.2.8", "SSH-2.0-OpenSSH_9.2", SINCE, "", 1200, 52428800)
    monkeypatch.setattr(live_sessions, "read", lambda site: (sftp, WEB))

    lines = ssps("party", "sessions", "--site", site).stdout.splitlines()

    assert [line.split() for line in lines] == [
        ["session", "service", "party", "from", "since", "files", "bytes", "client"],
        ["90", "sftp", "parti-b", "192.0.2.8", SINCE, "1,200", "52,428,800", "SSH-2.0-OpenSSH_9.2"],
        [f"{1 << 47}", "web", "parti-a.ayse", "192.0.2.7", SINCE, "-", "-",
         "Mozilla/5.0", "(X11)", "\\x1b[2J"],
    ]  # fmt: skip


def test_no_text_that_the_portal_states_can_move_the_cursor(
    site: Path, ssps: Ssps, monkeypatch: pytest.MonkeyPatch
) -> None:
    stated = LiveSession(7, EVIL, EVIL, EVIL, EVIL, service="web", user=EVIL)
    one = replace(stated, party="parti-a")
    monkeypatch.setattr(live_sessions, "read", lambda site: (stated, one))

    listed = ssps("party", "sessions", "--site", site).stdout
    command = ("party", "end-session", "parti-a", "7", "--dry-run", "--why", "x", "--site", site)
    shown = ssps(*command)

    assert "\\x1b[2J.\\x1b[2J" in listed
    assert "session 7 of \\x1b[2J from" in shown.stdout + shown.stderr
    assert "\x1b" not in listed + shown.stdout + shown.stderr

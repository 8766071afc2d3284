"""A rehearsal: parties see it in its window, and the election from its opening."""

from datetime import timedelta
from pathlib import Path

from wire.server import OPENS, StartServer, until

WINDOW = """
[[rehearsal]]
id = "prova-1"
title = "Prova"
opens = 2023-05-14T10:00:00+03:00
closes = 2023-05-14T12:00:00+03:00
"""
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
BEGINS, ENDS = OPENS - 7 * HOUR, OPENS - 5 * HOUR


def add_rehearsal(site: Path) -> None:
    (site / "site.toml").write_text((site / "site.toml").read_text() + WINDOW)
    tree = site / "rehearsals/prova-1/trees/parti-a"
    tree.mkdir(parents=True)
    (tree / "PROVA.txt").write_text("prova\n")
    (tree / "way-out").symlink_to(site / "trees/parti-a")


def test_a_party_sees_the_rehearsal_in_its_window_and_the_election_after_its_opening(
    serve: StartServer,
) -> None:
    server = serve(before=add_rehearsal, now=BEGINS - MINUTE)

    early = server.sftp("parti-a", "ls\n")
    assert early.returncode == 255
    assert "Prova 2023-05-14T10:00:00+03:00 - 2023-05-14T12:00:00+03:00" in early.stderr
    server.set_time(BEGINS)
    rehearsed = server.sftp("parti-a", "ls -1\n-ls ../../../../trees/parti-a\n-ls way-out/\n")
    server.set_time(ENDS)
    between = server.sftp("parti-a", "ls\n")
    server.set_time(OPENS)
    opened = server.sftp("parti-a", "ls -1\n-ls PROVA.txt\n")

    assert rehearsed.returncode == 0
    assert "PROVA.txt" in rehearsed.stdout
    assert "BENIOKU.txt" not in rehearsed.stdout
    assert between.returncode == 255
    assert opened.returncode == 0
    assert "BENIOKU.txt" in opened.stdout
    assert 'Can\'t ls: "/PROVA.txt" not found' in opened.stderr
    assert [d.get("rehearsal") for d in server.details("login")] == ["prova-1", None]


def test_a_session_ends_when_its_rehearsal_ends(serve: StartServer) -> None:
    server = serve(before=add_rehearsal, now=ENDS - MINUTE)
    with server.connect("parti-a") as client:
        assert "PROVA.txt" in client.open_sftp().listdir("/")
        server.set_time(ENDS)
        until(lambda: server.details("session-end"))
    assert [d["reason"] for d in server.details("session-end")] == ["rehearsal over"]

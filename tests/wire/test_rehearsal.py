"""Test day: the parties see the rehearsal in its window, the election from its opening, no more."""

from datetime import timedelta
from pathlib import Path

from wire.served import OPENS, Serve, until
from wire.test_server import connected, told

WINDOW = """
[[rehearsal]]
id = "prova-1"
title = "Prova"
opens = 2023-05-14T10:00:00+03:00
closes = 2023-05-14T12:00:00+03:00
"""
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
BEGINS, ENDS = OPENS - 7 * HOUR, OPENS - 5 * HOUR


def rehearsing(site: Path) -> None:
    (site / "site.toml").write_text((site / "site.toml").read_text() + WINDOW)
    tree = site / "rehearsals/prova-1/trees/parti-a"
    tree.mkdir(parents=True)
    (tree / "PROVA.txt").write_text("prova\n")
    (tree / "way-out").symlink_to(site / "trees/parti-a")


def test_a_party_sees_the_rehearsal_then_nothing_then_the_election(serve: Serve) -> None:
    served = serve(before=rehearsing, now=BEGINS - MINUTE)

    early = served.sftp("parti-a", "ls\n")
    assert early.returncode == 255
    assert "Prova 14.05.2023 10.00 - 14.05.2023 12.00" in early.stderr
    served.at(BEGINS)
    rehearsed = served.sftp("parti-a", "ls -1\n-ls ../../../../trees/parti-a\n-ls way-out/\n")
    served.at(ENDS)
    between = served.sftp("parti-a", "ls\n")
    served.at(OPENS)
    opened = served.sftp("parti-a", "ls -1\n-ls PROVA.txt\n")

    assert rehearsed.returncode == 0
    assert "PROVA.txt" in rehearsed.stdout
    assert "BENIOKU.txt" not in rehearsed.stdout
    assert between.returncode == 255
    assert opened.returncode == 0
    assert "BENIOKU.txt" in opened.stdout
    assert 'Can\'t ls: "/PROVA.txt" not found' in opened.stderr
    assert [d.get("rehearsal") for d in told(served, "login")] == ["prova-1", None]


def test_a_session_ends_with_its_rehearsal(serve: Serve) -> None:
    served = serve(before=rehearsing, now=ENDS - MINUTE)
    with connected(served, "parti-a") as client:
        assert "PROVA.txt" in client.open_sftp().listdir("/")
        served.at(ENDS)
        until(lambda: told(served, "session-end"))
    assert [d["reason"] for d in told(served, "session-end")] == ["rehearsal over"]

import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from time import monotonic

import paramiko
import pytest
from wire.login_client import BANNER, FAILURE, PK_OK, SUCCESS, LoginClient, login_client
from wire.server import OPENS, SECRET, RunningServer, StartServer, setting, until

HOME, AWAY = "127.0.0.1", "127.0.0.2"
PARTIES = {"parti-a": HOME, "parti-b": AWAY, "halted": HOME, "bagimsiz": HOME}
REFUSAL = b"\x33" + b"\0\0\0\x12publickey,password" + b"\0"
EARLY = OPENS - timedelta(seconds=1)


def add_refused_parties(site: Path) -> None:
    """Suspend one party, and make another an independent."""
    listed = (site / "parties.toml").read_text()
    listed = listed.replace('name = "halted"', 'name = "halted"\nsuspended = true')
    head, _, tail = listed.partition('id = "bagimsiz"')
    tail = tail.replace('kind = "party"', 'kind = "independent"', 1)
    tail = tail.replace('scope = "all"', 'scope = ["01-adana"]', 1)
    (site / "parties.toml").write_text(head + 'id = "bagimsiz"' + tail)


@pytest.fixture
def server(serve: StartServer) -> RunningServer:
    return serve(PARTIES, before=add_refused_parties)


def key(server: RunningServer, name: str) -> paramiko.Ed25519Key:
    return paramiko.Ed25519Key(filename=str(server.site / "clients" / name))


Act = Callable[[LoginClient, RunningServer], bytes]
SIGNED: dict[str, tuple[str, Act]] = {
    "unknown user": (HOME, lambda k, s: k.sign("nobody", key(s, "parti-a"))),
    "wrong credential": (HOME, lambda k, s: k.sign("parti-a", key(s, "stranger"))),
    "wrong address": (HOME, lambda k, s: k.sign("parti-b", key(s, "parti-b"))),
    "receives an export, has no login": (
        HOME,
        lambda k, s: k.sign("bagimsiz", key(s, "bagimsiz")),
    ),
    "wrong signature": (
        HOME,
        lambda k, s: k.sign("parti-a", key(s, "stranger"), public=key(s, "parti-a").asbytes()),
    ),
    "method not offered": (HOME, lambda k, s: k.probe("parti-a", key(s, "parti-a"), "ssh-dss")),
}
PROBED: dict[str, Act] = {
    "unknown user": lambda k, s: k.probe("nobody", key(s, "parti-a")),
    "wrong credential": lambda k, s: k.probe("parti-a", key(s, "stranger")),
    "wrong address": lambda k, s: k.probe("parti-b", key(s, "parti-b")),
    "receives an export, has no login": lambda k, s: k.probe("bagimsiz", key(s, "bagimsiz")),
}
PASSWORDS: dict[str, Act] = {
    "unknown user": lambda k, s: k.password("nobody", SECRET),
    "wrong credential": lambda k, s: k.password("parti-a", "wrong"),
    "wrong address": lambda k, s: k.password("parti-b", SECRET),
    "receives an export, has no login": lambda k, s: k.password("bagimsiz", SECRET),
}


def reasons(server: RunningServer) -> list[object]:
    return [record.event.detail["reason"] for record in server.records("login-refused")]


def test_all_refusals_are_byte_for_byte_the_same(server: RunningServer) -> None:
    for reason, (source, act) in SIGNED.items():
        with login_client(server, source) as client:
            assert act(client, server) == REFUSAL, reason
    for acts in (PROBED, PASSWORDS):
        for reason, act in acts.items():
            with login_client(server) as client:
                assert act(client, server) == REFUSAL, reason
    until(lambda: len(server.records("session-end")) == 14)
    # A probe is recorded when its client has left, which may be after the next one came.
    assert Counter(reasons(server)) == Counter([*SIGNED, *PROBED, *PASSWORDS])
    assert not server.records("login")


def test_all_refusals_before_the_opening_are_the_same(serve: StartServer) -> None:
    server = serve(PARTIES, before=add_refused_parties, now=EARLY)
    for acts in (PROBED, PASSWORDS):
        for reason, act in acts.items():
            with login_client(server) as client:
                assert act(client, server) == REFUSAL, reason


def test_only_a_right_credential_learns_when_access_opens(serve: StartServer) -> None:
    server = serve(PARTIES, before=add_refused_parties, now=EARLY)
    opening = b"Access opens at 2023-05-14T17:00:00+03:00."
    acts: list[Callable[[LoginClient], bytes]] = [
        lambda k: k.sign("parti-a", key(server, "parti-a")),
        lambda k: k.password("parti-a", SECRET),
    ]
    for act in acts:
        with login_client(server) as client:
            banner = act(client)
            assert banner[0] == BANNER
            assert opening in banner
            goodbye = client.receive()
            assert goodbye[:5] == b"\x01\0\0\0\x07"  # DISCONNECT, service not available
            assert b"Access is not open yet" in goodbye
    with login_client(server) as client:
        # A client that has only the public key does not learn it.
        assert client.probe("parti-a", key(server, "parti-a"))[0] == PK_OK
        forged = key(server, "stranger")
        assert client.sign("parti-a", forged, public=key(server, "parti-a").asbytes()) == REFUSAL


def test_a_key_probe_is_answered_only_at_the_partys_own_address(
    server: RunningServer,
) -> None:
    theirs = key(server, "parti-b")
    for source, answer in ((AWAY, PK_OK), (HOME, FAILURE)):
        with login_client(server, source) as client:
            assert client.probe("parti-b", theirs)[0] == answer
            assert client.probe("parti-b", key(server, "stranger")) == REFUSAL
    with login_client(server, AWAY) as client:
        assert client.sign("parti-b", theirs)[0] == SUCCESS


def test_attempts_of_unknown_users_are_limited_too(server: RunningServer) -> None:
    answers = {}
    for user, whose in (("nobody", "parti-a"), ("parti-a", "stranger")):
        with login_client(server) as client:
            answers[user] = [client.probe(user, key(server, whose)) for _ in range(6)]
    assert answers["nobody"] == answers["parti-a"]
    assert answers["nobody"][:5] == [REFUSAL] * 5
    assert b"Too many authentication failures" in answers["nobody"][5]


def test_the_grace_time_comes_from_the_settings(serve: StartServer) -> None:
    server = serve(before=setting("login_grace_seconds = 0.5"), patch="grace = None\n")
    with socket.create_connection((HOME, server.port)) as silent:
        silent.settimeout(10)
        while silent.recv(1000):
            pass
    until(lambda: server.records("session-end"))
    assert server.records("session-end")[0].event.detail["reason"] == "no login in time"


@contextmanager
def timed(took: list[float]) -> Iterator[None]:
    began = monotonic()
    yield
    took.append(monotonic() - began)


# Without the response interval of userauth they would differ by half a millisecond for keys,
# because the key file of a known user is read.
@pytest.mark.parametrize(("how", "bound", "rounds"), [("password", 0.08, 3), ("key", 0.0004, 25)])
def test_the_time_of_a_refusal_reveals_nothing(
    server: RunningServer, how: str, bound: float, rounds: int
) -> None:
    took: dict[str, list[float]] = {user: [] for user in ("nobody", "parti-a", "parti-b", "halted")}
    stranger = key(server, "stranger")
    for _ in range(rounds):
        for user, times in took.items():
            with login_client(server) as client, timed(times):
                if how == "password":
                    client.password(user, "wrong")
                else:
                    client.probe(user, stranger)
    # The shortest times: other work of the machine only makes some of them longer.
    shortest = {user: min(times) for user, times in took.items()}
    assert max(shortest.values()) - min(shortest.values()) < bound, shortest


def test_a_proven_client_learns_why_it_may_not_come_in_now(serve: StartServer) -> None:
    server = serve(per_party=1)
    with server.connect("parti-a"):
        over_the_cap = server.sftp("parti-a", "ls\n")
        stranger = server.sftp("parti-a", "ls\n", key="stranger")
    until(lambda: len(server.records("session-end")) == 3)
    server.edit("parties.toml", 'scope = "all"', 'scope = "all"\nsuspended = true')
    server.reload()
    suspended = server.sftp("parti-a", "ls\n")
    unproven = server.sftp("parti-a", "ls\n", key="stranger")

    assert "Too many sessions of your party" in over_the_cap.stderr
    assert "access is suspended" in suspended.stderr
    for refused in (stranger, unproven):
        assert "Permission denied" in refused.stderr
        assert "session" not in refused.stderr
        assert "suspended" not in refused.stderr
    reasons = [detail["reason"] for detail in server.details("login-refused")]
    assert (reasons[0], reasons[2]) == ("too many sessions", "suspended")

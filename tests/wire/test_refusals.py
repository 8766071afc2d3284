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
from wire.served import OPENS, SECRET, Serve, Served, setting, until

HOME, AWAY = "127.0.0.1", "127.0.0.2"
PARTIES = {"parti-a": HOME, "parti-b": AWAY, "halted": HOME, "bagimsiz": HOME}
NO = b"\x33" + b"\0\0\0\x12publickey,password" + b"\0"
EARLY = OPENS - timedelta(seconds=1)


def prepare(site: Path) -> None:
    """One party suspended, one an independent."""
    listed = (site / "parties.toml").read_text()
    listed = listed.replace('name = "halted"', 'name = "halted"\nsuspended = true')
    head, _, tail = listed.partition('id = "bagimsiz"')
    tail = tail.replace('kind = "party"', 'kind = "independent"', 1)
    tail = tail.replace('scope = "all"', 'scope = ["01-adana"]', 1)
    (site / "parties.toml").write_text(head + 'id = "bagimsiz"' + tail)


@pytest.fixture
def served(serve: Serve) -> Served:
    return serve(PARTIES, before=prepare)


def key(served: Served, name: str) -> paramiko.Ed25519Key:
    return paramiko.Ed25519Key(filename=str(served.site / "clients" / name))


Act = Callable[[LoginClient, Served], bytes]
REFUSED: dict[str, tuple[str, Act]] = {
    "unknown user": (HOME, lambda k, s: k.sign("nobody", key(s, "parti-a"))),
    "wrong credential": (HOME, lambda k, s: k.sign("parti-a", key(s, "stranger"))),
    "wrong address": (HOME, lambda k, s: k.sign("parti-b", key(s, "parti-b"))),
    "suspended": (HOME, lambda k, s: k.sign("halted", key(s, "halted"))),
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
    "suspended": lambda k, s: k.probe("halted", key(s, "halted")),
    "receives an export, has no login": lambda k, s: k.probe("bagimsiz", key(s, "bagimsiz")),
}
WORDS: dict[str, Act] = {
    "unknown user": lambda k, s: k.password("nobody", SECRET),
    "wrong credential": lambda k, s: k.password("parti-a", "wrong"),
    "wrong address": lambda k, s: k.password("parti-b", SECRET),
    "suspended": lambda k, s: k.password("halted", SECRET),
    "receives an export, has no login": lambda k, s: k.password("bagimsiz", SECRET),
}


def reasons(served: Served) -> list[object]:
    return [record.event.detail["reason"] for record in served.records("login-refused")]


def test_every_refusal_is_the_same_to_the_byte(served: Served) -> None:
    for reason, (source, act) in REFUSED.items():
        with login_client(served, source) as client:
            assert act(client, served) == NO, reason
    for acts in (PROBED, WORDS):
        for reason, act in acts.items():
            with login_client(served) as client:
                assert act(client, served) == NO, reason
    until(lambda: len(served.records("session-end")) == 17)
    # Those that only asked are recorded when they are gone, which may be after the next came.
    assert Counter(reasons(served)) == Counter([*REFUSED, *PROBED, *WORDS])
    assert not served.records("login")


def test_every_refusal_is_the_same_before_the_opening(serve: Serve) -> None:
    served = serve(PARTIES, before=prepare, now=EARLY)
    for acts in (PROBED, WORDS):
        for reason, act in acts.items():
            with login_client(served) as client:
                assert act(client, served) == NO, reason


def test_only_the_right_one_is_told_when_access_opens(serve: Serve) -> None:
    served = serve(PARTIES, before=prepare, now=EARLY)
    told = b"Access opens on 2023-05-14 at 17:00:00 (UTC+03:00)."
    acts: list[Callable[[LoginClient], bytes]] = [
        lambda k: k.sign("parti-a", key(served, "parti-a")),
        lambda k: k.password("parti-a", SECRET),
    ]
    for act in acts:
        with login_client(served) as client:
            banner = act(client)
            assert banner[0] == BANNER
            assert told in banner
            assert client.receive() == NO
    with login_client(served) as client:
        # Who has but the public half is not told.
        assert client.probe("parti-a", key(served, "parti-a"))[0] == PK_OK
        forged = key(served, "stranger")
        assert client.sign("parti-a", forged, public=key(served, "parti-a").asbytes()) == NO


def test_a_question_about_a_key_is_answered_at_its_partys_own_address_alone(
    served: Served,
) -> None:
    theirs = key(served, "parti-b")
    for source, answer in ((AWAY, PK_OK), (HOME, FAILURE)):
        with login_client(served, source) as client:
            assert client.probe("parti-b", theirs)[0] == answer
            assert client.probe("parti-b", key(served, "stranger")) == NO
    with login_client(served, AWAY) as client:
        assert client.sign("parti-b", theirs)[0] == SUCCESS


def test_attempts_are_counted_for_unknown_users_just_the_same(served: Served) -> None:
    heard = {}
    for user, whose in (("nobody", "parti-a"), ("parti-a", "stranger"), ("halted", "halted")):
        with login_client(served) as client:
            heard[user] = [client.probe(user, key(served, whose)) for _ in range(6)]
    assert heard["nobody"] == heard["parti-a"] == heard["halted"]
    assert heard["nobody"][:5] == [NO] * 5
    assert b"Too many authentication failures" in heard["nobody"][5]


def test_the_time_to_log_in_is_the_sites(serve: Serve) -> None:
    served = serve(before=setting("login_grace_seconds = 0.5"), patch="grace = None\n")
    with socket.create_connection((HOME, served.port)) as silent:
        silent.settimeout(10)
        while silent.recv(1000):
            pass
    until(lambda: served.records("session-end"))
    assert served.records("session-end")[0].event.detail["reason"] == "no login in time"


@contextmanager
def timed(took: list[float]) -> Iterator[None]:
    began = monotonic()
    yield
    took.append(monotonic() - began)


# Without the beat of userauth they are half a millisecond apart for keys, since a known
# user's key file is read.
@pytest.mark.parametrize(("how", "bound", "rounds"), [("password", 0.08, 3), ("key", 0.0004, 25)])
def test_the_time_of_a_refusal_tells_nothing(
    served: Served, how: str, bound: float, rounds: int
) -> None:
    took: dict[str, list[float]] = {user: [] for user in ("nobody", "parti-a", "parti-b", "halted")}
    stranger = key(served, "stranger")
    for _ in range(rounds):
        for user, times in took.items():
            with login_client(served) as client, timed(times):
                if how == "password":
                    client.password(user, "wrong")
                else:
                    client.probe(user, stranger)
    # The shortest, since whatever else the machine does only makes some of them longer.
    shortest = {user: min(times) for user, times in took.items()}
    assert max(shortest.values()) - min(shortest.values()) < bound, shortest

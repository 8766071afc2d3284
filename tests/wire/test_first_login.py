"""The first login: an initial password can only be used to set a new one (md. 5/c)."""

import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from wire.login_client import FAILURE, SUCCESS, LoginClient, login_client
from wire.server import OPENS, SECRET, RunningServer, StartServer, setting

from keys.credentials import ring
from keys.ledger import segments

OWN = "kendi-parolam-1453"
METHODS = b"publickey,password,keyboard-interactive"
INFO_REQUEST, INFO_RESPONSE, BANNER = 60, 61, 53
must_change = setting("must_change_password = true")


def sftp(server: RunningServer, tmp_path: Path, *answers: str) -> subprocess.CompletedProcess[str]:
    """Run OpenSSH's sftp; its user types these answers to its prompts."""
    lines = tmp_path / "answers"
    lines.write_text("".join(f"{answer}\n" for answer in answers))
    ask = tmp_path / "askpass"
    ask.write_text(f"#!/bin/sh\nsed -n 1p {lines}; sed -i 1d {lines}\n")
    ask.chmod(0o755)
    options = [
        "-F", "none", "-oBatchMode=no", "-oIdentityAgent=none", "-oIdentitiesOnly=yes",
        "-oStrictHostKeyChecking=yes", f"-oUserKnownHostsFile={server.site}/known_hosts",
        f"-oPort={server.port}", "-oPubkeyAuthentication=no", "-oNumberOfPasswordPrompts=1",
    ]  # fmt: skip
    return subprocess.run(
        ["sftp", *options, "-b", "-", "parti-a@127.0.0.1"],
        input="ls -1\n",
        env={"PATH": "/usr/bin:/bin", "SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force"},
        capture_output=True,
        text=True,
        timeout=60,
        start_new_session=True,
    )


def test_openssh_sets_a_new_password_and_logs_in(serve: StartServer, tmp_path: Path) -> None:
    server = serve(before=must_change)

    first = sftp(server, tmp_path, SECRET, OWN, OWN)
    again = sftp(server, tmp_path, OWN)
    old = sftp(server, tmp_path, SECRET)

    assert first.returncode == 0, first.stderr
    assert "BENIOKU.txt" in first.stdout
    assert "Parolaniz degistirildi." in first.stderr
    assert (again.returncode, old.returncode) == (0, 255)
    [own] = [c for c in ring.load(server.site, "parti-a").credentials if c.chosen]
    [record] = segments.read_records(server.site / "ledgers/operations")
    assert (record.event.event, record.event.who) == ("password change", "parti-a")
    assert record.event.detail["credential"] == own.fingerprint
    everything = b"".join(p.read_bytes() for p in (server.site / "ledgers").rglob("*.jsonl"))
    for secret in (OWN, SECRET, "argon2"):
        assert secret.encode() not in everything
        assert secret not in server.log.read_text()


def test_the_password_can_be_set_before_access_opens(serve: StartServer, tmp_path: Path) -> None:
    server = serve(before=must_change, now=OPENS - timedelta(hours=3))

    early = sftp(server, tmp_path, SECRET, OWN, OWN)
    server.set_time(OPENS)
    opened = sftp(server, tmp_path, OWN)

    assert early.returncode == 255
    assert "Parolaniz degistirildi." in early.stderr
    assert "Erisim 2023-05-14T17:00:00+03:00" in early.stderr
    assert opened.returncode == 0


def answer(client: LoginClient, *texts: str | bytes) -> bytes:
    client.send(INFO_RESPONSE, len(texts), *texts)
    return client.receive()


def begin(client: LoginClient, user: str = "parti-a") -> bytes:
    client._ask(user, b"keyboard-interactive", "", "")
    return client.receive()


def test_the_prompt_is_one_that_programs_which_feed_a_password_recognize(
    serve: StartServer,
) -> None:
    # sshfs, gvfs, JSch and sshj look at its end. OpenSSH puts "(user@host) " before it.
    server = serve(before=must_change)
    with login_client(server) as client:
        asked = begin(client)
        assert asked[0] == INFO_REQUEST
        assert asked.endswith(b"assword: \0")  # and then whether to show what the user types
        wanted = answer(client, SECRET)
        assert b"assword: " not in wanted.replace(b"(new password): ", b"")


@pytest.mark.parametrize(
    ("new", "again", "said"),
    [
        ("kisa", "kisa", b"12 - 1024 karakter"),
        (OWN, OWN + "x", b"Iki giris ayni degil"),
        (SECRET, SECRET, b"Eski parola"),
        ("Parti-A-parolasi", "Parti-A-parolasi", b"Eski parola ya da kullanici adi"),
        ("aaaaaaaaaaaaaaaa", "aaaaaaaaaaaaaaaa", b"Cok basit"),
        (b"\xfe\xf0\xfd-parola-1453", b"\xfe\xf0\xfd-parola-1453", b"Yalniz UTF-8"),
    ],
)
def test_an_unacceptable_password_is_asked_for_again_and_then_refused(
    serve: StartServer, new: str | bytes, again: str | bytes, said: bytes
) -> None:
    server = serve(before=must_change)
    with login_client(server) as client:
        assert begin(client)[0] == INFO_REQUEST
        assert answer(client, SECRET)[0] == INFO_REQUEST
        for _ in range(2):
            assert said in answer(client, new, again)
        assert answer(client, new, again)[0] == BANNER
        assert client.receive()[0] == FAILURE
        client.password("parti-a", SECRET)
    assert not any(c.chosen for c in ring.load(server.site, "parti-a").credentials)
    assert server.details("login") == []


def test_the_initial_password_gives_no_access_and_a_key_still_does(serve: StartServer) -> None:
    server = serve(before=must_change)
    with login_client(server) as client:
        banner = client.password("parti-a", SECRET)
        assert banner[0] == BANNER
        assert b"Ilk parolanizi degistirmelisiniz" in banner
        assert client.receive() == b"\x33" + len(METHODS).to_bytes(4, "big") + METHODS + b"\0"
    assert server.sftp("parti-a", "ls\n").returncode == 0
    assert [d["reason"] for d in server.details("login-refused")] == ["password must be changed"]


def test_a_wrong_password_address_or_answer_reveals_nothing(
    serve: StartServer,
) -> None:
    server = serve({"parti-a": "127.0.0.1", "parti-b": "127.0.0.2"}, before=must_change)
    for user, text in (("parti-a", "wrong"), ("nobody", SECRET), ("parti-b", SECRET)):
        with login_client(server) as client:
            assert begin(client, user)[0] == INFO_REQUEST
            assert answer(client, text)[0] == FAILURE
    with login_client(server) as client:
        begin(client)
        client.send(INFO_RESPONSE, 2, SECRET, OWN)
        assert client.receive()[0] == 1  # SSH_MSG_DISCONNECT
    assert server.sftp("parti-a", "ls\n").returncode == 0


def test_without_must_change_password_no_new_one_is_asked_for(serve: StartServer) -> None:
    server = serve()
    with login_client(server) as client:
        assert begin(client)[0] == FAILURE
        assert client.password("parti-a", SECRET)[0] == SUCCESS

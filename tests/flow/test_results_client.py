"""The reference client against a real portal: it follows, verifies, resumes, and refuses lies."""

import asyncio
import json
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path

import pytest
import uvicorn
import web_site
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from unit.portal.portal_site import BOXES, KEY, PortalSite, every_result, result
from unit.portal.service.conftest import PARTIES_TOML

from config import load
from config.site import ACCESS, LEDGERS
from keys.credentials.penalties import Penalties
from keys.credentials.users import Role, User, Users
from keys.ledger.writer import Ledger
from keys.server_keys import sshsig
from portal.access.entrance import Entrance
from portal.access.front import Front
from portal.access.limits import Limits
from portal.access.recorder import Recorder
from portal.server import create_app

CLIENT = Path(__file__).parents[2] / "scripts" / "results-client"


@contextmanager
def serving(site: Path) -> Iterator[int]:
    """Run the portal in a thread; yield its port."""
    ready = threading.Event()
    server: list[uvicorn.Server] = []
    port: list[int] = []

    async def serve() -> None:
        with Ledger(site / LEDGERS / ACCESS) as ledger:
            limits = Limits(penalties=Penalties(tolerated=inf))
            entrance = Entrance(
                load.load(site), Recorder(ledger), lambda: web_site.OPEN, limits=limits
            )
            routes = create_app(entrance)
            config = uvicorn.Config(
                Front(routes, entrance), port=0, lifespan="off", log_config=None, ws="none"
            )
            running = uvicorn.Server(config)
            server.append(running)
            follow = asyncio.create_task(routes.state.sites.follow())
            task = asyncio.create_task(running.serve())
            while not running.started:
                await asyncio.sleep(0.01)
            port.append(running.servers[0].sockets[0].getsockname()[1])
            ready.set()
            await task
            follow.cancel()
            entrance.sessions.close()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(60)
    try:
        yield port[0]
    finally:
        server[0].should_exit = True
        thread.join(30)


@pytest.fixture
def site(tmp_path: Path) -> PortalSite:
    made = PortalSite(tmp_path / "site")
    web_site.make(made.path, parties_toml=PARTIES_TOML)
    servis = User("servis", Role.SERVICE, (web_site.password(),))
    web_site.write_users(made.path, Users("parti-b", (servis,)))
    (tmp_path / "password").write_text(web_site.PASSWORD + "\n", encoding="utf-8")
    (tmp_path / "signers").write_text(sshsig.allowed_signers(KEY.public_key()), encoding="utf-8")
    return made


Run = Callable[..., tuple[int, str]]
# Runs the client, and kills it at the n-th call of a function: NAME N CLIENT OPTION...
KILLED = """
import os
import runpy
import signal
import sys
name, left, script = sys.argv[1], int(sys.argv[2]), sys.argv[3]
sys.argv[:] = sys.argv[3:]

def watch(frame, event, argument):
    global left
    if event == "call" and (frame.f_code.co_filename, frame.f_code.co_name) == (script, name):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.setprofile(watch)
runpy.run_path(script, run_name="__main__")
"""


@pytest.fixture
def run(site: PortalSite, tmp_path: Path) -> Iterator[Run]:
    with running(site, tmp_path) as client:
        yield client


@contextmanager
def running(site: PortalSite, folder: Path) -> Iterator[Run]:
    """Serve a site; yield a function that runs the client once."""
    with serving(site.path) as port:

        def client(party: str = "parti-a", *killed_at: str) -> tuple[int, str]:
            command = [sys.executable, "-I"]
            command += ["-c", KILLED, *killed_at] if killed_at else []
            command += [str(CLIENT), "--url", f"http://127.0.0.1:{port}"]
            command += ["--user", f"{party}.servis", "--password-file", str(folder / "password")]
            command += ["--signers", str(folder / "signers"), "--to", str(copy_of(folder))]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120)
            return done.returncode, done.stderr

        yield client


def copy_of(folder: Path) -> Path:
    return folder / "copy.sqlite"


def ask(folder: Path, query: str) -> list[tuple[object, ...]]:
    database = sqlite3.connect(copy_of(folder))
    try:
        return database.execute(query).fetchall()
    finally:
        database.close()


def test_the_copy_has_every_result_and_follows_corrections(
    site: PortalSite, run: Run, tmp_path: Path
) -> None:
    site.publish(*every_result())
    assert run() == (0, "snapshot 1: 42 changes, verified\n")
    site.publish(result(BOXES[0], surum=2, neden="itiraz kabul", gecersiz=9))
    until_shown(run, tmp_path, 2)

    assert ask(tmp_path, "SELECT count(*) FROM result") == [(42,)]
    assert ask(tmp_path, "SELECT surum, neden, gecersiz FROM result WHERE surum > 1") == [
        (2, "itiraz kabul", 9)
    ]
    (votes,) = ask(tmp_path, "SELECT oylar FROM result WHERE secim = 'mv' LIMIT 1")[0]
    assert json.loads(str(votes))["parti-a"] == 100
    assert ask(tmp_path, "SELECT number FROM snapshot") == [(1,), (2,)]


def until_shown(run: Run, folder: Path, number: int) -> None:
    """Run the client until it has a snapshot, which the portal shows a moment after it closed."""
    for _ in range(50):
        assert run()[0] == 0
        if ask(folder, "SELECT max(number) FROM snapshot") == [(number,)]:
            return
    raise AssertionError(f"snapshot {number} does not come")


def test_a_new_copy_takes_the_ready_made_files_and_verifies_the_whole_chain(
    site: PortalSite, run: Run, tmp_path: Path
) -> None:
    site.publish(*every_result())
    site.publish(result(BOXES[0], surum=2, neden="itiraz", gecersiz=9), exports=True)
    site.publish(result(BOXES[1], surum=2, neden="itiraz", gecersiz=8))

    code, said = run()

    assert (code, said.splitlines()) == (
        0,
        ["snapshot 2: 42 rows, whole, verified", "snapshot 3: 1 changes, verified"],
    )
    assert ask(tmp_path, "SELECT gecersiz FROM result WHERE surum = 2 ORDER BY sandik") == [
        (9,),
        (8,),
    ]


@pytest.mark.parametrize(
    ("lie", "says"),
    [
        ("file", "its SHA-256 is"),
        ("manifest", "the signature is not valid"),
        ("chain", "does not follow snapshot 1"),
        ("count", "has 20 boxes of mv"),
        ("key", "the signature is not valid"),
    ],
)
def test_a_lie_is_not_taken_over(site: PortalSite, tmp_path: Path, lie: str, says: str) -> None:
    site.publish(*every_result())
    folder = site.path / "snapshots" / f"{site.publish(later()):08}"
    manifest = json.loads((folder / "manifest.json").read_bytes())
    match lie:
        case "file":
            tamper(folder / "mv.changes.ndjson", b'"gecersiz": 9', b'"gecersiz": 8')
        case "manifest":
            tamper(folder / "manifest.json", b'"changes": 1', b'"changes": 2')
        case "chain":
            sign_again(folder, {**manifest, "previous": "0" * 64})
        case "count":
            contests = {"mv": {**manifest["contests"]["mv"], "boxes": 20}}
            sign_again(folder, {**manifest, "contests": contests})
        case "key":
            other = Ed25519PrivateKey.from_private_bytes(b"o" * 32).public_key()
            (tmp_path / "signers").write_text(sshsig.allowed_signers(other), encoding="utf-8")

    with running(site, tmp_path) as run:
        code, said = run()

    assert code == 1
    assert says in said
    assert ask(tmp_path, "SELECT max(number) FROM snapshot") == [
        (None if lie in ("manifest", "chain", "key") else 1,)
    ]
    assert ask(tmp_path, "SELECT count(*) FROM result WHERE surum > 1") == [(0,)]


def later() -> dict[str, object]:
    return result(BOXES[0], surum=2, neden="itiraz", gecersiz=9)


def tamper(file: Path, right: bytes, wrong: bytes) -> None:
    content = file.read_bytes()
    assert right in content
    file.chmod(0o600)
    file.write_bytes(content.replace(right, wrong, 1))


def sign_again(folder: Path, manifest: dict[str, object]) -> None:
    """Sign another manifest, as only somebody with the authority's key can."""
    content = json.dumps(manifest).encode()
    for name, text in (
        ("manifest.json", content),
        ("manifest.json.sig", sshsig.sign(KEY, content)),
    ):
        (folder / name).chmod(0o600)
        (folder / name).write_bytes(text)


def test_an_interrupted_download_goes_on_where_it_ended(
    site: PortalSite, run: Run, tmp_path: Path
) -> None:
    number = site.publish(*every_result())
    file = site.path / "snapshots" / f"{number:08}" / "mv.changes.ndjson"
    manifest = json.loads(file.with_name("manifest.json").read_bytes())
    parts = tmp_path / "copy.sqlite.parts"
    parts.mkdir()
    digest = manifest["files"]["mv.changes.ndjson"]["sha256"]
    (parts / digest).write_bytes(file.read_bytes()[:1000])
    wrong = manifest["files"]["cb.changes.ndjson"]["sha256"]
    (parts / wrong).write_bytes(b"x" * 10)

    first, _ = run()
    second, _ = run()

    assert (first, second) == (1, 0)  # the part that was not ours is thrown away
    assert ask(tmp_path, "SELECT count(*) FROM result") == [(42,)]


@pytest.mark.slow
def test_a_client_that_is_killed_at_any_step_goes_on_and_has_every_result(
    site: PortalSite, run: Run, tmp_path: Path
) -> None:
    site.publish(*every_result())
    site.publish(result(BOXES[0], surum=2, neden="itiraz kabul", gecersiz=9))
    whole = []
    for step in ("_next 1", "fetch 2", "_append 1", "put 1", "put 2", "note 1", "remember 1",
                 "check_counts 1", "__exit__ 1", "_forget_parts 1", "put 1", "check_counts 1",
                 "_forget_parts 1"):  # fmt: skip
        code, _ = run("parti-a", *step.split())
        assert code == -signal.SIGKILL, step
        # The copy is one snapshot, whenever the client is killed.
        numbers = [number for (number,) in ask(tmp_path, "SELECT number FROM snapshot")]
        [(results, newest)] = ask(tmp_path, "SELECT count(*), max(surum) FROM result")
        expected = {(): (0, None), (1,): (42, 1), (1, 2): (42, 2)}
        assert (results, newest) == expected[tuple(map(int, map(str, numbers)))], step
        whole.append(len(numbers))

    code, _ = run()

    assert code == 0
    assert whole == sorted(whole) and set(whole) == {0, 1, 2}
    assert ask(tmp_path, "SELECT count(*), max(surum) FROM result") == [(42, 2)]
    chain = ask(tmp_path, "SELECT sha256, manifest FROM snapshot ORDER BY number")
    (first, _), (_, second) = chain
    assert json.loads(str(second))["previous"] == first


def test_a_party_with_a_smaller_scope_gets_its_rows_and_verifies_the_chain(
    site: PortalSite, run: Run, tmp_path: Path
) -> None:
    site.publish(*every_result(), exports=True)

    code, said = run("parti-b")

    assert (code, said) == (0, "snapshot 1: 8 changes within our scope\n")
    assert ask(tmp_path, "SELECT DISTINCT kurul FROM result") == [("kadikoy-2",)]


def test_a_wrong_password_is_refused_with_the_reason(run: Run, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("wrong", encoding="utf-8")

    code, said = run()

    assert code == 3
    assert "Kullanıcı adı veya parola yanlış" in said

"""Client and server exchange new keys in the middle of downloads."""

import hashlib
import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from wire.server import SECRET, RunningServer, StartServer, until

SIZE = 12_000_000
REKEY_OFTEN = """
from sftpd.ssh.packetizer import Packetizer
Packetizer.REKEY_BYTES = 300_000
"""
LOG_REKEY = """
from sftpd.ssh.transport import Transport
parse = Transport._parse_newkeys
def parse_and_log(self, m):
    print("new keys", file=sys.stderr)
    return parse(self, m)
Transport._parse_newkeys = parse_and_log
"""


def start(serve: StartServer, patch: str = REKEY_OFTEN) -> tuple[RunningServer, bytes]:
    server: RunningServer = serve(patch=patch)
    content = os.urandom(SIZE)
    (server.site / "trees/parti-a/buyuk").write_bytes(content)
    return server, content


def run(*command: str) -> None:
    home = {"HOME": "/nonexistent"} if command[0] == "psftp" else {}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=50, env={**os.environ, **home}
    )
    assert done.returncode == 0, done.stderr


def sftp(*more: str) -> Callable[[RunningServer, Path], None]:
    def fetch(server: RunningServer, into: Path) -> None:
        done = server.sftp("parti-a", f"get buyuk {into}\n", *more)
        assert done.returncode == 0, done.stderr

    return fetch


def lftp(server: RunningServer, into: Path) -> None:
    ssh = shlex.join(["ssh", "-a", "-x", *server.ssh("parti-a")])
    run("lftp", "--norc", "-c",
        f'set net:max-retries 1; set sftp:auto-confirm no; set sftp:connect-program "{ssh}"; '
        f"open -u parti-a, sftp://127.0.0.1:{server.port}; get buyuk -o {into}")  # fmt: skip


def rclone(server: RunningServer, into: Path) -> None:
    remote = (
        f":sftp,host=127.0.0.1,port={server.port},user=parti-a,"
        f"key_file={server.site / 'clients/parti-a'},md5sum_command=none,sha1sum_command=none:buyuk"
    )
    run("rclone", "--config", "/dev/null", "copyto", remote, str(into))


def psftp(server: RunningServer, into: Path) -> None:
    batch = server.site / "batch"
    batch.write_text(f"get buyuk {into}\n")
    shown = subprocess.run(
        ["ssh-keygen", "-lf", str(server.site / "keys/host/ssh_host_ed25519_key.pub")],
        capture_output=True,
        text=True,
        check=True,
    )
    run("psftp", "-batch", "-P", str(server.port), "-pw", SECRET, "-b", str(batch),
        "-hostkey", shown.stdout.split()[1], "parti-a@127.0.0.1")  # fmt: skip


CLIENTS = {
    "sftp": sftp(),
    "sftp, AES-CTR": sftp("-oCiphers=aes128-ctr"),
    "sftp that rekeys too": sftp("-oRekeyLimit=3M"),
    "lftp": lftp,
    "rclone": rclone,
    "psftp": psftp,
}


@pytest.mark.parametrize("fetch", CLIENTS.values(), ids=CLIENTS)
def test_a_download_continues_through_many_key_exchanges(
    serve: StartServer, tmp_path: Path, fetch: Callable[[RunningServer, Path], None]
) -> None:
    server, content = start(serve, REKEY_OFTEN + LOG_REKEY)

    fetch(server, tmp_path / "got")

    got = hashlib.sha256((tmp_path / "got").read_bytes()).digest()
    assert got == hashlib.sha256(content).digest()
    assert server.log.read_text().count("new keys") >= 5
    until(lambda: server.records("close"))
    [close] = [r.event.detail for r in server.records("close")]
    assert (close["bytes"], close["complete"]) == (SIZE, True)


def test_a_client_may_exchange_keys_after_each_64_kilobytes_of_a_download(
    serve: StartServer, tmp_path: Path
) -> None:
    server: RunningServer = serve(patch=LOG_REKEY)
    content = os.urandom(8_000_000)
    (server.site / "trees/parti-a/buyuk").write_bytes(content)
    # One small request at a time: otherwise much data is on its way when an exchange begins.
    fetch = sftp("-oRekeyLimit=64K", "-R", "1", "-B", "32768")

    fetch(server, tmp_path / "got")

    assert (tmp_path / "got").read_bytes() == content
    assert server.log.read_text().count("new keys") > 100


def test_several_channels_continue_through_many_key_exchanges(
    serve: StartServer, tmp_path: Path
) -> None:
    server, content = start(serve)
    control = [f"-oControlPath={tmp_path}/c", "-oRekeyLimit=2M"]
    master = subprocess.Popen(["ssh", *server.ssh("parti-a", *control), "-MN", "127.0.0.1"])
    try:
        waited = subprocess.run(
            ["bash", "-c", f"until [ -S {tmp_path}/c ]; do sleep 0.02; done"], timeout=10
        )
        assert waited.returncode == 0
        clients = []
        for number in range(3):
            command = ["sftp", *server.ssh("parti-a", *control), "-b", "-", "127.0.0.1"]
            client = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
            )
            assert client.stdin is not None
            client.stdin.write(f"get buyuk {tmp_path}/{number}\n")
            client.stdin.close()
            clients.append(client)
        assert [client.wait(40) for client in clients] == [0, 0, 0]
    finally:
        master.terminate()
        master.wait()
    for number in range(3):
        assert (tmp_path / str(number)).read_bytes() == content


@pytest.mark.parametrize(
    ("ciphers", "agreed"),
    [
        ("aes128-ctr,aes128-gcm@openssh.com", "aes128-gcm@openssh.com"),
        ("aes256-ctr,aes256-gcm@openssh.com", "aes256-gcm@openssh.com"),
        ("aes256-ctr,aes128-ctr", "aes256-ctr"),
    ],
)
def test_gcm_is_chosen_if_the_client_offers_it(
    serve: StartServer, ciphers: str, agreed: str
) -> None:
    server: RunningServer = serve()
    done = server.sftp("parti-a", "ls\n", f"-oCiphers={ciphers}")
    assert done.returncode == 0, done.stderr
    [login] = [r.event.detail for r in server.records("login")]
    assert login["cipher"] == agreed

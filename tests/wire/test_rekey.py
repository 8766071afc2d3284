"""Client and server exchange new keys in the middle of downloads."""

import hashlib
import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from wire.served import SECRET, Serve, Served, until

SIZE = 12_000_000
OFTEN = """
from sftpd.ssh.packetizer import Packetizer
Packetizer.REKEY_BYTES = 300_000
"""
TOLD = """
from sftpd.ssh.transport import Transport
parse = Transport._parse_newkeys
def told(self, m):
    print("new keys", file=sys.stderr)
    return parse(self, m)
Transport._parse_newkeys = told
"""


def start(serve: Serve, patch: str = OFTEN) -> tuple[Served, bytes]:
    served: Served = serve(patch=patch)
    content = os.urandom(SIZE)
    (served.site / "trees/parti-a/buyuk").write_bytes(content)
    return served, content


def run(*command: str) -> None:
    home = {"HOME": "/nonexistent"} if command[0] == "psftp" else {}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=50, env={**os.environ, **home}
    )
    assert done.returncode == 0, done.stderr


def sftp(*more: str) -> Callable[[Served, Path], None]:
    def fetch(served: Served, into: Path) -> None:
        done = served.sftp("parti-a", f"get buyuk {into}\n", *more)
        assert done.returncode == 0, done.stderr

    return fetch


def lftp(served: Served, into: Path) -> None:
    ssh = shlex.join(["ssh", "-a", "-x", *served.ssh("parti-a")])
    run("lftp", "--norc", "-c",
        f'set net:max-retries 1; set sftp:auto-confirm no; set sftp:connect-program "{ssh}"; '
        f"open -u parti-a, sftp://127.0.0.1:{served.port}; get buyuk -o {into}")  # fmt: skip


def rclone(served: Served, into: Path) -> None:
    remote = (
        f":sftp,host=127.0.0.1,port={served.port},user=parti-a,"
        f"key_file={served.site / 'clients/parti-a'},md5sum_command=none,sha1sum_command=none:buyuk"
    )
    run("rclone", "--config", "/dev/null", "copyto", remote, str(into))


def psftp(served: Served, into: Path) -> None:
    batch = served.site / "batch"
    batch.write_text(f"get buyuk {into}\n")
    shown = subprocess.run(
        ["ssh-keygen", "-lf", str(served.site / "keys/host/ssh_host_ed25519_key.pub")],
        capture_output=True,
        text=True,
        check=True,
    )
    run("psftp", "-batch", "-P", str(served.port), "-pw", SECRET, "-b", str(batch),
        "-hostkey", shown.stdout.split()[1], "parti-a@127.0.0.1")  # fmt: skip


CLIENTS = {
    "sftp": sftp(),
    "sftp, AES-CTR": sftp("-oCiphers=aes128-ctr"),
    "sftp, which rekeys too": sftp("-oRekeyLimit=3M"),
    "lftp": lftp,
    "rclone": rclone,
    "psftp": psftp,
}


@pytest.mark.parametrize("fetch", CLIENTS.values(), ids=CLIENTS)
def test_a_download_outlives_many_key_exchanges(
    serve: Serve, tmp_path: Path, fetch: Callable[[Served, Path], None]
) -> None:
    served, content = start(serve, OFTEN + TOLD)

    fetch(served, tmp_path / "got")

    got = hashlib.sha256((tmp_path / "got").read_bytes()).digest()
    assert got == hashlib.sha256(content).digest()
    assert served.log.read_text().count("new keys") >= 5
    until(lambda: served.records("close"))
    [close] = [r.event.detail for r in served.records("close")]
    assert (close["bytes"], close["complete"]) == (SIZE, True)


def test_several_channels_outlive_many_key_exchanges(serve: Serve, tmp_path: Path) -> None:
    served, content = start(serve)
    control = [f"-oControlPath={tmp_path}/c", "-oRekeyLimit=2M"]
    master = subprocess.Popen(["ssh", *served.ssh("parti-a", *control), "-MN", "127.0.0.1"])
    try:
        waited = subprocess.run(
            ["bash", "-c", f"until [ -S {tmp_path}/c ]; do sleep 0.02; done"], timeout=10
        )
        assert waited.returncode == 0
        clients = []
        for number in range(3):
            command = ["sftp", *served.ssh("parti-a", *control), "-b", "-", "127.0.0.1"]
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
def test_gcm_is_agreed_on_wherever_the_client_has_it(
    serve: Serve, ciphers: str, agreed: str
) -> None:
    served: Served = serve()
    done = served.sftp("parti-a", "ls\n", f"-oCiphers={ciphers}")
    assert done.returncode == 0, done.stderr
    [login] = [r.event.detail for r in served.records("login")]
    assert login["cipher"] == agreed

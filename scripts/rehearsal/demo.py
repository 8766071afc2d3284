"""`scripts/demo`: run a small rehearsal election, from printed page to mirrored file.

With `--once` it mirrors one party's tree with OpenSSH's `sftp`, compares every file with what the
scanner delivered, and prints one JSON object. The exit code is 1 if a file is missing or differs.
"""

import hashlib
import json
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from config import layout, load, parallel
from config.registry import Registry
from config.sheet import Sheet
from config.site import LEDGERS, REGISTRY_INDEX, TRANSFER
from keys.ledger import segments
from scripts.filing.status import SETTLED, count_sheets
from scripts.rehearsal import web_clients
from scripts.rehearsal.rehearsal_site import (
    ADDRESS,
    client_command,
    client_key,
    known_hosts,
    scanned_pages,
)
from scripts.shared import console

_SSPS = [sys.executable, "-m", "scripts.ssps"]
_PARTY = "parti-a"
_TIMEOUT = 180.0  # seconds for the publisher to file all pages, and for the server to start
_PORT, _WEB_PORT = 2222, 8443


@click.command()
@click.option("--once", is_flag=True, help="Mirror, compare, print a summary and exit.")
@click.option("--boxes", default=12, show_default=True, help="Number of ballot boxes.")
@click.option("--parties", default=3, show_default=True, help="Number of parties.")
@click.option("--seed", default=1, show_default=True, help="The same seed makes the same pages.")
def main(once: bool, boxes: int, parties: int, seed: int) -> None:
    """Print, scan, file and serve a small rehearsal election."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix="ssps-demo-"))
    site, port = folder / "site", free_port()
    options = ["--boxes", boxes, "--parties", parties, "--seed", seed, "--port", port]
    if not once:
        options += ["--web-port", free_port(_WEB_PORT)]
    try:
        ssps("rehearse", "init", site, *options)
        with running_daemons(site, folder / "log.jsonl"):
            ssps("rehearse", "scan", "--site", site)
            wait_until_filed(site)
            wait_until_served(port)
            if once:
                summary = mirror_and_check(site, port, folder / "mirror")
            else:
                show_commands_and_wait(site, port, folder / "log.jsonl")
        if once:
            click.echo(json.dumps({**summary, **transfers_recorded(site)}))
            sys.exit(int(bool(summary["hash_mismatches"] or summary["not_mirrored"])))
    except (subprocess.CalledProcessError, TimeoutError) as error:
        console.err.print(f"the demo failed: {error}\n{_log_tail(folder / 'log.jsonl')}")
        sys.exit(1)
    except KeyboardInterrupt:
        pass
    finally:
        shutil.rmtree(folder)


def free_port(wanted: int = _PORT) -> int:
    """Return a port if it is free, else a free port that the kernel chooses."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((ADDRESS, port))
            except OSError:
                continue
            bound: int = probe.getsockname()[1]
            return bound
    raise OSError("no free port")


def ssps(*arguments: object) -> None:
    """Print one `ssps` command as an operator would type it, and run it."""
    words = list(map(str, arguments))
    console.err.print(f"$ ssps {shlex.join(words)}", style="bold", soft_wrap=True)
    subprocess.run([*_SSPS, *words], check=True)


@contextmanager
def running_daemons(site: Path, log: Path) -> Iterator[None]:
    """Run publisher and server until the end of the `with` block."""
    console.err.print(f"$ ssps run --site {site} &", style="bold", soft_wrap=True)
    with log.open("wb") as out:
        process = subprocess.Popen([*_SSPS, "run", "--site", str(site)], stdout=out, stderr=out)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def wait_until_filed(site: Path) -> None:
    """Wait until every scanned page is filed, a duplicate or in quarantine."""
    pages = len(list(scanned_pages(site)))
    deadline = time.monotonic() + _TIMEOUT
    while True:
        counts = count_sheets(site)
        done = sum(counts[k] for k in SETTLED)
        if done >= pages:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"only {done} of {pages} pages are filed after {_TIMEOUT:.0f} s")
        time.sleep(0.2)


def wait_until_served(port: int) -> None:
    """Wait until the server answers."""
    deadline = time.monotonic() + _TIMEOUT
    while True:
        try:
            with socket.create_connection((ADDRESS, port), timeout=1) as probe:
                if probe.recv(4) == b"SSH-":
                    return
        except OSError:
            if time.monotonic() > deadline:
                raise TimeoutError(f"no SSH server answers on port {port}") from None
            time.sleep(0.2)


def mirror_and_check(site: Path, port: int, mirror: Path) -> dict[str, int]:
    """Mirror the whole tree of one party, and compare it with what the scanner delivered."""
    mirror.mkdir()
    program, *rest = shlex.split(client_command(site, _PARTY, port))
    command = [program, "-b", "-", *rest]
    console.err.print("$ " + shlex.join(command), style="bold", soft_wrap=True)
    subprocess.run(
        command, input=f"get -r / {mirror}\n".encode(), stdout=subprocess.DEVNULL, check=True
    )
    files = [
        path
        for path in mirror.rglob("*")
        if path.is_file() and not layout.is_publisher_file(path.relative_to(mirror).as_posix())
    ]
    expected = sheets_scanned(site)
    mirrored = {path: _sha256(path) for path in files}
    wrong = [p for p, digest in mirrored.items() if expected.get(digest) != _sheet(p, mirror)]
    counts = count_sheets(site)
    return {
        "filed": counts["filed"],
        "duplicates": counts["duplicates"],
        "quarantined": counts["quarantined"],
        "missing": counts["missing"],
        "versions": counts["versions"],
        "mirrored_files": len(files),
        "mirrored_bytes": sum(path.stat().st_size for path in files),
        "hash_mismatches": len(wrong),
        "not_mirrored": len(expected.keys() - set(mirrored.values())),
    }


def sheets_scanned(site: Path) -> dict[str, Sheet]:
    """Return what the tree of a party with scope `all` must contain: SHA-256 -> sheet.

    It is computed from the scanner's list and the registry, independently of the publisher.
    """
    registry = Registry(site / REGISTRY_INDEX)
    entries = ((page["sha256"], registry.lookup(page["karekod"])) for page in scanned_pages(site))
    sheets = {digest: entry.sheet for digest, entry in entries if entry}
    registry.close()
    return sheets


def _sheet(path: Path, mirror: Path) -> Sheet | None:
    try:
        return layout.parse(path.relative_to(mirror).as_posix()).sheet
    except ValueError:
        return None


def transfers_recorded(site: Path) -> dict[str, int]:
    """Count the complete transfers in the transfer ledger."""
    records = segments.read_records(site / LEDGERS / TRANSFER)
    complete = [r for r in records if r.event.event == "close" and r.event.detail["complete"]]
    return {"transfers_recorded": len(complete)}


def show_commands_and_wait(site: Path, port: int, log: Path) -> None:
    """Print commands to try, and wait until interrupted."""
    counts = count_sheets(site)
    key, hosts = client_key(site, _PARTY), known_hosts(site)
    ssh = f"ssh -a -x -i {key} -o UserKnownHostsFile={hosts}"
    at_once = parallel.within(load.load(site).sftp.max_sessions_per_party)
    web = json.loads(web_clients.kit_file(site, _PARTY).read_text(encoding="utf-8"))
    user, service, new = web["users"][0], web["service"], web["new_user"]
    click.echo(
        f"""
{counts["filed"]} of {counts["expected"]} sheets filed, {counts["versions"]} later versions, \
{counts["duplicates"]} duplicates, {counts["quarantined"]} in quarantine.
Try these in another terminal:

  {client_command(site, _PARTY, port)}
  lftp -e 'set sftp:connect-program "{ssh}"; mirror --parallel={at_once.lftp} / mirror; quit' \\
      sftp://{_PARTY}:@{ADDRESS}:{port}
  rclone copy --sftp-host {ADDRESS} --sftp-port {port} --sftp-user {_PARTY} \\
      --sftp-key-file {key} --sftp-known-hosts-file {hosts} \\
      --transfers {at_once.transfers} --checkers {at_once.checkers} :sftp:/ mirror
  sshfs -o ro,IdentityFile={key},UserKnownHostsFile={hosts},port={port} {_PARTY}@{ADDRESS}:/ mnt

The web site, in a browser (its certificate is the demo's own, {web["ca"]}):

  {web["site"]}   user {user["name"]}, password {user["password"]}
  and as at a first login: user {new["name"]}, password {new["password"]}

The web service:

  curl --cacert {web["ca"]} -u {service["name"]}:{service["password"]} {web["site"]}/v1/elections

  {_ssps()} status --site {site}
  {_ssps()} audit tail --follow --site {site}
  {_ssps()} rehearse scan --again --rate 2 --site {site}

Log: {log}. Ctrl-C stops the demo and deletes {site}."""
    )
    signal.pause()


def _ssps() -> str:
    return str(Path(sys.executable).with_name("ssps"))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _log_tail(log: Path) -> str:
    return "\n".join(log.read_text().splitlines()[-5:]) if log.exists() else ""


if __name__ == "__main__":
    main()

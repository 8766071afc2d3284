"""The notary's process: signs beside a daemon that writes a ledger, and keeps the key from it.

`beside` starts it before the daemon loads anything else; it reads the private key and the
ledger, and answers nobody. Once a second it signs for what was added, compresses segments that
are sealed, and when the daemon is gone it signs for the rest and ends. A daemon does not start on
a ledger that is not what was signed for. Nothing watches the notary itself: should it be killed,
records go on unsigned and nothing says so until the daemon's next start, which goes on from there.
"""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from config.fault import Fault, Faults
from config.settings import Keeping
from keys import host, ledger, note
from keys.notary import Notary, Refused, load_key
from scripts.logs import log_as

_OFTEN = 1.0  # seconds between two looks at the ledger
_PATIENCE = 60.0  # seconds that the last signature may take
_READY = "ready"
_log = structlog.get_logger()


@contextmanager
def beside(site: Path, name: str, keeping: Keeping) -> Iterator[None]:
    """Have a ledger's state signed once a second while the body runs, and once after it.

    Raises Faults if the ledger is not what was signed for, or there is no key to sign with.
    """
    pack = ["--compress"] if keeping.compress else []
    command = [sys.executable, "-m", "scripts.notary", str(site), name, *pack]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None  # noqa: S101
        said = process.stdout.readline().strip()
        if said != _READY:
            process.stdin.close()
            process.wait()
            raise Faults([Fault(str(ledger.FOLDER / name), "", said or "has no notary, see above")])
        try:
            yield
        finally:
            process.stdin.close()
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                _log.error("notary killed", ledger=name, after=_PATIENCE)
                process.kill()


@contextmanager
def within(site: Path, name: str) -> Iterator[None]:
    """Have a ledger's state signed when the body is done, by this process itself.

    Raises Faults if the ledger is not what was signed for; without a key it is left unsigned.
    """
    try:
        notary = take_up(site, name)
    except Refused as error:
        raise Faults([Fault(str(ledger.FOLDER / name), "", str(error))]) from None
    except FileNotFoundError:
        yield  # which `ssps check` names; a credential can be revoked all the same
        return
    with notary:
        try:
            yield
        finally:
            notary.notarize(last=True)


def take_up(site: Path, name: str) -> Notary:
    """Return the notary of one of the site's ledgers; raises what it does."""
    signing = site / host.SIGNING
    stated = sorted(signing.rglob("*.pub"))
    former = [note.public_key(path.read_text(encoding="utf-8")) for path in stated]
    return Notary(site / ledger.FOLDER / name, load_key(signing / host.SIGNING_KEY), former=former)


def attend(notary: Notary, gone: int, pack: bool = True) -> None:
    """Sign until there is nothing more to read from the descriptor `gone`."""
    over = False
    while not over:
        readable, _, _ = select.select([gone], [], [], _OFTEN)
        over = bool(readable) and not os.read(gone, 4096)
        try:
            notary.notarize(last=over)
            if pack and not over and (packed := notary.pack()):
                _log.info("segment compressed", segment=str(packed.path))
        except OSError as error:
            _log.error("not signed", cause=str(error))


def main(site: Path, name: str, pack: bool) -> int:
    """Be the notary of one ledger until stdin ends."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends when the daemon has
    log_as(f"notary of {name}")
    try:
        with take_up(site, name) as notary:
            notary.notarize()
            print(_READY, flush=True)
            attend(notary, sys.stdin.fileno(), pack)
    except (Refused, OSError, ValueError) as error:
        print(error, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], "--compress" in sys.argv))

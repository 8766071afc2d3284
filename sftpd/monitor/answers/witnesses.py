"""Answers the witnesses of the parties: proves that a ledger grows, and keeps cosignatures.

A witness (scripts/mirror --witness) sends commands in its session (sftpd/ssh/exec_witness), which
follow C2SP's tlog-witness with the roles exchanged, because it is the party that connects:

    show LEDGER SIZE            answered with `old SIZE`, a consistency proof from SIZE records on,
                                an empty line, and the newest checkpoint
    add LEDGER KEY NOTE         keeps a cosigned checkpoint, answered with `ok SIZE`

Rule 1. A party reads the proofs and checkpoints of the ledgers that its feed names as well, and
writes only to its own folder in `state/cosigned` (keys/ledger/cosigned).
Rule 2. A checkpoint is kept if this site's key has signed it, and the party's registered key has
cosigned it. The first key is registered.
Rule 3. A checkpoint that the ledger extends replaces one of fewer records, and no other. One that
the ledger does not extend proves that records were lost, unless `ssps recover` has accepted that:
it is kept beside the first, `ledger-behind-witness` is logged, and no daemon starts again.
Rule 4. What is kept is on record. A party may ask `_PER_SECOND` times a second, and may have a
checkpoint of each ledger kept every `_INTERVAL` seconds.

An answer says `behind` with our newest checkpoint if the witness knows of more than the ledger has.
"""

import json
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import structlog

from config.event import Event, Outcome, TransferEvent, Value
from config.site import COSIGNED, LEDGERS, is_ledger
from keys.credentials.ratelimit import TokenBucket
from keys.files import replace
from keys.ledger import anchors, cosignature, cosigned, note, segments
from keys.ledger.anchors import Anchor, Behind
from keys.ledger.cosignature import MAX_NOTE, Witness
from keys.ledger.note import Checkpoint, UnknownSigner, WrongSignature, encode_base64
from keys.operations import site_keys
from sftpd.monitor.monitor import ConnectionState

_PER_SECOND, _BURST = 1.0, 30
_INTERVAL = 20.0  # seconds between two checkpoints of a ledger that are kept for a party
_CLOCKS_DIFFER = 600  # seconds that a witness's clock may be ahead of ours
_MAX_SIZE = 1 << 53
_NO_HASHES = "later: the hashes of that ledger are missing or damaged"

_log = structlog.get_logger()


class Refused(Exception):
    """A witness's request is refused; the text begins with a word for its program."""


class Witnesses:
    """Answers the witnesses; `record` appends an event to the transfer ledger, or returns False."""

    def __init__(
        self,
        record: Callable[[Event], bool],
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._record = record
        self._clock, self._monotonic = clock, monotonic
        self._buckets: defaultdict[str, TokenBucket] = defaultdict(
            lambda: TokenBucket(_PER_SECOND, _BURST)
        )
        self._kept_at: dict[Path, float] = {}

    def answer(self, state: ConnectionState, texts: tuple[bytes, ...]) -> bytes:
        """Return what a command prints, as JSON: `out`, `error` and the exit `status`."""
        try:
            if state.party is None or state.settings is None:
                raise Refused("login: not logged in")
            if not self._buckets[state.party].try_take(1):
                raise Refused("too-often: ask again later")
            out = self._handle(state, state.party, *(text.decode("ascii") for text in texts))
        except Refused as error:
            return _output("", f"{error}\n", 1)
        except _Behind as error:
            return _output(error.checkpoint, f"behind: {error}\n", 1)
        except (OSError, ValueError) as error:
            _log.error("witness-not-answered", party=state.party, cause=str(error))
            return _output("", "later: it cannot be answered now\n", 1)
        return _output(out, "", 0)

    def _handle(
        self, state: ConnectionState, party: str, verb: str, ledger: str, key: str, text: str
    ) -> str:
        site = _site(state)
        if not is_ledger(ledger):
            raise Refused("no-ledger: there is no ledger of that name")
        newest = segments.read_checkpoint(site / LEDGERS / ledger)
        if newest is None:
            raise Refused("no-checkpoint: that ledger has no records yet")
        if verb == "show":
            return _show(site / LEDGERS / ledger, newest, _size(text))
        return self._add(state, site, party, newest, key, text.encode())

    def _add(
        self, state: ConnectionState, site: Path, party: str, newest: bytes, key: str, text: bytes
    ) -> str:
        """Apply Rules 2 to 4 to a cosigned checkpoint; return the answer."""
        message = _decoded(text)
        ledger = anchors.ledger_name(note.unverified_checkpoint(newest).origin)
        folder, keys = site / COSIGNED / party, site_keys.public_signing_keys(site)
        try:
            found = note.open_checkpoint(message, keys)
        except (ValueError, UnknownSigner, WrongSignature):
            raise Refused("not-ours: the checkpoint is not signed by this site") from None
        if anchors.ledger_name(found.origin) != ledger:
            raise Refused("not-ours: the checkpoint is of another ledger")
        witness, is_new = _witness(folder, party, key)
        self._check_cosignature(message, witness)
        behind = _behind(site / LEDGERS / ledger, newest, found, party)
        if behind is not None and anchors.is_accepted(site / LEDGERS, found):
            raise Refused("lost: `ssps recover` has accepted that these records were lost")
        path = cosigned.kept_file(folder, ledger, against=behind is not None)
        kept = cosigned.read_kept(path, keys)
        if kept is not None and behind is None and not _replaces(site, kept.checkpoint, found):
            return f"ok {kept.checkpoint.size}\n"
        if kept is not None and behind is not None and kept.checkpoint.size >= found.size:
            raise _Behind(str(behind), newest)
        if self._too_soon(path):
            raise Refused("too-often: ask again later")
        detail: dict[str, Value] = {
            "session": state.session,
            "key": str(witness),
            "checkpoint": anchors.format_line(found),
        }
        if is_new:
            detail["registered"] = True
        if behind is not None:
            detail["reason"] = "the ledger does not extend it"
        outcome = Outcome.OK if behind is None else Outcome.FAILED
        event = Event(TransferEvent.WITNESS, party, state.origin, ledger, outcome, detail)
        if not self._record(event):
            raise Refused("later: it cannot be recorded now")
        if is_new:
            cosigned.write_key(folder, witness)
        replace(path, message)
        self._kept_at[path] = self._monotonic()
        if behind is not None:
            _log.error("ledger-behind-witness", party=party, ledger=ledger, cause=str(behind))
            raise _Behind(str(behind), newest)
        return f"ok {found.size}\n"

    def _check_cosignature(self, message: bytes, witness: Witness) -> None:
        try:
            seconds = cosignature.open_cosignature(message, witness)
        except (ValueError, UnknownSigner, WrongSignature) as error:
            raise Refused(f"not-cosigned: {error}") from None
        if seconds > self._clock() + _CLOCKS_DIFFER:
            raise Refused("clock: the cosignature is from the future: set the witness's clock")

    def _too_soon(self, path: Path) -> bool:
        kept_at = self._kept_at.get(path)
        return kept_at is not None and self._monotonic() < kept_at + _INTERVAL


class _Behind(Exception):
    """The ledger does not have what the witness knows of."""

    def __init__(self, text: str, newest: bytes) -> None:
        super().__init__(text)
        self.checkpoint = newest.decode()


def _site(state: ConnectionState) -> Path:
    """Return the site whose tree the session sees: the election's, or that of a rehearsal."""
    settings = state.settings
    if settings is None:
        raise AssertionError("a witness before its login")
    for rehearsal in settings.rehearsals:
        if rehearsal.id == state.rehearsal:
            return rehearsal.folder
    return settings.site


def _show(folder: Path, newest: bytes, old: int) -> str:
    checkpoint = note.unverified_checkpoint(newest)
    if old > checkpoint.size:
        raise _Behind(f"the ledger has {checkpoint.size} records", newest)
    if (stored := anchors.stored_proof(folder, old, checkpoint)) is None:
        raise Refused(_NO_HASHES)
    lines = "".join(f"{encode_base64(each)}\n" for each in stored[1])
    return f"old {old}\n{lines}\n{newest.decode()}"


def _behind(folder: Path, newest: bytes, found: Checkpoint, party: str) -> Behind | None:
    """Say how a ledger does not extend a checkpoint; None if it does.

    The newest checkpoint never goes back, so it decides, whatever was written since.
    """
    signed = note.unverified_checkpoint(newest)
    if signed.origin == found.origin and signed.size >= found.size:
        if (stored := anchors.stored_proof(folder, found.size, signed)) is None:
            raise Refused(_NO_HASHES)
        if stored[0] == found.root:
            return None
    return Behind(Anchor(f"checkpoint cosigned by {party}", found), signed.size, signed.origin)


def _witness(folder: Path, party: str, key: str) -> tuple[Witness, bool]:
    """Return the party's witness, and whether its key is not registered yet."""
    try:
        stated = cosignature.parse_witness(key)
    except ValueError as error:
        raise Refused(f"bad-key: {error}") from None
    if stated.party != party:
        raise Refused(f"bad-key: its name is not ssps/witness/{party}")
    registered = cosigned.read_key(folder)
    if registered is not None and registered.public != stated.public:
        raise Refused(f"another-key: {registered.name}+{registered.id.hex()} is registered")
    return stated, registered is None


def _replaces(site: Path, kept: Checkpoint, new: Checkpoint) -> bool:
    """Say whether a checkpoint that the ledger extends takes the place of the kept one."""
    if kept.origin == new.origin and kept.size < new.size:
        return True
    # An older one is replaced only if the records that it names are accepted as lost.
    return anchors.is_accepted(site / LEDGERS, kept)


def _decoded(text: bytes) -> bytes:
    try:
        message = note.decode_base64(text.decode("ascii"))
    except ValueError:
        message = b""
    if not 0 < len(message) <= MAX_NOTE:
        raise Refused("bad-note: not a checkpoint in base64")
    return message


def _size(text: str) -> int:
    if not text.isdigit() or len(text) > 16 or int(text) >= _MAX_SIZE:
        raise Refused("bad-size: not a number of records")
    return int(text)


def _output(out: str, error: str, status: int) -> bytes:
    return json.dumps({"out": out, "error": error, "status": status}).encode()

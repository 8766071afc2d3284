"""What SIGHUP does: the site's files are read anew, and most of what they say is in force at once.

A file with a fault in it changes nothing. What the running server cannot change is kept as it
is, and named, so that the operator knows to restart.
"""

from dataclasses import asdict, dataclass, replace

from config import load
from config.fault import Fault
from config.settings import Settings


@dataclass(frozen=True, slots=True)
class ReloadResult:
    """New settings, or none and why; `restart` names the keys that wait for a restart."""

    settings: Settings | None
    faults: tuple[Fault, ...] = ()
    restart: tuple[str, ...] = ()


def read(old: Settings) -> ReloadResult:
    """Read the files of the site that `old` came from."""
    settings, faults = load.read(old.site)
    if settings is None:
        return ReloadResult(None, tuple(faults))
    return merge(old, settings)


def merge(old: Settings, new: Settings) -> ReloadResult:
    """Return `new` with what a running server keeps of `old`."""
    kept: dict[str, tuple[object, object]] = {
        "election.id": (old.election.id, new.election.id),
        "sftp.listen": (
            (old.sftp.host, old.sftp.port),
            (new.sftp.host, new.sftp.port),
        ),
        "sftp.metrics": (old.sftp.metrics, new.sftp.metrics),
    }
    for name, stated in asdict(old.ledger).items():
        kept[f"ledger.{name}"] = (stated, getattr(new.ledger, name))
    settings = replace(
        new,
        ledger=old.ledger,
        election=replace(new.election, id=old.election.id),
        sftp=replace(new.sftp, host=old.sftp.host, port=old.sftp.port, metrics=old.sftp.metrics),
    )
    restart = tuple(key for key, (before, after) in kept.items() if before != after)
    return ReloadResult(settings, restart=restart)

"""Reads the settings of a running server again; keeps those that only a restart can change."""

from dataclasses import asdict, dataclass, replace

from config import load
from config.fault import Fault
from config.settings import Settings


@dataclass(frozen=True, slots=True)
class ReloadResult:
    """New settings, or None and the faults; `restart` names the keys that need a restart."""

    settings: Settings | None
    faults: tuple[Fault, ...] = ()
    restart: tuple[str, ...] = ()


def reload_settings(old: Settings) -> ReloadResult:
    """Read the settings files again; keep the values of `old` that need a restart to change."""
    new, faults = load.read(old.site)
    if new is None:
        return ReloadResult(None, tuple(faults))
    fixed: dict[str, tuple[object, object]] = {
        "election.id": (old.election.id, new.election.id),
        "sftp.listen": ((old.sftp.host, old.sftp.port), (new.sftp.host, new.sftp.port)),
        "sftp.metrics": (old.sftp.metrics, new.sftp.metrics),
    }
    for name, value in asdict(old.ledger).items():
        fixed[f"ledger.{name}"] = (value, getattr(new.ledger, name))
    merged = replace(
        new,
        ledger=old.ledger,
        election=replace(new.election, id=old.election.id),
        sftp=replace(new.sftp, host=old.sftp.host, port=old.sftp.port, metrics=old.sftp.metrics),
    )
    restart = tuple(key for key, (before, after) in fixed.items() if before != after)
    return ReloadResult(merged, restart=restart)

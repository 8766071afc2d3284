"""Finds what keeps the daemons from starting and what a restart would not change.

`ssps check` reports it, and `ssps run` stops with exit code 1 instead of starting daemons that die.
"""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from config import registry
from config.fault import Fault, Faults
from config.settings import Settings
from config.site import PARTIES_TOML, REGISTRY_INDEX, SITE_TOML, STORE, TREES
from keys.operations import server_state

_LISTENING = "0A"  # a state in /proc/net/tcp


def publisher_faults(settings: Settings, *, every_folder: bool = True) -> Iterator[Fault]:
    """Yield what keeps the publisher from filing: no registry, no intake, no hard links.

    Without `every_folder` one intake folder is enough: the running publisher names the others.
    """
    site = settings.site
    if not (site / REGISTRY_INDEX).exists():
        advice = "no registry yet: run `ssps registry import FILE.csv --why TEXT`"
        yield Fault(str(REGISTRY_INDEX), "", advice)
    yield from _catalog_faults(settings)
    missing = list(intake_faults(settings))
    if every_folder or len(missing) == len(settings.intake.folders):
        yield from missing
    store, trees = site / STORE, site / TREES
    with suppress(OSError):  # the publisher creates both
        if store.stat().st_dev != trees.stat().st_dev:
            wrong = "is on another file system than store/, hard links need both on one: move it"
            yield Fault(str(TREES), "", wrong)
    for folder in (store, trees):
        if folder.exists() and os.geteuid() != 0 and not os.access(folder, os.W_OK | os.X_OK):
            wrong = f"user {os.geteuid()} may not write to it: run as its owner"
            yield Fault(str(folder.relative_to(site)), "", wrong)


def _catalog_faults(settings: Settings) -> Iterator[Fault]:
    """Yield what is wrong with the tables in PostgreSQL; a server that is down may come back."""
    if settings.catalog.url:
        from publisher import database, migrations
        from publisher.fsck.copying import Place

        place = Place(settings.site, settings.catalog.url, settings.catalog.password_file)
        for schema in migrations.SCHEMAS:
            try:
                with database.reading(place.of(schema)) as connection:
                    migrations.check(connection)
            except Faults as error:
                yield from error.faults
            except database.Unreachable:
                return


def database_faults(settings: Settings) -> Iterator[Fault]:
    """Yield why PostgreSQL cannot be used now; the daemons wait until it can."""
    if not settings.catalog.url:
        return
    from publisher import database
    from publisher.fsck.copying import Place

    place = Place(settings.site, settings.catalog.url, settings.catalog.password_file)
    try:
        with database.changing_tables(place.of("catalog")) as connection:
            read_only = connection.exec_driver_sql("SHOW transaction_read_only").scalar()
    except database.Unreachable as error:
        yield Fault(SITE_TOML, "catalog.url", error.strerror or "")
        return
    if read_only == "on":
        wrong = "the server is a replica, or set to be read-only: name the one that accepts changes"
        yield Fault(SITE_TOML, "catalog.url", wrong)


def intake_faults(settings: Settings) -> Iterator[Fault]:
    """Yield a fault for each intake folder in which no scan can be found."""
    for folder in settings.intake.folders:
        if wrong := _intake_fault(folder, settings.intake.mounts):
            yield Fault(SITE_TOML, "intake.folders", f"{folder} {wrong}")


def _intake_fault(folder: Path, mounts: bool) -> str | None:
    try:
        if not folder.is_dir():
            if folder.exists() or folder.is_symlink():
                return "is not a folder: name one for scans"
            return "does not exist: create it, or mount the share"
        if mounts and not folder.is_mount():
            return "is not a mount point, but intake.mounts = true: mount the share"
        with os.scandir(folder):
            pass
        if not os.access(folder, os.X_OK):
            return f"may not be entered by user {os.geteuid()}: chmod 755, or add the group"
    except OSError as error:
        return f"cannot be read ({error.strerror}): fix its permissions, or the share"
    return None


def scope_faults(settings: Settings) -> Iterator[Fault]:
    """Yield a fault for each party whose scope has no sheet of the registry."""
    if not (settings.site / REGISTRY_INDEX).exists():
        return
    opened = registry.Registry(settings.site / REGISTRY_INDEX)
    try:
        places = list(opened.places())
    except Faults:
        return  # damaged: config/load has already reported that
    finally:
        opened.close()
    for party in settings.parties:
        if not any(party.scope.covers_place(p.cevre or None, p.kurul or None) for p in places):
            wrong = "has no sheet in the registry: correct it, or import the registry that has them"
            yield Fault(PARTIES_TOML, f"{party.id}.scope", f"{party.scope}: {wrong}")


def port_faults(settings: Settings, *, privileged: bool) -> Iterator[Fault]:
    """Yield a fault for each address on which the server cannot listen.

    With `privileged`, a port that this process may not use is a fault too; the units give the
    daemons that right. What a daemon of this site listens on already is not checked.
    """
    sftp, listening = settings.sftp, {}
    if server_state.holder(settings.site, server_state.SERVE, settings.host) is None:
        listening["sftp.listen"] = (sftp.host, sftp.port)
        if sftp.metrics is not None:
            listening["sftp.metrics"] = sftp.metrics
    parts = {server_state.PORTAL: settings.portal, server_state.STAFF: settings.staff}
    for part, web in parts.items():
        if web is not None and server_state.holder(settings.site, part, settings.host) is None:
            listening[f"{part}.listen"] = (web.host, web.port)
    for key, (host, port) in listening.items():
        try:
            _try_listening(host, port)
        except OSError as error:
            if error.errno == errno.EACCES and not privileged:
                continue
            yield Fault(SITE_TOML, key, _port_fault(host, port, error))


def web_faults(settings: Settings) -> Iterator[Fault]:
    """Yield what keeps portal and staff site from starting, a certificate for example."""
    yield from shared_faults(settings)
    for web in (settings.portal, settings.staff):
        if web is not None:
            from portal.tls import certificate_faults

            yield from certificate_faults(web)


def shared_faults(settings: Settings) -> Iterator[Fault]:
    """Yield a fault if the portals of several hosts would have no place for what they share."""
    if settings.host and not settings.catalog.url and (settings.portal or settings.staff):
        wrong = (
            f"is not stated, but this host has a name ({settings.host}): the portals of several "
            "hosts share their sessions in PostgreSQL; state it, or unset SSPS_HOST"
        )
        yield Fault(SITE_TOML, "catalog.url", wrong)


def _try_listening(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tried.bind((host, port))
        tried.listen(1)


def _port_fault(host: str, port: int, error: OSError) -> str:
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    match error.errno:
        case errno.EADDRINUSE:
            who = _listener(port) or "another process, which root can see with `ss -ltnp`"
            return f"{address} is taken by {who}: stop it, or choose another port"
        case errno.EADDRNOTAVAIL:
            return f"{address}: this machine has no such address: choose one of its own"
        case errno.EACCES:
            return f"{address}: ports below 1024 need CAP_NET_BIND_SERVICE: use the systemd units"
    return f"{address}: {error.strerror}"


def _listener(port: int) -> str | None:
    """Name the process that listens on a TCP port, None if it cannot be seen."""
    inodes = set()
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{fields[9]}]")
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                if str(descriptor.readlink()) in inodes:
                    name = (process / "comm").read_text().strip()
                    return f"process {process.name} ({name})"
    return None

"""Reads a site's files into frozen Settings, or names all their faults at once.

The files are `site.toml` and `parties.toml`. config/schema checks each key by itself. This module
checks what depends on more than one key: other keys, the registry, and the site's folder, which
paths are relative to. A fault is one line, `file: key: what is wrong, what to do`.
"""

import hashlib
import importlib.util
import os
import stat
import tomllib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from config import cevre, registry, schema
from config.election import Election, Rehearsal
from config.fault import Fault, Faults
from config.party import Contact, Party, PartyKind
from config.settings import (
    CatalogSettings,
    DeskSettings,
    IntakeSettings,
    LedgerSettings,
    PortalSettings,
    QrSettings,
    ResultsSettings,
    Settings,
    SftpSettings,
    StaffSettings,
    Totp,
)
from config.site import (
    FEED,
    KEYS,
    LEDGERS,
    PARTIES_TOML,
    QUARANTINE,
    REGISTRY_INDEX,
    REHEARSALS,
    SITE_TOML,
    STATE,
    STORE,
    TREES,
    is_host,
)

HOST_VARIABLE = "SSPS_HOST"
_SITE_FOLDERS = (KEYS, STORE, TREES, FEED, QUARANTINE, LEDGERS, STATE, REHEARSALS)
M = TypeVar("M", bound=BaseModel)

_kept_catalogs: dict[Path, CatalogSettings] = {}


def load(site: Path) -> Settings:
    """Read the site's settings; raise Faults with every fault found in both files."""
    settings, faults = read(site)
    if settings is None:
        raise Faults(faults)
    return settings


def read(site: Path, parties_toml: bytes | None = None) -> tuple[Settings | None, list[Fault]]:
    """Read the site's settings and all their faults; the settings are None if there is a fault.

    With `parties_toml`, read that instead of the file parties.toml.
    """
    faults: list[Fault] = []
    digests: dict[str, str] = {}
    warnings: list[Fault] = []
    agreed = _read_file(site / SITE_TOML, schema.Site, faults, digests, warnings=warnings)
    listed = _read_file(site / PARTIES_TOML, schema.Parties, faults, digests, parties_toml)
    boards: frozenset[tuple[str, str]] = frozenset()
    try:
        boards = registry.boards(site / REGISTRY_INDEX)
    except Faults as error:
        faults += error.faults
    faults += _intake_faults(site, agreed.intake.folders if agreed else [])
    faults += _rehearsal_faults(site, agreed) if agreed else []
    faults += _catalog_faults(site, agreed.catalog) if agreed else []
    for name, stated in (("portal", agreed.portal), ("staff", agreed.staff)) if agreed else ():
        faults += _web_faults(name, stated) if stated else []
    parties = tuple(_parties(listed.party, boards, faults)) if listed else ()
    own_host = ""
    try:
        own_host = this_host()
    except Faults as error:
        faults += error.faults
    if faults or agreed is None:
        return None, faults
    _set_addresses(agreed, own_host)
    sftp = agreed.sftp.model_dump()
    host, port = sftp.pop("listen")
    return Settings(
        site=site,
        election=Election(**agreed.election.model_dump()),
        sftp=SftpSettings(host, port, **sftp),
        intake=IntakeSettings(
            tuple(site / folder for folder in agreed.intake.folders),
            agreed.intake.settle_seconds,
            agreed.intake.rescan_seconds,
            agreed.intake.quiet_seconds,
            agreed.intake.mounts,
            tuple(agreed.intake.ignore_folders),
            tuple(agreed.intake.ignore_files),
            agreed.intake.keep_seconds,
        ),
        parties=parties,
        ledger=LedgerSettings(**agreed.ledger.model_dump()),
        catalog=_catalog(site, agreed.catalog),
        results=ResultsSettings(**agreed.results.model_dump()),
        portal=PortalSettings(**_web(site, agreed.portal)) if agreed.portal else None,
        staff=StaffSettings(**_web(site, agreed.staff)) if agreed.staff else None,
        qr=QrSettings(agreed.qr.witnesses),
        contact=Contact(**agreed.contact.model_dump()),
        desk=DeskSettings(agreed.desk.confirmations),
        rehearsals=tuple(
            Rehearsal(r.id, r.title, r.opens, r.closes, site / r.place) for r in agreed.rehearsal
        ),
        digests=tuple(sorted(digests.items())),
        warnings=tuple(warnings),
        host=own_host,
    ), []


def _set_addresses(agreed: schema.Site, host: str) -> None:
    """Put where the daemons of this host listen in the place of where those of others do."""
    for key, address in agreed.hosts.get(host, schema.Host()):
        table, _, name = key.partition("_")
        if address is not None and (found := getattr(agreed, table)) is not None:
            setattr(found, name, address)


def this_host() -> str:
    """Return the name of this host from SSPS_HOST, "" on a site with one host; raise Faults."""
    name = os.environ.get(HOST_VARIABLE, "")
    if name and not is_host(name):
        wrong = "is not the name of a host: use up to 16 of a-z, 0-9 and -, such as gw2"
        raise Faults([Fault(HOST_VARIABLE, "", f"{name!r} {wrong}")])
    return name


def catalog(site: Path) -> CatalogSettings:
    """Return only where a site's catalog is, as every process that opens it asks each time.

    The file is read again when it has changed; of the rest of it, faults do not matter. Raises
    Faults if the file cannot be read, so that no other database is taken by mistake.
    """
    if (kept := _kept_catalogs.get(site)) is not None:
        return kept
    try:
        found = (site / SITE_TOML).stat()
    except FileNotFoundError:
        return CatalogSettings()
    return _stated_catalog(site, found.st_ino, found.st_mtime_ns, found.st_size)


def keep_catalog(site: Path) -> None:
    """Let `catalog` go on with what it returns now: a confined process cannot read the file."""
    _kept_catalogs[site] = catalog(site)


@lru_cache(maxsize=64)
def _stated_catalog(site: Path, *_stamp: int) -> CatalogSettings:
    faults: list[Fault] = []
    stated = _read_file(site / SITE_TOML, schema.OnlyCatalog, faults, {})
    if stated is None:
        raise Faults(faults)
    return _catalog(site, stated.catalog)


def _catalog(site: Path, stated: schema.Catalog) -> CatalogSettings:
    named = (stated.password_file, stated.reader_password_file)
    file, reader_file = (site / each if each else None for each in named)
    return CatalogSettings(stated.url or "", file, stated.reader_url or "", reader_file)


def _catalog_faults(site: Path, stated: schema.Catalog) -> Iterable[Fault]:
    """Yield a fault for a database that cannot be used on this machine, or would be unsafe."""
    if stated.url and importlib.util.find_spec("psycopg") is None:
        wrong = "needs the driver psycopg, which is not installed: install ssps[postgresql]"
        yield Fault(SITE_TOML, "catalog.url", wrong)
    if stated.reader_url and not stated.url:
        wrong = "has no database to read: add catalog.url, or remove it"
        yield Fault(SITE_TOML, "catalog.reader_url", wrong)
    yield from _password_faults(site, "catalog.password_file", stated.password_file, stated.url)
    key = "catalog.reader_password_file"
    yield from _password_faults(site, key, stated.reader_password_file, stated.reader_url)


def _password_faults(site: Path, key: str, file: str | None, url: str | None) -> Iterable[Fault]:
    if file is None:
        return
    if not url:
        of = "catalog.reader_url" if "reader" in key else "catalog.url"
        yield Fault(SITE_TOML, key, f"has no database to log in to: add {of}, or remove it")
    try:
        found = (site / file).stat()
    except OSError as error:
        yield Fault(SITE_TOML, key, f"cannot be read ({error.strerror}): create it, with mode 0600")
        return
    if not stat.S_ISREG(found.st_mode) or found.st_mode & 0o077:
        # libpq would leave it out, and the server would only say that a password is missing.
        yield Fault(SITE_TOML, key, "other users may read it: make it a file with mode 0600")


def _web(site: Path, stated: schema.Portal | schema.Staff) -> dict[str, Any]:
    fields = stated.model_dump()
    fields["host"], fields["port"] = fields.pop("listen")
    for name in ("certificate", "key"):
        fields[name] = site / fields[name] if fields[name] else None
    return fields


def _web_faults(table: str, stated: schema.Portal | schema.Staff) -> Iterable[Fault]:
    """Yield a fault if passwords would cross the network in clear text."""
    if (stated.certificate is None) != (stated.key is None):
        lacks = "certificate" if stated.certificate is None else "key"
        yield Fault(SITE_TOML, f"{table}.{lacks}", "is missing, name both certificate and key")
    elif not (stated.certificate or stated.proxies or ip_address(stated.listen[0]).is_loopback):
        wrong = "is missing: name the PEM files of certificate and key, or list the balancers"
        yield Fault(SITE_TOML, f"{table}.certificate", f"{wrong} that do TLS in {table}.proxies")
    if stated.proxy_protocol and not stated.proxies:
        wrong = "is missing: list the balancers that send the PROXY protocol"
        yield Fault(SITE_TOML, f"{table}.proxies", wrong)


def _intake_faults(site: Path, folders: list[str]) -> Iterable[Fault]:
    """Yield a fault for each intake folder that has the site's files or overlaps with another."""
    key = "intake.folders"
    own = [(site / name).resolve() for name in _SITE_FOLDERS]
    seen: list[Path] = []
    for stated in folders:
        if not stated or not stated.isprintable():
            yield Fault(SITE_TOML, key, f"{stated!r} is not a folder name, name one for scans")
            continue
        folder = (site / stated).resolve()
        if site.resolve().is_relative_to(folder) or any(map(folder.is_relative_to, own)):
            wrong = f"{stated!r} has the site's own files, name a folder only for scans"
            yield Fault(SITE_TOML, key, wrong)
        if any(a.is_relative_to(b) for s in seen for a, b in ((folder, s), (s, folder))):
            wrong = f"{stated!r} is in another of these folders or is listed twice, list each once"
            yield Fault(SITE_TOML, key, wrong)
        seen.append(folder)


def _rehearsal_faults(site: Path, agreed: schema.Site) -> Iterable[Fault]:
    """Yield a fault for a rehearsal that could be confused with another or with the election."""
    own = [(site / name).resolve() for name in _SITE_FOLDERS if name != REHEARSALS]
    seen: list[schema.Rehearsal] = []
    for one in agreed.rehearsal:
        key = f"rehearsal.{one.id}"
        if one.id in {agreed.election.id, *(other.id for other in seen)}:
            yield Fault(
                SITE_TOML, key, "another rehearsal or the election has this id, choose another"
            )
        if one.closes <= one.opens:
            yield Fault(
                SITE_TOML, f"{key}.closes", f"{one.closes} is not after opens, correct one of them"
            )
        if one.opens >= agreed.election.opens:
            yield Fault(SITE_TOML, f"{key}.opens", "is after the election opens, correct it")
        for other in seen:
            if one.opens < other.closes and other.opens < one.closes:
                yield Fault(
                    SITE_TOML,
                    f"{key}.opens",
                    f"overlaps with rehearsal {other.id}, correct one of them",
                )
        folder = (site / one.place).resolve()
        if site.resolve().is_relative_to(folder) or any(map(folder.is_relative_to, own)):
            wrong = f"{one.place!r} has the real election's files, name another folder"
            yield Fault(SITE_TOML, f"{key}.folder", wrong)
        seen.append(one)


def _read_file(
    path: Path,
    model: type[M],
    faults: list[Fault],
    digests: dict[str, str],
    stated: bytes | None = None,
    warnings: list[Fault] | None = None,
) -> M | None:
    try:
        content = path.read_bytes() if stated is None else stated
        digests[path.name] = hashlib.sha256(content).hexdigest()
        data = tomllib.loads(content.decode())
    except FileNotFoundError:
        faults.append(Fault(path.name, "", "is missing, `ssps init` writes an example"))
    except (OSError, UnicodeDecodeError) as error:
        faults.append(Fault(path.name, "", f"cannot be read ({error}), fix that first"))
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, or a number that is too long
        faults.append(Fault(path.name, "", f"is not TOML ({error}), fix that line first"))
    else:
        if warnings is not None:
            warnings += _take_removed_keys(path.name, data)
        return _validate(path.name, "", data, model, faults)
    return None


def _take_removed_keys(file: str, data: dict[str, Any]) -> Iterable[Fault]:
    """Remove keys of earlier versions from `data`; yield a warning for each."""
    for key, advice in schema.REMOVED_KEYS.items():
        table, _, name = key.partition(".")
        section = data.get(table)
        if isinstance(section, dict) and name in section:
            del section[name]
            yield Fault(file, key, f"is no longer used: {advice}")


def _validate(
    file: str, prefix: str, data: object, model: type[M], faults: list[Fault]
) -> M | None:
    before = len(faults)
    found: M | None = None
    try:
        found = model.model_validate(data)
    except ValidationError as error:
        for detail in error.errors():
            key = ".".join([*filter(None, [prefix]), *map(str, detail["loc"])])
            faults.append(Fault(file, key, _advice(detail, model)))
    if isinstance(found, schema.Site):
        faults += _election_faults(file, found.election)
    return found if len(faults) == before else None


def _advice(detail: Any, model: type[BaseModel]) -> str:
    match detail["type"]:
        case "value_error":
            return str(detail["ctx"]["error"])
        case "extra_forbidden":
            known = _keys_at(model, detail["loc"][:-1])
            return f"unknown key, remove it or write one of: {', '.join(known)}"
        case "missing":
            return "is missing, add it"
        case _:
            return f"{detail['input']!r}: {detail['msg'][0].lower()}{detail['msg'][1:]}"


def _keys_at(model: type[BaseModel], loc: Sequence[object]) -> list[str]:
    for part in loc:
        inner = model.model_fields[str(part)].annotation
        tables = [each for each in get_args(inner) if each is not type(None)]
        inner = tables[0] if len(tables) == 1 else inner
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            break
        model = inner
    return list(model.model_fields)


def _election_faults(file: str, election: schema.Election) -> list[Fault]:
    if election.closes is None or election.closes > election.opens:
        return []
    wrong = f"{election.closes} is not after opens ({election.opens}), correct one of them"
    return [Fault(file, "election.closes", wrong)]


def _parties(
    listed: list[dict[str, Any]], boards: frozenset[tuple[str, str]], faults: list[Fault]
) -> Iterable[Party]:
    seen: dict[str, str] = {}
    for number, data in enumerate(listed, start=1):
        stated = data.get("id")
        label = stated if isinstance(stated, str) and stated else f"party[{number}]"
        if label.casefold() in seen:
            first = seen[label.casefold()]
            how = "is there twice" if first == label else f"differs from {first!r} only by case"
            faults.append(Fault(PARTIES_TOML, f"{label}.id", f"{how}, give each party its own id"))
        seen.setdefault(label.casefold(), label)
        found = _validate(PARTIES_TOML, label, data, schema.Party, faults)
        if "static_ips" not in data and data.get("invited") is not True:
            faults.append(Fault(PARTIES_TOML, f"{label}.static_ips", "is missing, add it"))
            continue
        if found is None:
            continue
        faults += _scope_faults(label, found, boards)
        faults += _address_faults(label, found)
        yield Party(
            found.id,
            found.name,
            found.kind,
            found.scope,
            found.static_ips,
            Contact(**found.contact.model_dump()),
            found.suspended,
            found.rate_mbit,
            found.totp is Totp.REQUIRED,
            found.invited,
        )


def _address_faults(label: str, party: schema.Party) -> Iterable[Fault]:
    key = f"{label}.static_ips"
    if party.static_ips and party.invited:
        wrong = "an invited party has no addresses yet, remove them or `invited`"
        yield Fault(PARTIES_TOML, key, wrong)
    if party.invited and party.kind is PartyKind.INDEPENDENT:
        wrong = "an independent gets no login (Genelge md. 3/c), so remove `invited`"
        yield Fault(PARTIES_TOML, f"{label}.invited", wrong)


def _scope_faults(
    label: str, party: schema.Party, boards: frozenset[tuple[str, str]]
) -> Iterable[Fault]:
    key = f"{label}.scope"
    places = party.scope.places
    if party.kind is PartyKind.INDEPENDENT and (places is None or len({c for c, _ in places}) != 1):
        wrong = "an independent receives only its own district (Genelge md. 3/c), name that one"
        yield Fault(PARTIES_TOML, key, wrong)
    registered = {district for district, _ in boards}
    known = registered | set(cevre.names())
    for district, board in sorted(places or (), key=str):
        if district not in known:
            hint = cevre.hint(district, known)
            yield Fault(PARTIES_TOML, key, f"{district!r} is not an election district, {hint}")
        elif board and district in registered and (district, board) not in boards:
            wrong = f"{district}/{board} is not a board in the registry"
            advice = "correct it, or import the registry again"
            yield Fault(PARTIES_TOML, key, f"{wrong}, {advice}")

"""`ssps init` and `ssps check`: create a site, and find everything that is wrong with it."""

import hashlib
import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import nullcontext, redirect_stdout, suppress
from datetime import UTC, datetime
from pathlib import Path

import click

from config import load, registry
from config.event import Value
from config.fault import Fault, Faults
from config.settings import Settings
from config.site import (
    HOST_KEYS,
    INTAKE,
    KEYS,
    LEDGERS,
    PARTIES_TOML,
    QUARANTINE,
    REGISTRY_CSV,
    REGISTRY_INDEX,
    RESULTS,
    RINGS,
    SIGNING_KEYS,
    SITE_TOML,
    SNAPSHOTS,
    STATE,
    STORE,
    TREES,
    USERS,
)
from keys import digest, files
from keys.operations import (
    key_files,
    publisher_state,
    ring_files,
    settings_record,
    site_keys,
    user_files,
)
from keys.operations.key_files import KeyFilesOnRecord
from keys.server_keys import host
from publisher.intake import lease
from scripts.access.key.ring_change import key_holders
from scripts.daemons import obstacles
from scripts.shared import console
from scripts.site import disk_budget, shared_files
from scripts.site import system as system_
from sftpd.sandbox import sandbox

SITE_TEMPLATE = """\
# What this site serves, and when. `ssps check` reports everything that is wrong here.

[election]
id = "{id}"       # the name of the folder that the parties see
title = "{title}"
opens = {opens}        # from then on the parties may log in; always with a zone
# closes = 2023-05-28T17:00:00+03:00     # until then, if it is set
# ban_lifts = 2023-05-14T21:00:00+03:00  # set it when YSK lifts the publication ban

[sftp]
listen = "{listen}"        # "0.0.0.0:22" or "[::]:22" for connections from outside
# address = "sonuc.example:22"   # what the parties connect to; printed in letters and BENIOKU.txt
max_sessions = 512               # connections in total
max_sessions_per_party = 32      # rclone alone opens twelve
# login_grace_seconds = 120      # seconds until a client that has not logged in is disconnected
# stall_seconds = 900            # seconds until a session whose client takes no data is ended
# idle_seconds = 14400           # seconds until a session that requests nothing is ended
# drain_seconds = 30             # seconds for running transfers to finish when the server stops
# rate_mbit = 100                # limit for each party, all its sessions together; default: none
# opens_per_second = 5000        # files and folders of each party; what is beyond waits
# memory_mb_per_party = 1024     # MiB of all sessions of a party; beyond it the largest ends
# proxies = ["192.0.2.1"]        # the balancers; only they may send a PROXY header
# metrics = "127.0.0.1:9108"     # where Prometheus reads metrics
# algorithms = "pq-only"         # refuses OpenSSH before 9.9 and PuTTY before 0.83
# algorithms = "compatible"      # also accepts curl of Debian 12, and Ruby, Perl, PHP of 2022
# sha1_signatures = true         # also accepts RSA keys of JSch 0.1.55, and of curl of Debian 12
# cage = "best-effort"           # serve even if the kernel has no Landlock or seccomp
# user = "nobody"                # the user of the sessions if the server is started as root
# must_change_password = true    # a password that an operator set must be changed at first login

# [portal]                       # the web site and the web service; without it there are none
# listen = "0.0.0.0:443"
# certificate = "keys/tls/portal.crt"    # PEM; read again at a reload
# key = "keys/tls/portal.key"
# proxies = ["192.0.2.1"]        # the balancers; without a certificate they do TLS
# proxy_protocol = true          # they send a PROXY header (v1 or v2) instead of X-Forwarded-For
# address = "https://ssps.example"   # what the parties type
# idle_minutes = 30              # a session of the web site ends after this time without a request
# session_hours = 12             # and at the latest after this time
# totp = "required"              # every web user needs a second factor
# calls_per_minute = 6000        # limit for each user of the web service
# requests = true                # representatives send request forms from any address, at /sipport

# [staff]                        # the staff site, for YSK's own people; without it there is none
# listen = "127.0.0.1:8444"      # never an address that parties reach
# networks = ["10.20.0.0/16"]    # where operators come from; default: no address of a party
# metrics = "127.0.0.1:9109"       # where Prometheus reads the figures of the whole site
# certificate = "keys/tls/staff.crt"
# key = "keys/tls/staff.key"
# proxies = ["192.0.2.1"]        # the balancers; without a certificate they do TLS
# proxy_protocol = true          # they send a PROXY header (v1 or v2) instead of X-Forwarded-For
# idle_minutes = 30
# session_hours = 12

# [contact]                        # whom the parties call; printed in letters and BENIOKU.txt
# name = "Secim Bilisim Destek"
# email = "destek@example.org"
# phone = "+90 312 000 00 00"

# [[rehearsal]]                    # during it the parties see its folders, not the election's
# id = "prova-1"
# title = "Prova"
# opens = 2023-05-07T10:00:00+03:00
# closes = 2023-05-07T12:00:00+03:00
# folder = "rehearsals/prova-1"    # a separate site: `ssps rehearse init rehearsals/prova-1`

[intake]
folders = ["intake"]             # where scanners drop pages; relative to the site, or absolute
settle_seconds = 2.0             # a file is read when it has not changed for this long
rescan_seconds = 30.0            # how often to scan the folders; network shares send no events
# quiet_seconds = 600.0          # how long a file that could still be open stays in its folder
# keep_seconds = 0.0             # how long every file stays, for a standby that takes over
# mounts = true                  # each folder must be a mount point: a share that is mounted
# ignore_folders = ["@eaDir", ".*"]   # names of folders that hold no scans; replaces the whole list
# ignore_files = ["Thumbs.db", ".*"]  # the same for files

# [desk]
# confirmations = 2              # how many operators must identify a sheet that is not readable

# [ledger]
# sync = "always"                # write each record to the disk before the client gets an answer
# segment_mb = 64                # a segment of this size is closed, and a new one is started
# compress = true                # compress closed segments

# [results]
# snapshot_seconds = 10.0        # the shortest time between two snapshots of the results
# share_level = "ilce"           # divide the joint votes of alliances at this level; or "cevre"
# in_trees = true                # also show results in the parties' trees

# [qr]
# witnesses = 1                  # file a page whose karekod was read only once; the rule is two
"""

PARTIES_TEMPLATE = """\
# The parties, one [[party]] each. A party can log in after `ssps key add PARTY --public-key FILE`.
#
# [[party]]
# id = "parti-a"                 # its user name and the name of its folder; do not change it later
# name = "A Partisi"
# kind = "party"                 # party | candidate | independent
# scope = "all"                  # or ["34-istanbul-1", "35-izmir-2/konak-1"]
# static_ips = ["192.0.2.7"]     # one or two; IPv4 or IPv6
# contact = { name = "", email = "", phone = "" }
"""

_DISK_ADVICE = "use a larger disk; for more inodes use XFS or `mkfs.ext4 -i 4096`"
# Other users of the machine may only see the intake: the server gives the parties their trees.
_FOLDERS = {
    INTAKE: 0o755,
    RESULTS: 0o755,
    SNAPSHOTS: 0o755,
    STORE: 0o700,
    TREES: 0o700,
    QUARANTINE: 0o700,
    STATE: 0o700,
    LEDGERS: 0o700,
}


def _refuse_unless_empty(site: Path) -> None:
    if site.exists() and (not site.is_dir() or any(site.iterdir())):
        message = "not an empty folder: name one that is empty or does not exist yet"
        raise console.fault(str(site), "", message)


def create_site(site: Path, site_toml: str, parties_toml: str, why: str) -> None:
    """Create a working site at `site`; raise Faults if the folder exists and is not empty."""
    _refuse_unless_empty(site)
    written = {PARTIES_TOML: parties_toml.encode(), SITE_TOML: site_toml.encode()}
    try:
        for folder, mode in _FOLDERS.items():
            (site / folder).mkdir(parents=True)
            (site / folder).chmod(mode)  # the umask may have removed permissions
        (site / RINGS).mkdir(mode=0o700, parents=True)
        (site / KEYS).chmod(0o700)
        host.create_site_keys(site)
        for name, content in written.items():
            files.replace(site / name, content, 0o644)
    except OSError as error:
        raise console.fault(str(site), "", f"cannot create the site: {error}") from error
    # The record comes last, because before this there is no ledger to write it to.
    with console.recorded_change(site, "init", str(site), why) as record:
        made = [*host.describe(site / HOST_KEYS), *host.describe(site / SIGNING_KEYS)]
        digests = ((name, hashlib.sha256(text).hexdigest()) for name, text in written.items())
        detail: dict[str, Value] = {
            settings_record.SETTINGS: settings_record.digest_lines(digests),
            key_files.KEY_FILES: key_files.lines(key_files.server_key_files(site)),
        }
        record.done(made, detail)


@click.command()
@click.option(
    "--system", is_flag=True, help="Also create the user, permissions and systemd units (as root)."
)
@click.option(
    "--units",
    type=click.Path(path_type=Path),
    default=system_.FOLDER,
    show_default=True,
    help="With --system: the folder for the systemd units.",
)
@click.option(
    "--units-only",
    is_flag=True,
    help="Only write the systemd units of an existing site again, from this version (as root).",
)
@click.option("--dry-run", is_flag=True, help="Show what would be created, and create nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@console.why_option()
@console.with_new_site
def init(
    system: bool,
    units: Path,
    units_only: bool,
    dry_run: bool,
    as_json: bool,
    why: str,
    site: Path,
) -> None:
    """Create a new site in DIR.

    Creates host keys, a signing key and commented settings. DIR must be empty
    or must not exist. Edit site.toml and parties.toml, then run `ssps check`.
    With --system, DIR may also be an existing site, for example a copy from
    another machine; its files stay as they are. --units-only is for an upgrade:
    it writes the units only. It does not set the owner of the site's files,
    because that takes long on a full site.
    """
    if units_only and not (site / SITE_TOML).exists():
        raise console.fault("--units-only", "", f"{site} is no site: it has no {SITE_TOML}")
    if dry_run:
        _show_plan(site, system or units_only, units, as_json)
        return
    with redirect_stdout(io.StringIO()) if as_json else nullcontext() as printed:
        if units_only:
            executable = Path(sys.argv[0]).absolute()
            system_.check_machine(site, executable)
            _set_up_system(site, executable, units, why, units_only)
        else:
            _init(system, units, why, site)
    if printed is not None:
        fields = {"site": str(site), "changed": True, "printed": printed.getvalue().splitlines()}
        click.echo(json.dumps(fields, ensure_ascii=False))


def _show_plan(site: Path, system: bool, units: Path, as_json: bool) -> None:
    """Print what `ssps init` would create; raise Faults if it cannot."""
    exists = system and (site / SITE_TOML).exists()
    if not exists:
        _refuse_unless_empty(site)
    made = [] if exists else [SITE_TOML, PARTIES_TOML, *map(str, _FOLDERS), str(KEYS)]
    planned = [str(site / name) for name in made]
    planned += [str(units / name) for name in system_.UNITS] if system else []
    if as_json:
        click.echo(json.dumps({"site": str(site), "changed": False, "would_create": planned}))
    else:
        for path in planned:
            click.echo(f"would create {path}")
    click.echo("dry run: nothing has changed", err=True)


def _init(system: bool, units: Path, why: str, site: Path) -> None:
    executable = Path(sys.argv[0]).absolute()
    if system:
        system_.check_machine(site, executable)
    if not (system and (site / SITE_TOML).exists()):
        _create(site, why)
    if system:
        _set_up_system(site, executable, units, why, units_only=False)
        click.echo(f"  sudo -u {system_.USER} ssps --site {site} check")
        click.echo("  systemctl daemon-reload && systemctl enable --now ssps.target")


def _set_up_system(site: Path, executable: Path, units: Path, why: str, units_only: bool) -> None:
    settings = load.load(site)
    step = system_.write_units if units_only else system_.set_up
    command = "init --units-only" if units_only else "init --system"
    try:
        with console.recorded_change(site, command, str(site), why) as record:
            before = system_.current_units(units)
            after = system_.planned_units(site, settings, executable, units)
            if not units_only:
                before = system_.current_owners(site, settings) + before
                after = system_.planned_owners(site, settings) + after
            record.before = before
            record.done(after)
            for line in step(site, settings, executable, units):
                click.echo(line)
    finally:
        with suppress(LookupError):  # the user does not exist yet
            system_.chown_to_user(site / LEDGERS)  # root has written the record and its signature


def _create(site: Path, why: str) -> None:
    today = datetime.now(UTC).date()
    text = SITE_TEMPLATE.format(
        id=f"{today}-cb-mv",
        title="Cumhurbaşkanı ve Milletvekili Seçimi",
        opens=f"{today}T17:00:00+03:00",
        listen="127.0.0.1:2222",
    )
    create_site(site, text, PARTIES_TEMPLATE, why)
    click.echo(f"{site}: new site created, with its own keys. Next:")
    click.echo(f"  edit {SITE_TOML} and {PARTIES_TOML}")
    click.echo(f"  ssps --site {site} registry import FILE.csv --why TEXT")
    click.echo(f"  ssps --site {site} key add PARTY --public-key FILE --why TEXT")
    click.echo(f"  ssps --site {site} check && ssps --site {site} run")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array of the problems.")
@console.with_site
def check(as_json: bool, site: Path) -> None:
    """Report every problem of the site, one per line.

    Checks settings, keys and registry, and everything without which `ssps run` would stop: the
    intake folders, the disk of trees and store, the ports, and what several
    hosts need of a shared file system. Each line names the file, the key, what
    is wrong and what to do. Exit code 1 if there is a problem. Notes, such as
    what the kernel offers to sandbox a session, are printed on stderr.
    """
    console.err.print(f"note: this kernel has {sandbox.kernel()}")
    found = list(find_faults(site))
    lacks = list(_shared_file_lacks(site))
    found += [lack.fault() for lack in lacks if lack.serious]
    for lack in lacks:
        if not lack.serious:
            console.err.print(f"note: {lack.fault()}", soft_wrap=True)
    if as_json:
        rows = [{"file": f.file, "key": f.key, "message": f.message} for f in found]
        click.echo(json.dumps(rows, ensure_ascii=False))
    for fault in () if as_json else found:
        click.echo(str(fault))
    if found:
        console.err.print(f"{site}: {len(found)} problem{'s' * (len(found) > 1)}")
        sys.exit(1)
    settings = load.load(site)
    for warning in settings.warnings:
        console.err.print(f"note: {warning}")
    for party in settings.parties:
        if party.mirrors and not ring_files.load(site, party.id).credentials:
            console.err.print(f"note: {party.id} has no credential yet, so it cannot log in")
    if not digest.supported(site):
        advice = "use ext4, XFS or Btrfs"
        console.err.print(
            f"note: {site} has no extended attributes, so every file that a client opens is "
            f"hashed and marked `unstamped` in the record: {advice}"
        )
    for rehearsal in settings.rehearsals:
        if not (rehearsal.folder / TREES).is_dir():
            message = "has no trees: create them with `ssps rehearse init --like SITE`"
            console.err.print(f"note: rehearsal {rehearsal.id}: {rehearsal.folder} {message}")
    mirroring = [party for party in settings.parties if party.mirrors]
    if shortage := disk_budget.shortage(site, mirroring):
        console.err.print(f"note: {shortage}; {_DISK_ADVICE}")
    if note := disk_budget.results_note(site, settings):
        console.err.print(f"note: {note}")
    for note in _lease_notes(settings):
        console.err.print(f"note: {note}")
    console.err.print(f"OK: {len(settings.parties)} parties, no problems")


def _shared_file_lacks(site: Path) -> Iterator[shared_files.Lack]:
    """Yield what the site's folders lack if more than one host may work on them."""
    settings, _ = load.read(site)
    if settings is not None and shared_files.concerned(settings):
        mirroring = sum(party.mirrors for party in settings.parties)
        yield from shared_files.probe(site, mirroring + 1, settings.host)


def _lease_notes(settings: Settings) -> Iterator[str]:
    """Yield the intake folders where the publisher cannot see whether a file is being written."""
    running = next(iter(publisher_state.read_all(settings.site).values()), None)
    if running is not None and running.halted is None:
        found = dict(running.no_leases)
    else:
        causes = {str(folder): lease.obstacle(folder) for folder in settings.intake.folders}
        found = {folder: cause for folder, cause in causes.items() if cause is not None}
    for folder, cause in found.items():
        wait = f"{settings.intake.quiet_seconds:g} s"
        yield f"{folder}: no leases on files: {cause}; a filed scan stays there for {wait}"


def find_faults(site: Path) -> Iterator[Fault]:
    """Yield every fault of the site: settings, machine, server keys, credentials, registry."""
    settings, found = load.read(site)
    yield from found
    if settings is not None:
        yield from sandbox.faults(settings.sftp, sandbox.kernel(), os.geteuid())
        yield from obstacles.port_faults(settings, privileged=False)
        for fault in obstacles.publisher_faults(settings):
            # `_registry_faults` says more about a registry that was not imported yet.
            if fault.file != str(REGISTRY_INDEX) or not (site / REGISTRY_CSV).exists():
                yield fault
        yield from obstacles.database_faults(settings)
        yield from obstacles.web_faults(settings)
        yield from obstacles.scope_faults(settings)
    yield from host.faults(site)
    for fault in site_keys.unrecorded(site):
        if not key_files.holds_credentials(fault.file):  # `_ring_faults` says more about those
            yield fault
    yield from _ring_faults(site, {p.id for p in settings.parties} if settings else None)
    yield from _registry_faults(site)


def _ring_faults(site: Path, parties: set[str] | None) -> Iterator[Fault]:
    on_record = KeyFilesOnRecord(site)
    for folder in (RINGS, USERS):
        for path in sorted((site / folder).glob("[!.]*.toml")):
            if parties is not None and path.stem not in parties:
                wrong = f"{path.stem} is not a party in {PARTIES_TOML}"
                advice = "remove the file or add the party"
                yield Fault(str(folder / path.name), "", f"{wrong}: {advice}")
                continue
            try:
                (ring_files if folder == RINGS else user_files).load(site, path.stem, on_record)
            except Faults as error:
                yield from error.faults
    for fingerprint, holders in key_holders(site).items():
        if len(holders) > 1:
            message = (
                f"is the key of {' and '.join(holders)}: each party needs a key of its own, revoke "
                "it where it does not belong"
            )
            yield Fault(str(RINGS), fingerprint, message)


def _registry_faults(site: Path) -> Iterator[Fault]:
    source, index = site / REGISTRY_CSV, site / REGISTRY_INDEX
    if not source.exists():
        return
    if index.exists():
        opened = registry.Registry(index)
        try:
            imported = opened.source().sha256
        except Faults:
            return  # damaged: config/load has already reported that
        finally:
            opened.close()
        with source.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == imported:
                return
    bar, progress = console.progress_bar(REGISTRY_CSV, source.stat().st_size)
    with bar:
        found = registry.faults(source, progress)
    yield from found
    if not found:
        stale = "changed since it was imported" if index.exists() else "not imported yet"
        message = f"{stale}: run `ssps registry import {source}`"
        yield Fault(REGISTRY_CSV, "", message)

"""Every command that changes something records who did it, why, and the state before and after."""

import json
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import click
import office
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from office import Ssps
from unit.publisher.filed_site import PageFiler

from config import load, registry
from config.event import Event
from config.sheet import Belge, Secim, Sheet
from config.site import LEDGERS, REGISTRY_INDEX, cosigned_folder
from keys.access_requests import store
from keys.credentials import ring
from keys.credentials.users import Role
from keys.ledger import anchors, cosigned, segments, writer
from keys.ledger.cosignature import Witness
from keys.operations import announcements, live_sessions
from keys.operations.live_sessions import LiveSession
from keys.server_keys import host
from publisher.store.quarantine import QuarantineNote, format_note
from scripts.access.key.key import add_credential, load_public_key
from scripts.access.user.operator import add_operator
from scripts.access.user.user import add_user
from scripts.shared import console
from scripts.shared.change import Mode
from scripts.site import system
from scripts.ssps import main

BOX = "34-istanbul-1/kadikoy-2/1234"
HELD = "20230514T140003000041-9f3c21ab-a.jpg"
SHEET = Sheet(Secim.CB, Belge.SANDIK_SONUC, "34-istanbul-1", "kadikoy-2", "1234", 1)
CONTACT = '[contact]\nname = "D"\nemail = "d@d.example"\nphones = ["+90 312 000 00 00"]\n'
BALLOT = "secim,cevre,sira,secenek,tur,ad,ittifak\ncb,,1,aday-1,aday,Birinci Aday,\n"
FORM = 'id = "parti-d"\nparty = "D"\nservices = ["sftp"]\nstatic_ips = ["192.0.2.40"]\n'

# The order matters: some commands need what an earlier one did.
CHANGES: dict[str, list[str]] = {
    "init": ["@new"],
    "recover": ["--yes"],
    "verify": ["--repair"],
    "registry import": ["@registry"],
    "ballot import": ["@ballot"],
    "party add": ["--form", "@form"],
    "party suspend": ["parti-a"],
    "party resume": ["parti-a"],
    "party set-ips": ["parti-a", "192.0.2.8"],
    "party invite": ["E Partisi", "temsilci"],
    "party requests return": ["parti-a", "1"],
    "party requests accept": ["parti-a", "2", "--override-addresses", "--yes"],
    "party set-scope": ["parti-b", "35-izmir-2"],
    "party remove": ["parti-d"],
    "party end-session": ["parti-a", "90"],
    "party forget-witness": ["parti-a"],
    "key add": ["parti-a", "--password"],
    "key rotate": ["parti-a", "--public-key", "@other", "--apply"],
    "key revoke": ["parti-a", "first"],
    "key adopt": ["parti-a", "--yes"],
    "key host next": ["--apply"],
    "key host withdraw": ["--apply"],
    "key host rotate": ["--apply"],
    "key signing next": ["--apply"],
    "key signing withdraw": ["--apply"],
    "key signing rotate": ["--apply"],
    "user add": ["parti-a", "ayse"],
    "user suspend": ["parti-a.ayse"],
    "user resume": ["parti-a.ayse"],
    "user reset": ["parti-a.ayse"],
    "user representative": ["parti-a.ayse"],
    "user season": [],
    "user remove": ["parti-a.ayse"],
    "portal announce add": ["Prova 10 Mayıs'ta."],
    "portal announce withdraw": ["1"],
    "operator add": ["ayse"],
    "operator suspend": ["ayse"],
    "operator resume": ["ayse"],
    "operator reset": ["ayse"],
    "operator remove": ["ayse"],
    "absent add": [BOX, "--reason", "burnt"],
    "absent remove": [BOX],
    "desk identify": [HELD, "2000000001"],
    "desk reject": [HELD],
    "rebuild": ["parti-a", "--grace", "0"],
    "export": ["parti-a", "--to", "@bags"],
    "site export-state": ["@state"],
}
# Their target is a PostgreSQL: tests/unit/scripts/filing/test_catalog.py.
ELSEWHERE = {"catalog copy", "catalog migrate"}
# These read the site, or write only to a place that the operator names.
READS = {
    "check",
    "site import-state",
    "catalog show",
    "status",
    "absent list",
    "desk list",
    "desk show",
    "party list",
    "party sessions",
    "party show",
    "party test",
    "party letter",
    "party requests list",
    "party requests show",
    "user list",
    "portal announce list",
    "operator list",
    "key list",
    "registry find",
    "key host show",
    "key signing show",
    "ballot show",
    "results check",
    "results import",  # delivers a batch, as SEÇSİS does
    "results show",
    "results quarantine",
    "results history",
    "results coverage",
    "audit tail",
    "audit verify",
    "audit result",
    "audit behind",
    "audit compare",
    "audit query",
    "audit receipt make",
    "audit receipt verify",
    "audit report",
    "audit timeline",
    "audit gap",
    "audit export",
}
DAEMONS = {"run", "publish", "serve", "portal", "staff"}  # each writes its own ledger
REHEARSALS = {
    "rehearse init",
    "rehearse scan",
    "rehearse national",
}  # not on an election's site


def leaves(command: click.Command, name: str = "") -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group) or command.invoke_without_command:
        yield name, command
    if not isinstance(command, click.Group):
        return
    context = click.Context(command)
    for each in command.list_commands(context):
        found = command.get_command(context, each)
        assert found is not None
        yield from leaves(found, f"{name} {each}".strip())


COMMANDS = dict(leaves(main))


def events(site: Path) -> list[Event]:
    return [record.event for record in segments.read_records(site / "ledgers/operations")]


@pytest.fixture
def whole(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site on which every command of CHANGES works."""
    monkeypatch.setattr(console, "operator", lambda: "ayse")
    monkeypatch.setattr(host, "_RSA_BITS", 2048)
    live = LiveSession(90, "parti-a", "127.0.0.1", "OpenSSH", "2023-05-14T18:04:10+00:00")
    monkeypatch.setattr(
        live_sessions, "read", lambda site: () if 90 in live_sessions.ended(site) else (live,)
    )
    (site / "registry.csv").write_text(office.registry_csv(), encoding="utf-8")
    registry.import_csv(site / "registry.csv", site / REGISTRY_INDEX)
    (tmp_path / "form").write_text(FORM + CONTACT)
    (tmp_path / "ballot").write_text(BALLOT)
    (tmp_path / "registry").write_text(office.registry_csv(*office.ROWS[:3]), encoding="utf-8")
    host.create_key(tmp_path / "first", "first")
    add_credential(site, "parti-a", load_public_key(tmp_path / "first.pub", ""), "set up")
    host.create_key(tmp_path / "other", "other")
    (tmp_path / "other.pub").rename(tmp_path / "other")
    key = Ed25519PrivateKey.from_private_bytes(b"w" * 32).public_key()
    cosigned.write_key(site / cosigned_folder("parti-a"), Witness("parti-a", key))
    path = PageFiler(load.load(site)).file(SHEET, "kadikoy")
    with writer.Ledger(site / "ledgers/filing") as filing:
        filing.append(Event("filed", "publisher", "a.jpg", path, detail={"page": "a-0"}))
    os.utime(site / "trees/parti-a" / path, (1, 1))  # for `verify --repair`
    note = QuarantineNote(
        HELD[:30],
        "a.jpg",
        "no-karekod",
        sha256(b"%PDF-").hexdigest(),
        (),
        1,
        (),
        "2023-05-14T14:00:03Z",
    )
    (site / "quarantine").mkdir()
    (site / "quarantine" / HELD).write_bytes(b"%PDF-")
    (site / "quarantine" / f"{HELD}.json").write_bytes(format_note(note))
    send_form(site)
    return site


NAMES = {"verify": "verify --repair"}  # of records


def send_form(site: Path) -> None:
    """Send the form of parti-a, as its representative does in the browser."""
    text = FORM.replace("parti-d", "parti-a").replace('["sftp"]', '["sftp", "web"]') + CONTACT
    form = text + '[[user]]\nname = "zehra"\ncontact = true\n'
    for held in ring.load(site, "parti-a").credentials:
        if held.kind is ring.CredentialKind.PUBLIC_KEY:
            form += f'[[key]]\npublic_key = "{held.secret}"\n'
    before = store.draft(site, "parti-a")
    version = before.version if before else 0
    now = datetime.now(UTC)
    store.submit(site, "parti-a", form.encode(), version, {}, "parti-a.zehra", now)


def call(name: str, tmp_path: Path) -> list[str]:
    words = [str(tmp_path / w[1:]) if w.startswith("@") else w for w in CHANGES[name]]
    return [*name.split(), *words]


def test_every_command_is_listed_as_changing_or_reading() -> None:
    assert set(COMMANDS) == {*CHANGES, *ELSEWHERE, *READS, *DAEMONS, *REHEARSALS}


@pytest.mark.slow
def test_every_change_is_recorded_with_who_why_before_and_after(
    whole: Path, tmp_path: Path, ssps: Ssps
) -> None:
    secrets = {"PRIVATE KEY", "argon2"}
    for name in CHANGES:
        site = tmp_path / "new" if name == "init" else whole
        where = () if name == "init" else ("--site", site)
        if name in ("key host rotate", "key signing rotate"):
            host.prepare_next(site / "keys" / name.split()[1])
        if name == "recover":
            with writer.Ledger(site / "ledgers/filing") as filing:
                lost = {anchors.CHECKPOINTS: ["ssps/transfer/0123456789abcdef 5 " + "A" * 43 + "="]}
                filing.append(Event(anchors.ANCHOR, "filing", "", anchors.ANCHOR, detail=lost))
        if name == "party requests accept":
            send_form(site)  # the first one was returned
        if name == "key adopt":
            edited = ring.ring_path(site, "parti-a")
            edited.write_text(edited.read_text().replace('added_by = "ayse"', 'added_by = "x"'))
        count = 0 if name == "init" else len(events(site))

        done = ssps(*call(name, tmp_path), "--why", f"form {name}", *where)

        assert done.exit_code == 0 or name == "verify", (name, done.output)
        assert len(events(site)) > count, (name, done.output)
        recorded = [e for e in events(site)[count:] if e.event == NAMES.get(name, name)]
        assert recorded, (name, done.output)
        last = recorded[-1]
        assert (last.who, last.outcome) == ("ayse", "ok"), name
        assert last.origin and last.what, name
        assert last.detail["why"] == f"form {name}"
        assert last.detail["before"] != last.detail["after"] or name == "rebuild", name
        rings = [ring.load(site, party.id) for party in load.load(site).parties]
        secrets |= {c.secret for held in rings for c in held.credentials}
    told = "".join(map(str, events(whole)))
    assert [secret for secret in secrets if secret in told] == []
    proved = ssps("audit", "verify", whole / "ledgers/operations", "--site", whole)
    assert "OK: all match the checkpoint" in proved.stdout, proved.output


def test_nothing_is_changed_without_a_reason(site: Path, tmp_path: Path, ssps: Ssps) -> None:
    for file in ("registry", "ballot", "other", "form"):
        (tmp_path / file).touch()
    before = office.listing(tmp_path)

    for name in CHANGES:
        silent = ssps(*call(name, tmp_path), "--site", site)
        blank = ssps(*call(name, tmp_path), "--why", " ", "--site", site)

        assert silent.exit_code == (1 if name == "party add" else 2), name  # its form says why
        assert "--why" in silent.stderr or name == "party add"
        assert blank.exit_code == 2
        assert "give a reason: it is recorded together with your name" in blank.stderr
    assert office.listing(tmp_path) == before


DRY_RUNS = [
    name
    for name, command in COMMANDS.items()
    if name != "site import-state"  # tests/unit/scripts/site/test_state.py
    and any("--dry-run" in option.opts for option in command.params)
]


def content(site: Path) -> dict[str, bytes]:
    """Return the files of a site, without those that SQLite makes when it reads the catalog."""
    files = office.listing(site).items()
    return {path: data for path, data in files if "sqlite-" not in path}


# What an earlier change of CHANGES makes is not there in a dry run, and the other way round.
OF_A_DRY_RUN = {
    "party requests accept": ["parti-a", "1", "--override-addresses", "--yes"],
    "party remove": ["parti-a"],
    "user add": ["parti-a", "banu"],
    "operator add": ["banu"],
}


@pytest.mark.slow
def test_a_dry_run_changes_nothing_and_records_nothing(
    whole: Path, tmp_path: Path, ssps: Ssps
) -> None:
    host.prepare_next(whole / "keys/host")
    host.prepare_next(whole / "keys/signing")
    add_user(whole, "parti-a", "ayse", Role.WEB, "Yedi-Kule-Kapisi-17", "x", Mode(), str)
    announcements.write(whole, announcements.added((), "x", datetime.now(UTC)))
    add_operator(whole, "ayse", Role.OPERATOR, "Yedi-Kule-Kapisi-17", "x", Mode(), str)
    before = content(whole)

    for name in DRY_RUNS:
        if name in ELSEWHERE | {"results import"}:  # tests/unit/scripts/results/test_results.py
            continue
        words = (
            [*name.split(), *OF_A_DRY_RUN[name]] if name in OF_A_DRY_RUN else call(name, tmp_path)
        )
        where = () if name == "init" else ("--site", whole)
        done = ssps(*words, "--why", "x", "--dry-run", *where)

        assert done.exit_code == int(name == "verify"), (name, done.output)
        assert not (tmp_path / "new").exists()
        assert not (tmp_path / "bags").exists()
        assert content(whole) == before, name


def test_the_commands_that_change_keys_or_parties_have_a_dry_run() -> None:
    assert set(DRY_RUNS) == {*CHANGES, *ELSEWHERE, "results import"}


def test_every_command_can_print_json() -> None:
    able = {n for n, c in COMMANDS.items() if any("--json" in p.opts for p in c.params)}

    assert set(COMMANDS) - able == set()


JSON_CHANGES = [
    name for name in CHANGES if name not in ("init", "verify", "export", "recover", "key adopt")
]


@pytest.mark.slow
def test_every_change_prints_one_json_object_of_what_it_did(
    whole: Path, tmp_path: Path, ssps: Ssps
) -> None:
    for name in JSON_CHANGES:
        if name in ("key host rotate", "key signing rotate"):
            host.prepare_next(whole / "keys" / name.split()[1])
        if name == "party requests accept":
            send_form(whole)

        done = ssps(*call(name, tmp_path), "--why", "x", "--json", "--site", whole)

        assert done.exit_code == 0, (name, done.output)
        found = json.loads(done.stdout)
        assert (found["command"], found["dry_run"], found["changed"]) == (name, False, True), found
        assert found["what"], found


def test_the_json_of_a_dry_run_has_the_preview_and_of_a_refusal_no_change(
    whole: Path, ssps: Ssps
) -> None:
    words = ("party", "set-ips", "parti-a", "192.0.2.9", "--why", "x", "--json", "--site", whole)
    shown = ssps(*words, "--dry-run")
    refused = ssps("absent", "remove", BOX, "--why", "x", "--json", "--site", whole)

    planned = json.loads(shown.stdout)
    assert (planned["dry_run"], planned["changed"]) == (True, False)
    assert any("192.0.2.9" in line for line in planned["preview"])
    assert refused.exit_code == 1
    assert json.loads(refused.stdout)["changed"] is False


def test_only_changing_commands_have_why() -> None:
    asking = {n for n, c in COMMANDS.items() if any("--why" in p.opts for p in c.params)}
    assert asking == {*CHANGES, *ELSEWHERE}


def test_a_refused_request_is_recorded_as_refused(whole: Path, ssps: Ssps) -> None:
    done = ssps("absent", "remove", BOX, "--why", "it came", "--site", whole)

    assert done.exit_code == 1
    asked, refused = events(whole)[-2:]
    assert (asked.event, asked.detail["command"]) == ("asked", "absent remove")
    assert (refused.event, refused.what, refused.outcome) == ("absent remove", BOX, "refused")
    assert refused.detail == {
        "errand": asked.detail["errand"],
        "of": 1,
        "why": "it came",
        "before": "expected",
        "after": None,
        "reason": f"{BOX} is not recorded as absent",
    }


def test_a_record_describes_the_state_before_and_after(whole: Path, ssps: Ssps) -> None:
    ssps("party", "set-ips", "parti-a", "192.0.2.8", "--why", "call 3", "--site", whole)
    ssps("key", "revoke", "parti-a", "first", "--why", "lost", "--site", whole)
    ssps("absent", "add", BOX, "--reason", "burnt", "--why", "minutes", "--site", whole)

    added, moved, revoked, _, absent = (
        event.detail for event in events(whole) if event.event != "settings"
    )
    [held] = [line for line in added["after"] or [] if isinstance(line, str)]  # type: ignore[union-attr]
    assert held.split()[1:4] == ["public-key", "first", "from"]
    assert datetime.fromisoformat(held.split()[4]).tzinfo
    assert "static_ips: 127.0.0.1" in str(moved["before"])
    assert "static_ips: 192.0.2.8" in str(moved["after"])
    assert (revoked["before"], revoked["after"]) == (added["after"], [])
    assert (absent["before"], absent["after"]) == ("expected", "absent: burnt, by ayse")


@pytest.mark.slow
def test_init_system_on_an_existing_site_is_recorded(
    whole: Path, ssps: Ssps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The users of this machine are not touched."""
    (whole / "intake").rmdir()
    monkeypatch.setattr(system, "check_machine", lambda *_: None)
    monkeypatch.setattr(system, "_create_users", lambda: ["user made"])
    monkeypatch.setattr(shutil, "chown", lambda *_: None)
    words = ("init", "--system", "--units", tmp_path / "units", whole)

    done = ssps(*words, "--why", "moved here")

    assert done.exit_code == 0, done.output
    last = events(whole)[-1]
    assert (last.event, last.what, last.detail["why"]) == (
        "init --system",
        str(whole),
        "moved here",
    )
    before, after = last.detail["before"], last.detail["after"]
    assert isinstance(before, list) and isinstance(after, list)
    assert before[1] == f"{whole / 'intake'}: does not exist"
    assert after[:2] == [
        f"{whole}: ssps:ssps 0751",
        f"{whole / 'intake'}: ssps:ssps-scan 2770",
    ]
    assert after[2].startswith(f"{tmp_path / 'units' / 'ssps.target'} sha256 ")


@pytest.mark.slow
def test_init_units_only_writes_the_units_and_changes_no_owner(
    whole: Path, ssps: Ssps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owners: list[Path] = []
    monkeypatch.setattr(system, "check_machine", lambda *_: None)
    monkeypatch.setattr(shutil, "chown", lambda path, *_: owners.append(Path(path)))
    words = ("init", "--units-only", "--units", tmp_path / "units", whole)

    done = ssps(*words, "--why", "a new version")

    assert done.exit_code == 0, done.output
    assert (tmp_path / "units" / "ssps-serve.service").exists()
    assert [path for path in owners if not path.is_relative_to(whole / LEDGERS)] == []
    last = events(whole)[-1]
    assert (last.event, last.detail["why"]) == ("init --units-only", "a new version")
    before, after = last.detail["before"], last.detail["after"]
    assert before == [] and isinstance(after, list)
    assert {str(line).split()[1] for line in after} == {"sha256"}  # no owner


def test_init_units_only_refuses_a_folder_that_is_no_site(tmp_path: Path, ssps: Ssps) -> None:
    refused = ssps("init", "--units-only", tmp_path, "--why", "x")

    assert refused.exit_code == 1
    assert "it has no site.toml" in refused.output

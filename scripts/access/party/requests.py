"""`ssps party requests`: the request forms that representatives have sent in the browser."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from config import load, times
from config.fault import Faults
from keys.access_requests import store
from keys.access_requests.comparison import Comparison
from keys.access_requests.store import AccessRequest, State
from scripts.access.party import acceptance
from scripts.shared import change, console, server_reload

_PARTY = click.argument("party_id", metavar="PARTY")
_DIGEST = click.option(
    "--sha256",
    metavar="HEX",
    default="",
    help="The beginning of the form's SHA-256, as printed on the paper. If it does not "
    "match, nothing is changed.",
)
_MIN_DIGITS = 8


@click.group()
def requests() -> None:
    """Decide on the request forms of parties.

    A party's representative fills in the form at /sipport, prints it and sends
    the signed paper. Compare both, then accept the request or return it.
    """


@requests.command("list")
@click.option("--open", "only_open", is_flag=True, help="Only those that wait for a decision.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@console.with_site
def list_(only_open: bool, as_json: bool, site: Path) -> None:
    """List the requests of all parties, the newest first.

    A damaged one is named after the list, and the exit code is 1.
    """
    load.load(site)
    made, faults = store.all_requests(site)
    found = [r for r in made if not only_open or r.state is State.SUBMITTED]
    if as_json:
        click.echo(json.dumps([_row(each) for each in found], ensure_ascii=False))
    else:
        _print_table(found)
    if faults:
        raise Faults(faults)


def _print_table(found: Sequence[AccessRequest]) -> None:
    table = Table("party", "number", "state", "sent", "by", "decided", "reason", box=None)
    for each in found:
        decided = f"{times.format_optional(each.decided)} {each.decided_by}"
        table.add_row(
            each.party,
            str(each.number),
            str(each.state),
            times.format_time(each.sent),
            each.by,
            decided if each.decided else "-",
            each.reason or "-",
        )
    console.out.print(table)


@requests.command()
@_PARTY
@click.argument("number", type=click.IntRange(min=1), required=False)
@click.option("--form", "as_form", is_flag=True, help="Print the form, as `party add` reads it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@console.with_site
def show(party_id: str, number: int | None, as_form: bool, as_json: bool, site: Path) -> None:
    """Compare request NUMBER of PARTY with what is in force.

    Default: the newest request. If you accept it, the lines with - are removed
    and the lines with + are added.
    """
    request = acceptance.find(site, party_id, number)
    if as_form:
        click.echo(request.form.decode(), nl=False)
        return
    found = acceptance.compare(site, request)
    if as_json:
        click.echo(json.dumps({**_row(request), **_compared(found)}, ensure_ascii=False))
        return
    for line in acceptance.preview(found):
        click.echo(line)
    click.echo(f"state: {request.state}{f', {request.reason}' if request.reason else ''}")
    if found.shared:
        click.echo(f"these addresses are registered for {', '.join(found.shared)} too")
    if found.frozen:
        click.echo("the addresses are frozen until the results are final (Genelge md. 4/b-2)")


@requests.command()
@_PARTY
@click.argument("number", type=click.IntRange(min=1))
@click.option(
    "--override-addresses",
    "override",
    is_flag=True,
    help="Change the addresses although they are frozen until the results are final.",
)
@_DIGEST
@change.mode_options(ask=True)
@console.why_option()
@console.with_site
def accept(
    party_id: str,
    number: int,
    override: bool,
    sha256: str,
    mode: change.Mode,
    why: str,
    site: Path,
) -> None:
    """Put request NUMBER of PARTY in force.

    Addresses, contact, users and public keys become those of the form. The
    initial password of each new user is printed once. If a step fails, what was
    done before it stays: accept the request again to do the rest.
    """
    found = acceptance.compare(site, _named(site, party_id, number, sha256))
    acceptance.refuse_impossible(site, found, override=override)
    lines = acceptance.preview(found)
    change.show(lines)
    change.note_outcome(what=party_id, preview=lines)
    if (mode.dry_run or mode.ask) and not change.may_apply(mode):
        return
    done = acceptance.Accepted()
    try:
        acceptance.accept(site, found, why, done, override=override)
    finally:
        change.note_outcome(accepted=done.complete, steps=done.steps, passwords=done.passwords)
        for login, password in done.passwords.items():
            click.echo(f"{login} {password}")
        if done.steps and not done.complete:
            _report_unfinished(site, party_id, number, done)
    click.echo(f"{party_id}: request {number} is accepted", err=True)
    for wait in done.waits:
        wait()


def _report_unfinished(site: Path, party_id: str, number: int, done: acceptance.Accepted) -> None:
    """Say what was done before a step failed, and have the daemons use it."""
    server_reload.reload_daemons(site)
    click.echo(
        f"{party_id}: request {number} is NOT accepted, because a step failed. Done before it: "
        f"{', '.join(done.steps)}. Mend the cause, and accept the request again: that does the "
        "rest. Passwords that are printed here are in force, and are not printed again.",
        err=True,
    )


@requests.command("return")
@_PARTY
@click.argument("number", type=click.IntRange(min=1))
@_DIGEST
@change.mode_options()
@console.why_option("The reason, which the representative sees.")
@console.with_site
def return_(
    party_id: str, number: int, sha256: str, mode: change.Mode, why: str, site: Path
) -> None:
    """Return request NUMBER of PARTY, with the reason."""
    request = _named(site, party_id, number, sha256)
    lines = [f"{party_id}: request {number}: {request.state} -> {State.RETURNED}"]
    change.show(lines)
    change.note_outcome(what=party_id, preview=lines)
    if mode.dry_run and not change.may_apply(mode):
        return
    acceptance.return_(site, request, why)
    change.note_outcome(changed=True)
    click.echo(f"{party_id}: request {number} is returned", err=True)


def _named(site: Path, party_id: str, number: int, sha256: str) -> AccessRequest:
    if sha256 and len(sha256) < _MIN_DIGITS:
        raise click.UsageError(f"--sha256: give at least {_MIN_DIGITS} digits")
    request = acceptance.find(site, party_id, number)
    if not request.sha256.startswith(sha256.lower()):
        wrong = f"the form's SHA-256 is {request.sha256[:16]}…, not {sha256}: compare it again"
        raise console.fault(str(request.file), "", wrong)
    return request


def _row(request: AccessRequest) -> dict[str, Any]:
    return {
        "party": request.party,
        "number": request.number,
        "state": str(request.state),
        "sent": times.format_time(request.sent),
        "by": request.by,
        "decided": times.format_optional(request.decided),
        "decided_by": request.decided_by or None,
        "reason": request.reason or None,
        "sha256": request.sha256,
    }


def _compared(found: Comparison) -> dict[str, Any]:
    return {
        "frozen": found.frozen,
        "shared": list(found.shared),
        "rows": [
            {
                "topic": str(row.topic),
                "in_force": list(row.in_force),
                "asked": list(row.asked),
                "differs": row.differs,
            }
            for row in found.rows
        ],
    }

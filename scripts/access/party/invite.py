"""`ssps party invite`: let a new party's representative send the request form in the browser."""

from pathlib import Path

import click

from config import amend, load
from config.event import Value
from config.party import PartyKind
from config.site import SITE_TOML, ring_file, users_file
from keys.access_requests import form
from keys.credentials.users import Role, login_name, name_fault
from scripts.access import credentials
from scripts.access.party.agreement import PartiesEdit
from scripts.access.user import user
from scripts.shared import change, console

PAGES = "/sipport/"
_KINDS = [str(kind) for kind in PartyKind if kind is not PartyKind.INDEPENDENT]


@click.command()
@click.argument("name", metavar="PARTY")
@click.argument("representative", metavar="NAME")
@click.option("--id", "party_id", help="The party's id. Default: made from its name.")
@click.option(
    "--kind",
    type=click.Choice(_KINDS),
    default=_KINDS[0],
    show_default=True,
    help="What it is by law.",
)
@click.option(
    "--scope",
    "places",
    multiple=True,
    metavar="PLACE",
    help="What it will see: a district or a board. Give it once for each. Default: everything.",
)
@change.mode_options()
@console.why_option()
@console.with_site
def invite(
    name: str,
    representative: str,
    party_id: str | None,
    kind: str,
    places: tuple[str, ...],
    mode: change.Mode,
    why: str,
    site: Path,
) -> None:
    """Register PARTY with a representative NAME only.

    The representative logs in at /sipport, sends the request form, and can see
    nothing else. The party has no addresses and no folder until its request is
    accepted: `ssps party requests`. The initial password is printed once.
    """
    settings = load.load(site)
    if settings.portal is None or not settings.portal.requests:
        closed = "is not true, so the representatives' pages are closed: set it, and reload"
        click.echo(f"note: {SITE_TOML}: portal.requests: {closed}", err=True)
    for text in (name, representative):
        if form.holds_kimlik(text):
            raise console.fault("PARTY", "", form.NO_KIMLIK)
    if (unusable := name_fault(representative)) is not None:
        raise console.fault("NAME", "", unusable)
    invited = party_id or form.id_from_name(name)
    for left in (ring_file(invited), users_file(invited)):
        if (site / left).exists():
            message = f"left over from an earlier {invited}: remove it, or choose another id"
            raise console.fault(str(left), "", message)
    entry = {
        "id": invited,
        "name": name,
        "kind": kind,
        "scope": list(places) or "all",
        "invited": True,
    }
    detail: dict[str, Value] = {"invited": True, "user": login_name(invited, representative)}
    made = PartiesEdit(
        site, "party invite", invited, why, lambda text: amend.add_party(text, entry), detail
    )
    if change.carry_out(site, made, mode) is None:
        return
    password = credentials.new_password()
    login = login_name(invited, representative)

    def print_password() -> None:
        address = (settings.portal.address if settings.portal else "").rstrip("/") + PAGES
        console.print_message_for(
            invited,
            f"Talep formunu {address} adresinde doldurun. Kullanici adiniz {login}. Ilk giriste "
            "parolanizi belirler ve telefonunuza bir dogrulama uygulamasi kurarsiniz.",
            f"Fill in the request form at {address}. Your user name is {login}. At the first login "
            "you set a password and set up an authenticator on your telephone.",
        )
        click.echo(f"The initial password of {login}, shown only this once:", err=True)
        click.echo(password)

    user.add_user(
        site,
        invited,
        representative,
        Role.REPRESENTATIVE,
        password,
        why,
        change.Mode(),
        print_password,
    )

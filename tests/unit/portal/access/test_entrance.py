"""Who is let in is decided from one state of the users, at one moment."""

from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_address
from typing import Any

import office
import pytest
import web_site
from web_site import HOME, PASSWORD, Portal

from config.election import Rehearsal
from keys.credentials import admission, user_changes
from keys.operations import user_files
from portal.access.identity import Identity
from portal.access.sessions import Stage


def remove_after(portal: Portal, patch: pytest.MonkeyPatch, check: str, name: str) -> None:
    """Remove a user as soon as a rule of admission has been applied to it."""
    rule = getattr(admission, check)

    def applied(*arguments: Any) -> Any:
        found = rule(*arguments)
        held = user_files.load(portal.site, "parti-a")
        if held.named(name) is not None:
            web_site.write_users(portal.site, user_changes.remove(held, name))
        return found

    patch.setattr(admission, check, applied)


def test_a_user_who_is_removed_just_after_the_check_is_out_at_the_next_request(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = portal.signed_in()
    remove_after(portal, monkeypatch, "recheck_user", "ayse")

    assert browser.get("/hesap").status_code == 200
    assert browser.get("/hesap").headers["location"] == "/giris?sonra=/hesap"


def test_a_representative_who_is_removed_just_after_the_check_is_out_at_the_next_request(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = ip_address(HOME)
    fingerprint = web_site.password().fingerprint
    _, session = portal.requests.sessions.begin(
        "parti-a", "temsilci", fingerprint, "", Stage.FULL, HOME
    )
    remove_after(portal, monkeypatch, "recheck_representative", "temsilci")

    assert isinstance(portal.requests.identify(session, address), Identity)
    assert portal.requests.identify(session, address) is admission.Reason.UNKNOWN_USER


def test_a_call_is_refused_if_its_user_is_removed_while_the_password_is_checked(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = portal.client(auth=("parti-a.servis", PASSWORD))
    remove_after(portal, monkeypatch, "decide_user", "servis")

    assert program.get("/v1/snapshots").status_code == 401
    event, _, _, _, detail = portal.records()[-1]
    assert (event, detail["reason"]) == ("login-refused", "unknown user")


def test_a_request_at_the_end_of_a_rehearsal_gets_no_data_of_the_election(portal: Portal) -> None:
    closes = office.OPENS - timedelta(hours=1)
    rehearsal = Rehearsal("prova", "Prova", closes - timedelta(hours=2), closes, portal.site / "p")
    entrance = portal.entrance
    entrance.settings = replace(entrance.settings, rehearsals=(rehearsal,))
    fingerprint = web_site.password().fingerprint
    portal.now = closes - timedelta(seconds=1)
    _, session = entrance.sessions.begin("parti-a", "ayse", fingerprint, "prova", Stage.FULL, HOME)
    for ticks in range(4):  # the rehearsal ends after so many looks at the clock
        times = iter([portal.now] * ticks)
        entrance.clock = lambda left=times: next(left, closes)

        found = entrance.identify(session, ip_address(HOME))

        if isinstance(found, Identity):
            assert (found.rehearsal, found.site) == ("prova", rehearsal.folder)
        else:
            assert (ticks, found) == (0, admission.Reason.REHEARSAL)

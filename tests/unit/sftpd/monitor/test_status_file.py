from datetime import UTC, datetime
from pathlib import Path

import office
import pytest

from config import load
from config.site import SERVER_STATE, SIGNING_KEYS
from keys.credentials import ring
from keys.credentials.ring import Credential, CredentialKind, Ring
from keys.operations import ring_files
from keys.server_keys import host
from sftpd.access.revalidate import Rings
from sftpd.monitor.status_file import StatusFile

NOW = datetime(2023, 5, 14, 15, tzinfo=UTC)
ONE, TWO = (
    Credential(CredentialKind.PASSWORD, name, ring.fingerprint(name.encode()), name, NOW, None, "t")
    for name in ("one", "two")
)


def test_only_a_ring_that_has_changed_is_digested_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = office.site(tmp_path / "site")
    host.create_key(site / SIGNING_KEYS / host.SIGNING_KEY, "ssps")
    ring_files.apply(site, Ring("parti-a", (ONE,)))
    settings, file = load.load(site), StatusFile(site, Rings(site))
    digested: list[Ring] = []
    digest = ring.ring_digest

    def watched(held: Ring) -> str:
        digested.append(held)
        return digest(held)

    monkeypatch.setattr(ring, "ring_digest", watched)

    def update() -> bytes:
        digested.clear()
        file.update(settings, (), (), ())
        return (site / SERVER_STATE).read_bytes()

    before = update()
    assert Ring("parti-a", (ONE,)) in digested
    assert update() == before
    assert digested == []

    ring_files.apply(site, Ring("parti-a", (ONE, TWO)))
    assert update() != before
    assert digested == [Ring("parti-a", (ONE, TWO))]

import ast
from collections.abc import Iterator
from pathlib import Path

from config import site

PRODUCT = Path(site.__file__).parents[1]
PACKAGES = ("config", "keys", "publisher", "sftpd", "portal", "scripts")
PATHS = {value for value in vars(site).values() if isinstance(value, Path)}
FOLDERS = {path.parts[0] for path in PATHS}
FILES = {path.name for path in PATHS if path.suffix} | {
    site.SITE_TOML,
    site.PARTIES_TOML,
    site.REGISTRY_CSV,
    site.REHEARSAL_TOML,
    site.SCANNED_CSV,
}


def test_the_names_in_a_site_are_fixed() -> None:
    assert {str(path) for path in PATHS} == {
        "intake", "keys", "keys/host", "keys/signing", "keys/parties", "store", "trees", "feed",
        "quarantine", "ledgers", "rehearsals", "clients", "state", "state/registry.sqlite",
        "state/catalog.sqlite", "state/accounts.json", "state/spool", "state/errands",
        "state/publishing.json", "state/serving.json", "state/rotation.json", "state/signer.sock",
        "results", "feed/sonuclar", "snapshots", "snapshots/latest", "state/results.sqlite",
        "state/results-spool",
        "keys/users", "keys/tls", "state/portal.json", "state/portal-sessions.sqlite",
        "state/announcements.json", "state/expected-pace.json",
        "state/sessions.json", "state/web-sessions.json", "state/ended-sessions.json",
        "state/verified.json", "state/staff-cache", "state/cosigned", "state/signed",
        "keys/operators.toml", "clients/staff.json",
        "state/staff.json", "state/staff-sessions.sqlite",
        "state/requests", "state/request-sessions.sqlite", "state/hosts",
        "state/reload.json", "state/gateway.json",
    }  # fmt: skip
    assert site.LEDGER_NAMES == ("transfer", "filing", "operations", "results", "access", "staff")
    assert str(site.ring_file("parti-a")) == "keys/parties/parti-a.toml"
    assert str(site.original_file("9f86d081")) == "store/9f/86/9f86d081"
    assert str(site.lock_file("publish")) == "state/publish.lock"


def test_a_named_host_has_ledgers_and_state_files_of_its_own() -> None:
    assert site.ledger_name(site.TRANSFER, "gw2") == "transfer@gw2"
    assert site.ledger_name(site.OPERATIONS, "gw2") == "operations"
    assert (site.ledger_kind("transfer@gw2"), site.ledger_host("transfer@gw2")) == (
        "transfer",
        "gw2",
    )
    assert str(site.host_state(site.SERVER_STATE, "gw2")) == "state/hosts/gw2/serving.json"
    assert str(site.lock_file("serve", "gw2")) == "state/hosts/gw2/serve.lock"


def test_the_only_host_has_the_names_of_a_site_with_one_host() -> None:
    assert site.ledger_name(site.TRANSFER, "") == "transfer"
    assert (site.ledger_kind("transfer"), site.ledger_host("transfer")) == ("transfer", "")
    assert site.host_state(site.SERVER_STATE, "") == site.SERVER_STATE
    assert site.lock_file("serve", "") == site.lock_file("serve")


def test_ledgers_of_named_hosts_are_found_after_the_six_of_every_site(tmp_path: Path) -> None:
    for name in (
        "transfer@gw2",
        "filing@a",
        "operations@gw2",
        "rubbish@gw2",
        "access@GW",
        "transfer",
    ):
        (tmp_path / name).mkdir()

    assert site.ledger_names(tmp_path) == (*site.LEDGER_NAMES, "filing@a", "transfer@gw2")
    assert site.ledgers_of_kind(tmp_path, "transfer") == ("transfer", "transfer@gw2")
    assert site.ledger_names(tmp_path / "none") == site.LEDGER_NAMES


def test_a_name_of_a_host_is_short_and_safe() -> None:
    good, bad = (
        ("a", "gw-2", "0" * 16),
        ("", "-a", "GW", "a b", "a/b", "..", "a@b", "0" * 17, "a\n"),
    )

    assert [name for name in (*good, *bad) if site.is_host(name)] == list(good)


def test_no_other_module_spells_a_path_of_a_site() -> None:
    found = [
        f"{file.relative_to(PRODUCT)}:{line}: {text!r}"
        for package in PACKAGES
        for file in sorted((PRODUCT / package).rglob("*.py"))
        if file != Path(site.__file__)
        for line, text in spelled(ast.parse(file.read_text(encoding="utf-8")))
    ]

    assert found == []


def test_a_spelled_path_is_found() -> None:
    lines = (
        'site / "trees" / party',
        'Path("state", "x")',
        'site / f"ledgers/{name}"',
        'fault("site.toml", "")',
        'event == "state"',
    )

    assert [bool(list(spelled(ast.parse(line)))) for line in lines] == [True] * 4 + [False]


def spelled(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and text of each string that spells a path of a site.

    That is the name of one of its files anywhere, or of one of its folders after a `/` or in
    `Path(...)`. Docstrings and messages are longer and do not match.
    """
    for node in ast.walk(tree):
        match node:
            case ast.BinOp(op=ast.Div(), right=part):
                parts = [part]
            case ast.Call(func=ast.Name(id="Path"), args=[*parts]):
                pass
            case ast.Constant(value=str(text)) if text in FILES:
                yield node.lineno, text
                continue
            case _:
                continue
        for part in parts:
            if isinstance(part, ast.JoinedStr) and part.values:
                part = part.values[0]
            spelling = part.value if isinstance(part, ast.Constant) else None
            if isinstance(spelling, str) and spelling.split("/")[0] in FOLDERS:
                yield node.lineno, spelling

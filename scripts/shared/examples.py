"""One example of every command, which its `--help` ends with."""

import click

_WHY = "--why 'form 3'"
_BOX = "34-istanbul-1/kadikoy-2/1234"
_BOARD = "34-istanbul-1/kadikoy-2"
_HELD = "20230514T140003000041-9f3c21ab-a.jpg"
_FINGERPRINT = "SHA256:wEtwXy0n"
EXAMPLES = {
    "init": f"ssps init /srv/ssps/2023 {_WHY}",
    "check": "ssps check --site /srv/ssps/2023",
    "recover": f"ssps recover --dry-run {_WHY}",
    "status": f"ssps status {_BOARD} --missing",
    "verify": "ssps verify --quick",
    "rebuild": f"ssps rebuild parti-a {_WHY}",
    "absent add": f"ssps absent add {_BOX} --reason burnt {_WHY}",
    "absent list": "ssps absent list --json",
    "absent remove": f"ssps absent remove {_BOX} {_WHY}",
    "desk identify": f"ssps desk identify {_HELD} 1093717526 --why ok",
    "desk list": "ssps desk list --all",
    "desk reject": f"ssps desk reject {_HELD} --why 'not a sheet'",
    "desk show": f"ssps desk show {_HELD}",
    "registry find": f"ssps registry find {_BOX}",
    "registry import": f"ssps registry import kayit.csv --dry-run {_WHY}",
    "ballot import": f"ssps ballot import ballot.csv --dry-run {_WHY}",
    "ballot show": "ssps ballot show --json",
    "results check": f"ssps results check --place {_BOARD}",
    "results coverage": "ssps results coverage --csv",
    "results history": f"ssps results history --secim mv --place {_BOARD}",
    "results import": "ssps results import rows.csv headings.csv --dry-run",
    "results quarantine": "ssps results quarantine --csv",
    "results show": f"ssps results show {_BOX}",
    "party add": "ssps party add --form form.toml --dry-run",
    "party forget-witness": f"ssps party forget-witness parti-a {_WHY}",
    "party letter": "ssps party letter parti-a --pdf letter.pdf",
    "party list": "ssps party list --json",
    "party remove": f"ssps party remove parti-a {_WHY}",
    "party resume": f"ssps party resume parti-a {_WHY}",
    "party set-ips": f"ssps party set-ips parti-a 192.0.2.8 192.0.2.9 {_WHY}",
    "party set-scope": f"ssps party set-scope parti-b 34-istanbul-1 {_WHY}",
    "party show": "ssps party show parti-a",
    "party suspend": f"ssps party suspend parti-a {_WHY}",
    "party test": "ssps party test parti-a",
    "key add": f"ssps key add parti-a --public-key a.pub --not-before 16.30 {_WHY}",
    "key adopt": f"ssps key adopt parti-a --dry-run {_WHY}",
    "key host next": f"ssps key host next --dry-run {_WHY}",
    "key host rotate": f"ssps key host rotate --dry-run {_WHY}",
    "key host show": "ssps key host show",
    "key host withdraw": f"ssps key host withdraw --dry-run {_WHY}",
    "key list": "ssps key list parti-a --json",
    "key revoke": f"ssps key revoke parti-a {_FINGERPRINT} {_WHY}",
    "key rotate": f"ssps key rotate parti-a --password --overlap 1h {_WHY}",
    "key signing next": f"ssps key signing next --dry-run {_WHY}",
    "key signing rotate": f"ssps key signing rotate --dry-run {_WHY}",
    "key signing show": "ssps key signing show",
    "key signing withdraw": f"ssps key signing withdraw --dry-run {_WHY}",
    "operator add": f"ssps operator add ayse --role supervisor {_WHY}",
    "operator list": "ssps operator list",
    "operator remove": f"ssps operator remove ayse {_WHY}",
    "operator reset": f"ssps operator reset ayse --totp {_WHY}",
    "operator resume": f"ssps operator resume ayse {_WHY}",
    "operator suspend": f"ssps operator suspend ayse {_WHY}",
    "staff": "ssps staff --site /srv/ssps",
    "user add": f"ssps user add parti-a ayse --role web {_WHY}",
    "user list": "ssps user list parti-a",
    "user remove": f"ssps user remove parti-a.ayse {_WHY}",
    "user reset": f"ssps user reset parti-a.ayse --totp {_WHY}",
    "user resume": f"ssps user resume parti-a.ayse {_WHY}",
    "user season": f"ssps user season --dry-run {_WHY}",
    "user suspend": f"ssps user suspend parti-a.ayse {_WHY}",
    "run": "ssps run --site /srv/ssps/2023",
    "publish": "ssps publish --site /srv/ssps/2023",
    "serve": "ssps serve --site /srv/ssps/2023",
    "portal": "ssps portal --site /srv/ssps/2023",
    "portal announce add": f"ssps portal announce add 'Bakım 23.30' {_WHY}",
    "portal announce list": "ssps portal announce list --all",
    "portal announce withdraw": f"ssps portal announce withdraw 1 {_WHY}",
    "export": f"ssps export parti-a --to /media/disk {_WHY}",
    "audit compare": "ssps audit compare parti-a/akis parti-b/akis",
    "audit export": "ssps audit export --format ecs > records.ndjson",
    "audit gap": "ssps audit gap --longer-than 60 --until -45m",
    "audit query": "ssps audit query --party parti-a --since 16.30 --until +45m",
    "audit receipt verify": "ssps audit receipt verify receipt.json --key allowed_signers",
    "audit report": "ssps audit report parti-a -o reports --lang en",
    "audit result": f"ssps audit result {_BOX}",
    "audit tail": "ssps audit tail --ledger filing -n 50 -f",
    "audit timeline": "ssps audit timeline 1093717526",
    "audit verify": "ssps audit verify copies/ --key allowed_signers",
    "rehearse init": "ssps rehearse init /tmp/prova --boxes 12 --parties 3",
    "rehearse national": "ssps rehearse national --factor 4 --minutes 5",
    "rehearse scan": "ssps rehearse scan --site /tmp/prova --rate 5",
}


def add_examples(command: click.Command, name: str) -> None:
    """End the help of a command, and of the commands below it, with their examples."""
    if name in EXAMPLES:
        command.epilog = f"\b\nExample:\n  {EXAMPLES[name]}"
    if isinstance(command, click.Group):
        for each, inner in command.commands.items():
            add_examples(inner, f"{name} {each}")

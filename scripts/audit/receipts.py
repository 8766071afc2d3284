"""`ssps audit receipt`: make a signed proof of what a party downloaded, or verify one offline."""

import json
import sys
from pathlib import Path

import click

from config import times
from keys.ledger.receipt import (
    InvalidReceipt,
    NotSignedYet,
    format_receipt,
    make_receipt,
    parse_receipt,
    verify_receipt,
)
from keys.ledger.record import format_record
from keys.ledger.tiles import HashesDamaged, HashesMissing
from scripts.audit import evidence, index
from scripts.audit.record_text import format_record_line
from scripts.shared import console

# Over SFTP the record of the close says that the transfer was complete. The record of the web site
# is written before the bytes are sent.
_DOWNLOAD = """who = ? and what = ? and outcome = 'ok' and (
    (name = 'transfer' and event = 'close' and (detail->>'complete') = 'true')
    or (name = 'access' and event in ('sheet', 'download'))) order by time desc limit 1"""


@click.group(cls=console.default_command("make"))
def receipt() -> None:
    """Prove what a party downloaded, and verify such a proof.

    `receipt PARTY PATH` is the same as `receipt make PARTY PATH`.

    A proof is one text file (C2SP tlog-proof): the record, its place in the Merkle tree and the
    signed checkpoint.
    """


@receipt.command(hidden=True)
@click.argument("party")
@click.argument("path")
@evidence.folders_argument
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="File to write. Default: stdout."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object with the proof.")
@console.with_optional_site
def make(
    party: str,
    path: str,
    folders: tuple[Path, ...],
    output: Path | None,
    as_json: bool,
    site: Path | None,
) -> None:
    """Make a proof of the last complete download of PATH by PARTY.

    PATH is a sheet, which the party fetched over SFTP or saw on the web site, or
    the address of a file that a user of the web site saved.

    The proof is one text file (C2SP tlog-proof): the record, its place in the Merkle tree and the
    signed checkpoint.

    FOLDER is a ledger or contains ledgers. Default: the site's ledgers.
    """
    sources = evidence.find(folders, (), site, with_keys=False)
    database = index.open_index(sources.ledgers)
    what = "/" + path.lstrip("/")
    found = list(index.select_records(database, _DOWNLOAD, [party, what]))
    if not found:
        wrong = f"no record of a complete download by {party}"
        raise console.fault(what, "", f"{wrong}: see `ssps audit query --path {what}`")
    log, record = found[0]
    try:
        content = format_receipt(make_receipt(Path(log), record.seq))
    except NotSignedYet as error:
        raise console.fault(log, "", f"{error}: try again in a second") from None
    except HashesDamaged as error:
        raise console.fault(log, "", str(error)) from None
    except HashesMissing as error:
        raise console.fault(log, "", f"{error}: copy the whole folder") from None
    if as_json:
        fields = {"record": json.loads(format_record(record)), "receipt": content.decode()}
        click.echo(json.dumps(fields, ensure_ascii=False))
        if output is None:
            return
    if output is None:
        sys.stdout.buffer.write(content)
    else:
        output.write_bytes(content)
        click.echo(f"{output}: {format_record_line(record)}", err=True)


@receipt.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@evidence.key_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@console.with_optional_site
def verify(file: Path, key_files: tuple[Path, ...], as_json: bool, site: Path | None) -> None:
    """Verify the receipt in FILE.

    This needs no site, only the public key of YSK.
    """
    keys = evidence.public_keys(key_files, site)
    try:
        record, checkpoint = verify_receipt(parse_receipt(file.read_bytes()), keys)
    except (ValueError, InvalidReceipt) as error:
        raise console.fault(str(file), "", str(error)) from None
    if as_json:
        fields = {
            "file": str(file),
            "valid": True,
            "record": json.loads(format_record(record)),
            "size": checkpoint.size,
            "signed_at": times.format_optional(checkpoint.time),
        }
        click.echo(json.dumps(fields, ensure_ascii=False))
        return
    when = f" at {times.format_time(checkpoint.time)}" if checkpoint.time else ""
    click.echo(format_record_line(record))
    click.echo(
        f"{file}: valid: record {record.seq} of {checkpoint.size} "
        f"in {checkpoint.origin}, signed{when}"
    )

"""`ssps audit result`: prove where the numbers of a box in a snapshot come from, offline."""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from config.fault import Fault, Faults
from config.result import Result
from config.site import SNAPSHOTS
from config.snapshot import MANIFEST, SIGNATURE
from keys.ledger.receipt import InvalidReceipt, NotSignedYet, make_receipt, verify_receipt
from keys.ledger.tiles import HashesMissing
from scripts.audit import evidence, result_chain
from scripts.audit.result_chain import RecordedResults, ResultFolders
from scripts.shared import console


@click.command()
@click.argument("box")
@evidence.folders_argument
@click.option("--snapshot", "number", type=click.IntRange(1), help="Default: the newest snapshot.")
@evidence.key_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each contest.")
@console.with_optional_site
def result(
    box: str,
    folders: tuple[Path, ...],
    number: int | None,
    key_files: tuple[Path, ...],
    as_json: bool,
    site: Path | None,
) -> None:
    """Prove where the numbers of BOX in a snapshot come from.

    A BOX is given as 34-istanbul-1/kadikoy-2/1234. For each contest this names the row of the
    snapshot, its record in the results ledger, and the line of the batch, and verifies: the
    snapshot's signature and files, the record's place under a signed checkpoint, the digest of the
    batch, and that all three state the same numbers. The database is not read.

    FOLDER is a copy of a site, with its folders ledgers, snapshots and store. Default: the site.
    The exit code is 1 if anything does not match.
    """
    parts = box.strip("/").split("/")
    if len(parts) != 3:
        raise click.UsageError(f"{box!r} is not a box: write it as 34-istanbul-1/kadikoy-2/1234")
    place = parts[0], parts[1], parts[2].removeprefix("sandik-")
    sources = evidence.find(folders, key_files, site)
    found = result_chain.find_results(sources.ledgers)
    if not found:
        raise console.fault(str(SNAPSHOTS), "", "has no snapshot beside the ledgers")
    proofs = list(_proofs(found[0], place, number, sources.keys))
    if not proofs:
        raise click.UsageError(f"{box} has no result in that snapshot")
    for proof in proofs:
        click.echo(json.dumps(proof, ensure_ascii=False) if as_json else _format(proof))
    sys.exit(any(proof["problems"] for proof in proofs))


def _proofs(
    folders: ResultFolders,
    place: tuple[str, str, str],
    number: int | None,
    keys: Sequence[Ed25519PublicKey],
) -> Iterator[dict[str, Any]]:
    number = number or folders.numbers()[-1]
    folder, named = folders.snapshot(number), f"{SNAPSHOTS}/{number:08}"
    try:
        manifest = folders.manifest(number)
        where = "cevre = ? AND kurul = ? AND sandik = ?"
        rows = list(result_chain.rows_of(folder, manifest, where, place))
    except (OSError, ValueError, KeyError) as error:
        raise Faults([Fault(f"{named}/{MANIFEST}", "", f"cannot be read: {error}")]) from None
    problems = []
    if problem := result_chain.signature_problem(folder, MANIFEST, SIGNATURE, keys):
        problems.append(f"{named}/{MANIFEST}: {problem}")
    problems += result_chain.changed_files(folder)
    recorded = result_chain.read_recorded(folders.ledger)
    digest = result_chain.manifest_digest(folder)
    if recorded.snapshots.get(number, (0, ""))[1] != digest:
        problems.append(f"{named}/{MANIFEST}: is not the one that the results ledger names")
    for row in rows:
        yield {
            "snapshot": number,
            "closed_at": manifest["closed_at"],
            "manifest": digest,
            **_proof(folders, row, recorded, keys, manifest["election"], list(problems)),
        }


def _proof(
    folders: ResultFolders,
    row: Result,
    recorded: RecordedResults,
    keys: Sequence[Ed25519PublicKey],
    election: str,
    problems: list[str],
) -> dict[str, Any]:
    digest = row.digest()
    proof: dict[str, Any] = {
        "secim": row.key.secim.value,
        "belge": row.key.belge.value,
        "place": row.key.place,
        "version": row.version,
        "reason": row.reason,
        "digest": digest,
        "problems": problems,
    }
    record = result_chain.record_of(row, recorded)
    if record is None:
        problems.append("the results ledger has no record of these numbers")
        return proof
    try:
        proven, checkpoint = verify_receipt(make_receipt(folders.ledger, record.seq), keys)
        proof["checkpoint"] = {"origin": checkpoint.origin, "size": checkpoint.size}
        proof["sheet"] = proven.event.detail.get("sheet")
        proof["sheet_sha256"] = proven.event.detail.get("sheet_sha256")
    except (InvalidReceipt, NotSignedYet, HashesMissing, ValueError) as error:
        problems.append(f"record {record.seq} is not proven: {error}")
    proof |= {"seq": record.seq, "batch": record.name, "batch_sha256": record.batch}
    proof["line"] = record.line
    if (problem := result_chain.batch_problem(folders, row, record, election)) is not None:
        problems.append(problem)
    return proof


def _format(proof: dict[str, Any]) -> str:
    lines = [
        f"{proof['secim']}  {proof['place']}  version {proof['version']}  {proof['reason']}",
        f"    snapshot {proof['snapshot']}, closed at {proof['closed_at']}, "
        f"manifest sha256 {proof['manifest']}",
        f"    row sha256 {proof['digest']}",
    ]
    if "seq" in proof:
        record = f"    record {proof['seq']} of the results ledger"
        if "checkpoint" in proof:
            signed = proof["checkpoint"]
            record += f", under the signed checkpoint of {signed['size']} records"
            record += f" of {signed['origin']}"
        lines.append(record)
        lines.append(f"    batch {proof['batch']}, line {proof['line']}")
        lines.append(f"    batch sha256 {proof['batch_sha256']}")
    if proof.get("sheet"):
        lines.append(f"    sheet {proof['sheet']}, sha256 {proof['sheet_sha256']}")
    lines += [f"    WRONG: {problem}" for problem in proof["problems"]]
    if not proof["problems"]:
        lines.append("    OK: snapshot, record and batch state the same numbers")
    return "\n".join(lines)

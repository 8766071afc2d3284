"""Kaydet: Excel and CSV files of exactly what a page shows, and the sheets of a search as a ZIP.

    /kaydet/sandiklar.xlsx  .csv      the table of /arama, of a place or of the whole country
    /kaydet/degisiklikler.xlsx  .csv
    /kaydet/eksikler.xlsx  .csv
    /kaydet/uyarilar.xlsx  .csv
    /kaydet/tutanaklar.zip            the originals of the sheets, with SHA256SUMS

The rest of the address is that of the page. A file's name has the snapshot and the user.
"""

import tempfile
from collections.abc import Iterator

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from config.event import AccessEvent
from portal.access.gate import Refusal, entrance_of, gated_router, record
from portal.access.identity import Identity
from portal.data.criteria import Criteria
from portal.data.scoped import PLACE_ORDER, ScopedData
from portal.exports import tables
from portal.exports.csv_file import write_csv
from portal.exports.file_name import file_name, of_search
from portal.exports.sheets_zip import stream_zip
from portal.exports.tables import ExportTable
from portal.exports.xlsx_file import write_xlsx
from portal.party.dependencies import Data, Visitor, search_of
from portal.party.pages.changes import since_of
from publisher.results.checks.finding import Check

router = gated_router()
_XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
_KEPT_IN_MEMORY = 4 << 20  # bytes of a file that is made
_CHUNK = 1 << 18


@router.get("/kaydet/tutanaklar.zip")
def sheets(request: Request, who: Visitor, data: Data) -> Response:
    """Send the originals of the sheets of a search."""
    criteria = search_of(request, data)
    name = _name(request, who, data, f"tutanaklar-{of_search(criteria)}", "zip")
    record(request, AccessEvent.DOWNLOAD, snapshot=data.snapshot.number, file=name)
    note = f"SSPS, geçici sonuç, {who.login}, anlık görüntü {data.snapshot.number}"
    content = stream_zip(who.site, data.sheets_of(criteria), note)
    return StreamingResponse(content, media_type="application/zip", headers=_headers(name))


@router.get("/kaydet/{what}.{form}")
def save(request: Request, what: str, form: str, who: Visitor, data: Data) -> Response:
    """Send a table as a file."""
    criteria = search_of(request, data)
    table = _table(request, data, criteria, what)
    if table is None or form not in ("csv", "xlsx"):
        raise Refusal(404, "missing", "Böyle bir dosya yok.")
    name = _name(request, who, data, f"{what}-{of_search(criteria)}", form)
    record(request, AccessEvent.DOWNLOAD, snapshot=data.snapshot.number, file=name)
    if form == "csv":
        return StreamingResponse(
            write_csv(table), media_type="text/csv; charset=utf-8", headers=_headers(name)
        )
    return StreamingResponse(_excel(table, who.login), media_type=_XLSX, headers=_headers(name))


def _table(request: Request, data: ScopedData, criteria: Criteria, what: str) -> ExportTable | None:
    query = request.query_params
    try:
        match what:
            case "sandiklar":
                sort = query.get("sirala", PLACE_ORDER)
                data.table(criteria, sort, limit=1)  # raises ValueError for an unknown column
                return tables.boxes(data, criteria, sort, query.get("yon") == "azalan")
            case "degisiklikler":
                return tables.changes(data, criteria, since_of(request))
            case "eksikler":
                return tables.gaps(data, criteria, query.get("ne") == "tutanak")
            case "uyarilar":
                wanted = query.get("kontrol", "")
                return tables.findings(data, criteria, Check(wanted) if wanted else None)
    except ValueError:
        raise Refusal(422, "bad-query", "Adresteki bir ölçüt anlaşılamadı.") from None
    return None


def _name(request: Request, who: Identity, data: ScopedData, what: str, form: str) -> str:
    return file_name(what, data.snapshot, entrance_of(request).clock(), who.login, form)


def _headers(name: str) -> dict[str, str]:
    return {"content-disposition": f'attachment; filename="{name}"'}


def _excel(table: ExportTable, author: str) -> Iterator[bytes]:
    with tempfile.SpooledTemporaryFile(_KEPT_IN_MEMORY) as file:
        write_xlsx(table, file, {"author": author})
        file.seek(0)
        while chunk := file.read(_CHUNK):
            yield chunk

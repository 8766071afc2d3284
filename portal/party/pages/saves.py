"""Kaydet: Excel and CSV files of exactly what a page shows, and the sheets of a search as a ZIP.

    /kaydet/sandiklar.xlsx  .csv      the table of /arama, of a place or of the whole country
    /kaydet/degisiklikler.xlsx  .csv
    /kaydet/eksikler.xlsx  .csv
    /kaydet/uyarilar.xlsx  .csv
    /kaydet/birlestirme.xlsx  .csv    the aggregate sheets of a place beside the sums of their boxes
    /kaydet/tutanaklar.zip            the originals of the sheets, with SHA256SUMS

The rest of the address is that of the page. A file's name has the snapshot, the user and the number
of its record in the access ledger; an Excel file and a ZIP say the same inside. Name and content of
a rehearsal's file say that it is one.
"""

import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import iterate_in_threadpool

from config.event import AccessEvent
from portal.access.gate import Refusal, entrance_of, gated_router, record, when_recorded
from portal.access.identity import Identity
from portal.access.limits import MAX_FILES
from portal.data.answers.boxes import PLACE_ORDER
from portal.data.criteria import Criteria
from portal.data.queries.sheets import SheetFile
from portal.data.scoped import ScopedData
from portal.exports import tables
from portal.exports.csv_file import write_csv
from portal.exports.file_name import Saved, file_name, of_search
from portal.exports.sheets_zip import stream_zip
from portal.exports.stored import stored
from portal.exports.tables import ExportTable
from portal.exports.xlsx_file import write_xlsx
from portal.party.dependencies import Data, Visitor, search_of
from portal.party.pages.changes import since_of
from publisher.results.checks.finding import Check

router = gated_router()
_XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
_KEPT_IN_MEMORY = 4 << 20  # bytes of a file that is made
_CHUNK = 1 << 18


class _Saving:
    """A file that is being saved; its record has a number once the gate has written it."""

    def __init__(self, request: Request, who: Identity, data: ScopedData) -> None:
        self._request, self._who, self._snapshot = request, who, data.snapshot.number
        now = entrance_of(request).clock()
        self.saved = Saved(who.login, 0, data.snapshot, now, who.rehearsal)

    def answer(
        self, what: str, extension: str, media_type: str, content: Iterator[bytes]
    ) -> Response:
        """Return the answer, which is named and made after its record is written.

        It is cut off when the user is no longer admitted, or the session has ended.
        """
        entrance, state = entrance_of(self._request), self._request.state
        files = entrance.limits.files
        if files.is_full(self._who.login):
            many = f"Aynı anda en çok {MAX_FILES} dosya kaydedilebilir. Bitmelerini bekleyin."
            raise Refusal(429, "too-many", many, {"Retry-After": "10"})

        async def made() -> AsyncIterator[bytes]:
            if files.is_full(self._who.login):
                state.abort()  # the others came at the same moment
                return
            with files.counted(self._who.login):
                async for chunk in iterate_in_threadpool(content):
                    if not (
                        entrance.sessions.is_live(state.token)
                        and entrance.still_admitted(self._who)
                    ):
                        state.abort()
                        return
                    yield chunk

        response = StreamingResponse(made(), media_type=media_type)

        def recorded(number: int) -> None:
            self.saved = replace(self.saved, record=number)
            name = file_name(what, self.saved, extension)
            response.headers["content-disposition"] = f'attachment; filename="{name}"'

        file = f"{what}.{extension}"
        record(self._request, AccessEvent.DOWNLOAD, snapshot=self._snapshot, file=file)
        when_recorded(self._request, recorded)
        return response


@router.get("/kaydet/tutanaklar.zip")
def sheets(request: Request, who: Visitor, data: Data) -> Response:
    """Send the originals of the sheets of a search."""
    criteria = search_of(request, data)
    saving = _Saving(request, who, data)
    return saving.answer(
        f"tutanaklar-{of_search(criteria)}",
        "zip",
        "application/zip",
        _zip(who.site, data.sheets_of(criteria), saving),
    )


@router.get("/kaydet/{what}.{form}")
def save(request: Request, what: str, form: str, who: Visitor, data: Data) -> Response:
    """Send a table as a file."""
    criteria = search_of(request, data)
    table = _table(request, data, criteria, what)
    if table is None or form not in ("csv", "xlsx"):
        raise Refusal(404, "missing", "Böyle bir dosya yok.")
    if who.rehearsal:
        table = tables.as_rehearsed(table)
    saving = _Saving(request, who, data)
    name = f"{what}-{of_search(criteria)}"
    if form == "csv":
        return saving.answer(name, form, "text/csv; charset=utf-8", stored(write_csv(table)))
    return saving.answer(name, form, _XLSX, _excel(table, saving))


def _table(request: Request, data: ScopedData, criteria: Criteria, what: str) -> ExportTable | None:
    query = request.query_params
    try:
        match what:
            case "sandiklar":
                sort = query.get("sirala", PLACE_ORDER)
                data.table(criteria, sort, limit=1)  # raises ValueError for an unknown column
                return tables.boxes(data, criteria, sort, query.get("yon") == "azalan")
            case "degisiklikler":
                return tables.changes(data, criteria, *since_of(request))
            case "eksikler":
                return tables.gaps(data, criteria, query.get("ne") == "tutanak")
            case "birlestirme":
                return tables.aggregates(data, criteria)
            case "uyarilar":
                wanted = query.get("kontrol", "")
                return tables.findings(data, criteria, Check(wanted) if wanted else None)
    except ValueError:
        raise Refusal(422, "bad-query", "Adresteki bir ölçüt anlaşılamadı.") from None
    return None


def _zip(site: Path, sheets: Iterator[SheetFile], saving: _Saving) -> Iterator[bytes]:
    yield from stream_zip(site, sheets, saving.saved)


def _excel(table: ExportTable, saving: _Saving) -> Iterator[bytes]:
    with tempfile.SpooledTemporaryFile(_KEPT_IN_MEMORY) as file:
        write_xlsx(table, file, saving.saved)
        del table  # its data would be held until the last byte is sent
        file.seek(0)
        while chunk := file.read(_CHUNK):
            yield chunk

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
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace

from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import iterate_in_threadpool

from config.event import AccessEvent
from portal.access.gate import Refusal, entrance_of, gated_router, record, when_recorded
from portal.access.identity import Identity
from portal.data.criteria import Criteria
from portal.data.scoped import PLACE_ORDER, ScopedData
from portal.exports import tables
from portal.exports.csv_file import write_csv
from portal.exports.file_name import Saved, file_name, of_search
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


class _Saving:
    """A file that is being saved; its record has a number once the gate has written it."""

    def __init__(self, request: Request, who: Identity, data: ScopedData) -> None:
        self._request, self._who, self._data = request, who, data
        now = entrance_of(request).clock()
        self.saved = Saved(who.login, 0, data.snapshot, now, who.rehearsal)

    def answer(
        self, what: str, extension: str, media_type: str, content: Callable[[], Iterator[bytes]]
    ) -> Response:
        """Return the answer, which is named and made after its record is written.

        It is cut off when the user is no longer admitted, or the session has ended.
        """
        entrance, state = entrance_of(self._request), self._request.state

        async def made() -> AsyncIterator[bytes]:
            async for chunk in iterate_in_threadpool(content()):
                if not (
                    entrance.sessions.is_live(state.token) and entrance.still_admitted(self._who)
                ):
                    state.abort()
                    return
                yield chunk

        response = StreamingResponse(made(), media_type=media_type)

        def recorded(number: int) -> None:
            self.saved = replace(self.saved, record=number)
            name = file_name(what, self.saved, extension)
            response.headers["content-disposition"] = f'attachment; filename="{name}"'

        snapshot = self._data.snapshot.number
        record(self._request, AccessEvent.DOWNLOAD, snapshot=snapshot, file=f"{what}.{extension}")
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
        lambda: stream_zip(who.site, data.sheets_of(criteria), saving.saved),
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
        return saving.answer(name, form, "text/csv; charset=utf-8", lambda: write_csv(table))
    return saving.answer(name, form, _XLSX, lambda: _excel(table, saving.saved))


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


def _excel(table: ExportTable, saved: Saved) -> Iterator[bytes]:
    with tempfile.SpooledTemporaryFile(_KEPT_IN_MEMORY) as file:
        write_xlsx(table, file, saved)
        file.seek(0)
        while chunk := file.read(_CHUNK):
            yield chunk

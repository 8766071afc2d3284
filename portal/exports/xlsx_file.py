"""Writes a table as an Excel file: numbers as numbers, times as times, and no formulas."""

from datetime import datetime
from typing import IO

import xlsxwriter

from config import times
from portal.exports.file_name import Saved
from portal.exports.tables import ExportTable
from publisher.results.snapshots.headings import HEADINGS

_MAX_SHEET_NAME = 31
# Excel has no times with a zone: the cell is a time in Turkey, and shows what config/times writes.
_TIME_FORM = 'yyyy-mm-dd"T"hh:mm:ss"+03:00"'
_TIME_WIDTH = 26
_MAX_TEXT = 32_000  # Excel takes 32,767
MAX_ROWS = 1_048_575  # of Excel, the heading left out


INFO_SHEET = "Bilgi"


def write_xlsx(table: ExportTable, file: IO[bytes], saved: Saved) -> None:
    """Write the file. Its properties and its last sheet, `Bilgi`, say who saved it, and the record.

    Rows beyond what Excel can hold go to further sheets.
    """
    with xlsxwriter.Workbook(
        file, {"constant_memory": True, "default_date_format": _TIME_FORM}
    ) as book:
        book.set_properties(
            {
                "title": f"{table.title}, {saved.status}",
                "author": saved.user,
                "comments": "; ".join(f"{heading}: {text}" for heading, text in saved.lines),
            }
        )
        bold = book.add_format({"bold": True})
        sheet, line = None, MAX_ROWS
        count = 0
        for row in table.rows():
            if sheet is None or line == MAX_ROWS:
                count += 1
                suffix = f" {count}" if count > 1 else ""
                sheet = _new_sheet(book, table, suffix, bold)
                line = 0
            line += 1
            for column, cell in enumerate(row):
                if cell is None or cell == "":
                    continue
                if isinstance(cell, str):
                    sheet.write_string(line, column, cell[:_MAX_TEXT])
                elif isinstance(cell, datetime):
                    moment = cell.astimezone(times.TURKEY).replace(tzinfo=None)
                    sheet.write_datetime(line, column, moment)
                else:
                    sheet.write_number(line, column, cell)
        if sheet is None:
            _new_sheet(book, table, "", bold)
        info = book.add_worksheet(INFO_SHEET)
        info.set_column(0, 1, 24)
        for line, (heading, text) in enumerate(saved.lines):
            info.write_string(line, 0, heading, bold)
            info.write_string(line, 1, text)


def _new_sheet(
    book: xlsxwriter.Workbook, table: ExportTable, suffix: str, bold: object
) -> "xlsxwriter.worksheet.Worksheet":
    sheet = book.add_worksheet(table.title[: _MAX_SHEET_NAME - len(suffix)] + suffix)
    sheet.freeze_panes(1, 0)
    for column, text in enumerate(table.headings):
        sheet.write_string(0, column, text, bold)
        if text == HEADINGS["zaman"]:
            sheet.set_column(column, column, _TIME_WIDTH)
    return sheet

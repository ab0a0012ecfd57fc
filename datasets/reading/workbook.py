"""Reads workbooks of spreadsheet programs (.xlsx)."""

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, time
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

from datasets.reading.cells import (
    MAX_COLUMNS,
    TableRow,
    letter_of,
    names_of,
    rows_below,
)
from finetune_site.common.errors import UserError

# A table of 100 MB takes about three times as much XML.
MAX_UNPACKED_BYTES = 1_000_000_000
CHUNK_BYTES = 1024 * 1024
FORMULA_MARKS = (b"<f>", b"<f ")
AN_ERROR, A_FORMULA = "e", "f"


class Workbook:
    """The first sheet with a text in it.

    Formulas count as what they came to when the file was saved.
    """

    def __init__(self, path: Path, has_header: bool) -> None:
        self.path = path
        self.done = 0
        self.has_header = has_header
        self.notes: list[str] = []
        self.has_formulas = _check(path)
        sheets = self._sheets_with_text()
        if not sheets:
            raise UserError("There is nothing in this workbook.", field="file")
        self.sheet = sheets[0]
        if len(sheets) > 1:
            self.notes.append(f"Of several sheets the first, “{self.sheet}”, was read.")
        first = next(self._all_rows())
        self.columns = names_of(first.cells, has_header)

    def rows(self) -> Iterator[TableRow]:
        """Yields the rows below the header; those without any text are left out."""
        yield from rows_below(
            self._all_rows(), len(self.columns), self.has_header, self._unnamed
        )
        self.done = self.path.stat().st_size

    def _unnamed(self, row: TableRow) -> str:
        cell = f"{letter_of(len(self.columns))}{row.line}"
        return f"cell {cell} stands right of all named columns; name its column"

    def _all_rows(self) -> Iterator[TableRow]:
        formulas: Iterator[Sequence[Any]] = iter(())
        if self.has_formulas:
            formulas = _rows_of(self.path, self.sheet, values=False)
        values = _rows_of(self.path, self.sheet, values=True)
        for line, (cells, origins) in enumerate(zip_longest(values, formulas), start=1):
            row = _row(line, cells or (), origins or ())
            if row.problem or any(map(str.strip, row.cells)):
                yield row

    def _sheets_with_text(self) -> list[str]:
        """Returns the names of the first two sheets that hold anything."""
        with _opened(self.path, values=True) as book:
            names = [sheet.title for sheet in book.worksheets]
        found = (
            name
            for name in names
            if any(_has_text(cells) for cells in _rows_of(self.path, name, values=True))
        )
        return list(islice(found, 2))


def _check(path: Path) -> bool:
    """Returns whether a workbook has formulas.

    Raises UserError if it is none, or unpacks to more than this site reads.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            unpacked = sum(entry.file_size for entry in entries)
            if "xl/workbook.xml" not in archive.namelist():
                raise UserError(
                    "This is a zip file, but no .xlsx workbook. Unpack it, and upload "
                    "what is in it.",
                    field="file",
                )
            if unpacked > MAX_UNPACKED_BYTES:
                raise UserError(
                    f"The workbook unpacks to {unpacked // 10**6:,} MB, and "
                    f"{MAX_UNPACKED_BYTES // 10**6:,} MB are the most. Save the sheet "
                    "as CSV, and upload that.",
                    field="file",
                )
            sheets = [e for e in entries if e.filename.startswith("xl/worksheets/")]
            return any(_has_formula(archive, entry) for entry in sheets)
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, zlib.error) as error:
        raise _unreadable(error) from None


def _has_formula(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bool:
    with archive.open(entry) as file:
        rest = b""
        while chunk := file.read(CHUNK_BYTES):
            if any(mark in rest + chunk for mark in FORMULA_MARKS):
                return True
            rest = chunk[-2:]
    return False


@contextmanager
def _opened(path: Path, *, values: bool) -> Iterator[Any]:
    """Yields the workbook: the values in its cells, or the formulas behind them."""
    # It is imported here only, so the command line does not wait for it.
    from openpyxl import load_workbook

    book = None
    try:
        book = load_workbook(path, read_only=True, data_only=values, keep_links=False)
        yield book
    except UserError:
        raise
    except Exception as error:
        # Whatever a damaged file makes of the library.
        raise _unreadable(error) from None
    finally:
        if book is not None:
            book.close()


def _rows_of(path: Path, name: str, *, values: bool) -> Iterator[Sequence[Any]]:
    """Yields the cells of each row of a sheet. Raises UserError if it is damaged."""
    with _opened(path, values=values) as book:
        sheet = book[name]
        # What files say of their own size is often wrong.
        sheet.reset_dimensions()
        for cells in sheet.iter_rows():
            if len(cells) > MAX_COLUMNS and _has_text(cells[MAX_COLUMNS:]):
                raise UserError(
                    f"A row has more than {MAX_COLUMNS:,} cells. Leave out columns "
                    "that are not needed.",
                    field="file",
                )
            yield cells[:MAX_COLUMNS]


def _row(line: int, cells: Sequence[Any], origins: Sequence[Any]) -> TableRow:
    texts, problem = [], ""
    for number, (cell, origin) in enumerate(zip_longest(cells, origins)):
        texts.append(_as_text(cell))
        trouble = _trouble(cell, origin)
        if trouble and not problem:
            problem = f"cell {letter_of(number)}{line} {trouble}"
    while texts and not texts[-1]:
        texts.pop()
    return TableRow(line, texts, problem)


def _trouble(cell: Any, origin: Any) -> str:
    """Returns what is wrong with a cell, or ""."""
    if getattr(cell, "data_type", "") == AN_ERROR:
        return f"holds the error {cell.value}; mend its formula"
    value = getattr(cell, "value", None)
    if value is None and getattr(origin, "data_type", "") == A_FORMULA:
        return (
            "holds a formula that was never worked out; open the workbook in a "
            "spreadsheet program and save it"
        )
    return ""


def _has_text(cells: Sequence[Any]) -> bool:
    return any(cell.value is not None and str(cell.value).strip() for cell in cells)


def _as_text(cell: Any) -> str:
    """Returns a cell as people see it.

    Numbers are written in full without a needless fraction, dates as year-month-day.
    """
    value = getattr(cell, "value", None)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, float):
        is_whole = value.is_integer() and abs(value) < 1e15
        return str(int(value)) if is_whole else f"{value:.15g}"
    if isinstance(value, datetime) and value.time() == time():
        return str(value.date())
    return str(value)


def _unreadable(error: Exception) -> UserError:
    words = " ".join(str(error).split())[:200] or type(error).__name__
    return UserError(
        f"The workbook cannot be read ({words.rstrip('.')}). Open it in a spreadsheet "
        "program, save it as .xlsx or as CSV, and upload that.",
        field="file",
    )

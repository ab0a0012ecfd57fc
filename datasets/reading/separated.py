"""Reads tables in which a separator stands between cells: CSV, TSV and the like.

How a file was read is told in notes, since programs disagree about separators and
encodings.
"""

import codecs
import csv
import io
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from datasets.reading.cells import TableRow, names_of, rows_below
from datasets.reading.lines import MAX_EXAMPLE_BYTES
from finetune_site.common.errors import UserError

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
# Spreadsheet programs write such a first line, and hide it when they read.
SEPARATOR_LINE = re.compile(r"\ufeff?sep=(.)\r?\n?", re.IGNORECASE)
# So many rows show what separates cells.
SAMPLE_ROWS = 50
CHUNK_BYTES = 1024 * 1024
MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# UTF-16 without a mark shows by the zero byte of each of its first letters.
UNMARKED = {
    re.compile(rb"[^\x00]\x00[^\x00]\x00"): "utf-16-le",
    re.compile(rb"\x00[^\x00]\x00[^\x00]"): "utf-16-be",
}
WINDOWS = "windows-1252"


class SeparatedText:
    """A file of text in which a separator stands between cells."""

    def __init__(self, path: Path, has_header: bool) -> None:
        self.path = path
        self.done = 0
        self.encoding, self.notes = _encoding_of(path)
        with self._open() as file:
            found = SEPARATOR_LINE.fullmatch(file.readline())
        self.first_line = 2 if found else 1
        self.separator = found[1] if found else self._guess_separator()
        first = next(self._all_rows(), None)
        if first is None:
            raise UserError("There is nothing in this table.", field="file")
        self.has_header = has_header
        self.columns = names_of(first.cells, has_header)
        if self.separator not in ",\t":
            word = SEPARATORS.get(self.separator, f"“{self.separator}”")
            self.notes.append(f"Cells were cut at {word}.")

    def rows(self) -> Iterator[TableRow]:
        """Yields the rows below the header; those without any text are left out."""
        return rows_below(
            self._all_rows(), len(self.columns), self.has_header, self._too_many
        )

    def _too_many(self, row: TableRow) -> str:
        return (
            f"it has {len(row.cells)} cells and there are {len(self.columns)} columns, "
            "so a text was cut at a separator; put quotes around that text"
        )

    def _all_rows(self) -> Iterator[TableRow]:
        """Yields the rows with a text in them. Raises UserError at a broken quote."""
        csv.field_size_limit(MAX_EXAMPLE_BYTES)
        with self.path.open("rb") as raw, self._decoded(raw) as file:
            for _ in range(self.first_line - 1):
                file.readline()
            reader = csv.reader(file, delimiter=self.separator, strict=True)
            line = self.first_line
            try:
                for cells in reader:
                    if any(map(str.strip, cells)):
                        yield TableRow(line, cells)
                    # A row ends at its last line, and a quoted cell may have several.
                    line = self.first_line + reader.line_num
                    self.done = raw.tell()
            except csv.Error as error:
                raise UserError(
                    f"The row that begins in line {line} has a quote that is not "
                    f"closed, or a text behind one ({error}). Mend it, then upload "
                    "the file again.",
                    field="file",
                ) from None

    def _open(self) -> io.TextIOWrapper:
        return self._decoded(self.path.open("rb"))

    def _decoded(self, raw: BinaryIO) -> io.TextIOWrapper:
        return io.TextIOWrapper(raw, encoding=self.encoding, newline="")

    def _guess_separator(self) -> str:
        """Returns the separator by which the first rows have the same many cells."""
        with self._open() as file:
            lines = list(islice(_whole_lines(file), SAMPLE_ROWS))
        scores = {one: _score(lines, one) for one in SEPARATORS}
        return max(scores, key=lambda one: scores[one])


def _whole_lines(file: io.TextIOWrapper) -> Iterator[str]:
    """Yields lines, of which none is longer than an example may be."""
    while line := file.readline(MAX_EXAMPLE_BYTES):
        yield line


def _score(lines: Sequence[str], separator: str) -> tuple[float, int]:
    """Returns the share of rows with as many cells as the first, and how many.

    A separator that is nowhere cuts nothing, and is as good as none.
    """
    try:
        rows = [row for row in csv.reader(lines, delimiter=separator) if row]
    except csv.Error:
        return (0.0, 0)
    if not rows or len(rows[0]) < 2:
        return (0.0, 0)
    alike = sum(len(row) == len(rows[0]) for row in rows) / len(rows)
    return (alike, len(rows[0]))


def _encoding_of(path: Path) -> tuple[str, list[str]]:
    """Returns how a file's text is encoded, and a note unless it is UTF-8."""
    with path.open("rb") as file:
        head = file.read(4)
        for mark, encoding in MARKS.items():
            if head.startswith(mark):
                return encoding, _noted(encoding)
        for how, encoding in UNMARKED.items():
            if how.match(head):
                return encoding, _noted(encoding)
        file.seek(0)
        if _decodes(file, "utf-8"):
            return "utf-8", []
        file.seek(0)
        if _decodes(file, WINDOWS):
            return WINDOWS, _noted(WINDOWS)
    raise UserError(
        "The text of the file is neither UTF-8 nor Windows-1252. Save it as “CSV "
        "UTF-8”, then upload it again.",
        field="file",
    )


def _noted(encoding: str) -> list[str]:
    if encoding == "utf-8-sig":
        return []
    name = "Windows-1252" if encoding == WINDOWS else "UTF-16"
    return [
        f"The file is not UTF-8; it was read as {name}. Look whether accents are right."
    ]


def _decodes(file: BinaryIO, encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        while chunk := file.read(CHUNK_BYTES):
            decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True

"""Opens files of cells, whatever wrote them: columns with names, rows of texts."""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from datasets.reading.cells import TableRow
from datasets.reading.separated import SeparatedText
from datasets.reading.workbook import Workbook
from finetune_site.common.errors import UserError


class Table(Protocol):
    """A file of cells. `notes` says in sentences how it was read.

    `done` tells how many bytes of the file are read so far.
    """

    columns: list[str]
    notes: list[str]
    done: int

    def rows(self) -> Iterator[TableRow]:
        """Yields the rows below the header; those without any text are left out."""


def open_table(path: Path, suffix: str, *, has_header: bool = True) -> Table:
    """Opens a table. Raises UserError if the file as a whole cannot be read.

    Without a header the columns are named by their letters.
    """
    if zipfile.is_zipfile(path):
        return Workbook(path, has_header)
    if suffix == ".xlsx":
        raise UserError(
            "This is no .xlsx workbook, or it is damaged or has a password. Open it, "
            "save it as .xlsx without a password, and upload it again.",
            field="file",
        )
    return SeparatedText(path, has_header)

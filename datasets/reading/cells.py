"""Rows and columns of tables, and their names."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

from finetune_site.common.errors import UserError

MAX_COLUMNS = 1000
# Braces stand for columns in templates, and databases take no NUL.
NOT_IN_NAMES = str.maketrans({"{": "(", "}": ")", "\x00": None})


@dataclass(frozen=True)
class TableRow:
    """The cells of a row, and the number of its first line, which counts from 1.

    In a workbook that is the number of the row. With a `problem` it cannot be used.
    """

    line: int
    cells: list[str]
    problem: str = ""


def rows_below(
    rows: Iterator[TableRow],
    num_columns: int,
    has_header: bool,
    why_surplus: Callable[[TableRow], str],
) -> Iterator[TableRow]:
    """Yields the rows below the header, of which some may have surplus cells.

    Those get the problem that `why_surplus` tells: a text must not be cut in silence.
    """
    for row in islice(rows, int(has_header), None):
        if len(row.cells) > num_columns:
            yield replace(row, problem=why_surplus(row))
        else:
            yield row


def names_of(cells: Iterable[str], has_header: bool = True) -> list[str]:
    """Returns the names of columns: no two are equal, and none is empty."""
    names: list[str] = []
    for number, cell in enumerate(cells):
        name = " ".join(cell.split()) if has_header else ""
        name = name.translate(NOT_IN_NAMES) or f"column {letter_of(number)}"
        again = 2
        while name in names:
            name = f"{name.removesuffix(f' ({again - 1})')} ({again})"
            again += 1
        names.append(name)
    if len(names) > MAX_COLUMNS:
        raise UserError(
            f"The table has {len(names):,} columns, and {MAX_COLUMNS:,} are the most. "
            "Leave out those that are not needed.",
            field="file",
        )
    return names


def letter_of(number: int) -> str:
    """Returns the letters of a column as spreadsheets name it: A, B, ..., Z, AA."""
    letters = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters

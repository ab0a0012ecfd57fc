"""Reads files that people bring line by line, and says what is wrong with a line."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from datasets.reading.batches import TOO_LONG
from datasets.reading.kinds import holds_json_lines
from datasets.reading.lines import MAX_EXAMPLE_BYTES, check_kind, read_blocks
from datasets.reading.plain_text import read_text
from jobs.cli.problems import Problem
from jobs.trainer.text.examples import ExampleError, Segment, is_utf8
from jobs.trainer.text.line_forms import LineForm, prompt_segments, read_line

SHEETS = {".csv": ",;\t", ".tsv": "\t"}
WORKBOOKS = {".xlsx", ".xls", ".ods", ".numbers"}
SAVE_AS_CSV = (
    "Save it as CSV UTF-8 with the columns prompt and completion, then prepare that: "
    "openai-ft prepare FILE.csv"
)
COLUMNS = ("prompt", "completion")
MORE_CELLS = (
    "it has more cells than there are columns, so a text was cut at a separator; put "
    "quotes around that text"
)


@dataclass(frozen=True)
class Row:
    """A line that is an example, or why it is none."""

    line: int
    # The line as it stands in a file of JSON lines; else empty.
    raw: bytes = b""
    form: LineForm = LineForm.SEGMENTS
    segments: tuple[Segment, ...] = ()
    problem: str = ""


def read_rows(path: Path, text_split: str) -> Iterator[Row]:
    """Yields the rows of a file.

    Raises UserError or Problem if the file as a whole cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix in WORKBOOKS:
        raise Problem(f"{path} is a spreadsheet. {SAVE_AS_CSV}")
    check_kind(path, then="prepare that")
    if suffix in SHEETS:
        return _sheet_rows(path, SHEETS[suffix])
    if suffix == ".txt" and not holds_json_lines(path):
        return _text_rows(path, text_split)
    return _json_rows(path)


def _json_rows(path: Path) -> Iterator[Row]:
    for block in read_blocks(path):
        if block.too_long:
            yield Row(block.first_line, problem=TOO_LONG)
            continue
        for number, line in enumerate(block.lines, start=block.first_line):
            if not line or line.isspace():
                continue
            try:
                form, segments = read_line(line)
                yield Row(number, line, form, tuple(segments))
            except ExampleError as error:
                yield Row(number, problem=str(error))


def _text_rows(path: Path, text_split: str) -> Iterator[Row]:
    for batch in read_text(path, text_split):
        for problem in batch.bad_lines:
            yield Row(problem.line, problem=problem.message)
        for texts, weights in zip(batch.texts, batch.weights, strict=True):
            yield Row(0, segments=tuple(zip(texts, weights, strict=True)))


def _sheet_rows(path: Path, separators: str) -> Iterator[Row]:
    csv.field_size_limit(MAX_EXAMPLE_BYTES)
    with path.open(encoding="utf-8-sig", newline="") as file:
        separator = _separator(file, separators)
        reader = csv.reader(file, delimiter=separator, strict=True)
        line = 1
        try:
            columns = _columns(next(reader, []))
            line = reader.line_num + 1
            for cells in reader:
                # A row ends at its last line, and a quoted cell may have several.
                if any(map(str.strip, cells)):
                    yield _sheet_row(line, cells, columns)
                line = reader.line_num + 1
        except UnicodeDecodeError:
            raise Problem(
                f"{path}, line {_line_not_utf8(path)}: this is not UTF-8. Save the "
                "file with the encoding UTF-8; spreadsheet programs call it CSV UTF-8."
            ) from None
        except csv.Error as error:
            raise Problem(f"{path}, line {line}: {error}. Mend its quotes.") from None


def _separator(file: io.TextIOWrapper, separators: str) -> str:
    """Returns the separator that cuts the first line into our columns.

    Spreadsheet programs choose it by the country.
    """
    try:
        head = file.readline()
    except UnicodeDecodeError:
        head = ""
    file.seek(0)
    # The seek to the beginning lets the mark of UTF-8 be skipped once more.
    for separator in separators:
        names = next(csv.reader([head], delimiter=separator), [])
        if set(COLUMNS) <= {name.strip().lower() for name in names}:
            return separator
    return separators[0]


def _columns(head: list[str]) -> dict[str, int]:
    """Returns the places of all columns that have a name.

    Raises Problem if a column of ours is missing or there twice.
    """
    names = [name.strip().lower() for name in head]
    missing = [column for column in COLUMNS if column not in names]
    if missing:
        has = f"it has {', '.join(names[:8])}" if any(names) else "it has none"
        raise Problem(
            f"The first line has to name the columns prompt and completion; {has}."
        )
    twice = next((column for column in COLUMNS if names.count(column) > 1), "")
    if twice:
        raise Problem(
            f"The first line names the column {twice} twice. Remove one of them, or "
            "give it another name."
        )
    return {name: at for at, name in enumerate(names) if name}


def _sheet_row(line: int, cells: list[str], columns: dict[str, int]) -> Row:
    # A spreadsheet's empty columns behind the others have no name.
    if any(map(str.strip, cells[1 + max(columns.values()) :])):
        return Row(line, problem=MORE_CELLS)
    value = {name: "".join(cells[columns[name] :][:1]) for name in COLUMNS}
    try:
        segments = prompt_segments(value)
    except ExampleError as error:
        return Row(line, problem=str(error))
    return Row(line, form=LineForm.PROMPT, segments=tuple(segments))


def _line_not_utf8(path: Path) -> int:
    """Returns the number of the first line that is not UTF-8."""
    return next(
        number
        for block in read_blocks(path)
        for number, line in enumerate(block.lines, start=block.first_line)
        if not is_utf8(line)
    )

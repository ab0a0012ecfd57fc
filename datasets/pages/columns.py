"""What the page shows on which people say what the columns of a table become."""

from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

from django.http import QueryDict

from datasets.models import DatasetVersion
from datasets.pages.shown_examples import ShownExample, clip
from datasets.reading.cells import TableRow
from datasets.reading.mapping import MappedSegment, Mapper, Mapping
from datasets.services.tables import OpenedTable, opened_table
from finetune_site.common.errors import UserError
from finetune_site.common.parsing import small_int
from jobs.trainer.text.examples import ExampleError

NUM_DRAWN = 3
MAX_DRAWN_CHARACTERS = 1500
MAX_CELL_CHARACTERS = 60


@dataclass(frozen=True)
class DrawnRow:
    """A row as the example that it becomes, or why it becomes none."""

    line: int
    example: ShownExample | None
    problem: str = ""


def columns_page(version: DatasetVersion, sent: QueryDict | None) -> dict[str, Any]:
    """Returns the context of the page: of what was sent, or of the guess.

    Raises UserError if the file cannot be read.
    """
    has_header = sent is None or "has_header" in sent
    opened = opened_table(version, has_header=has_header)
    mapping = mapping_of(sent) if sent else opened.mapping
    context: dict[str, Any] = {
        "opened": opened,
        "mapping": mapping,
        "columns": _columns(opened),
        "error": None,
        "drawn": [],
    }
    try:
        context["drawn"] = _drawn(mapping, opened)
    except UserError as error:
        context["error"] = error
    return context


def mapping_of(sent: QueryDict) -> Mapping:
    """Returns the mapping that the form holds."""
    rows = zip_longest(
        sent.getlist("template"),
        sent.getlist("weight"),
        sent.getlist("weight_column"),
        fillvalue="",
    )
    segments = [
        # A browser sends a line feed as a carriage return too.
        MappedSegment(
            template.replace("\r\n", "\n"), 1.0 if column else _number(weight), column
        )
        for template, weight, column in rows
    ]
    if "add" in sent:
        segments.append(MappedSegment(""))
    removed = small_int(str(sent.get("remove", "")))
    segments = [one for number, one in enumerate(segments) if number != removed]
    return Mapping(tuple(segments), "has_header" in sent)


def _columns(opened: OpenedTable) -> list[tuple[str, str]]:
    """Returns the columns' names, each with the first text in it."""
    return [
        (name, _first_text(opened.rows, number))
        for number, name in enumerate(opened.table.columns)
    ]


def _first_text(rows: list[TableRow], number: int) -> str:
    for row in rows:
        if number < len(row.cells) and row.cells[number].strip():
            text = " ".join(row.cells[number].split())
            cut = len(text) > MAX_CELL_CHARACTERS
            return text[:MAX_CELL_CHARACTERS] + ("…" if cut else "")
    return ""


def _drawn(mapping: Mapping, opened: OpenedTable) -> list[DrawnRow]:
    # An empty template is one that somebody is about to fill.
    filled = tuple(segment for segment in mapping.segments if segment.template)
    mapper = Mapper(replace(mapping, segments=filled), opened.table.columns)
    return [_drawn_row(mapper, row) for row in opened.rows[:NUM_DRAWN]]


def _drawn_row(mapper: Mapper, row: TableRow) -> DrawnRow:
    try:
        segments, left_out = clip(mapper.example(row), MAX_DRAWN_CHARACTERS)
    except ExampleError as error:
        return DrawnRow(row.line, None, str(error))
    return DrawnRow(row.line, ShownExample(row.line, segments, left_out))


def _number(text: str) -> float:
    try:
        return float(text.strip().replace(",", ".") or "nan")
    except ValueError:
        return float("nan")

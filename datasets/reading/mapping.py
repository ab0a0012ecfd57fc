"""Makes examples of the rows of a table: which columns become which segments.

A segment is a template of text in which `{name}` stands for the cell of that column,
with a loss weight for all rows or a column that holds one for each. `{{` and `}}` are
braces themselves.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import Any

from datasets.reading.batches import ImportBatch
from datasets.reading.cells import TableRow
from datasets.reading.lines import MAX_EXAMPLE_BYTES
from datasets.reading.tables import Table
from finetune_site.common.errors import UserError
from jobs.trainer.text.examples import (
    MAX_LOSS_WEIGHT,
    MIN_LOSS_WEIGHT,
    ExampleError,
    Segment,
    is_loss_weight,
)

MAX_MAPPED_SEGMENTS = 20
MAX_TEMPLATE_CHARACTERS = 20_000
ROWS_PER_BATCH = 500
PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
# What people call the columns that are read, and those that are learned.
READ_NAMES = ("prompt", "question", "input", "instruction", "message", "request", "q")
LEARNED_NAMES = ("completion", "answer", "output", "response", "reply", "a", "text")
WEIGHT_NAMES = ("weight", "loss weight", "loss_weight")

Cells = Sequence[str]


@dataclass(frozen=True)
class MappedSegment:
    """One segment of every example: its template, and its loss weight or where it is.

    `weight_column` is the name of a column, or empty: then `weight` holds for all rows.
    """

    template: str
    weight: float = 1.0
    weight_column: str = ""


@dataclass(frozen=True)
class Mapping:
    """How rows become examples. Without a header columns are named by their letters."""

    segments: tuple[MappedSegment, ...]
    has_header: bool = True

    def as_json(self) -> dict[str, Any]:
        """Returns the mapping as an import request keeps it."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Mapping":
        """Returns the mapping that `as_json` wrote."""
        segments = tuple(MappedSegment(**segment) for segment in value["segments"])
        return cls(segments, value["has_header"])


class Mapper:
    """Makes segments of the cells of a row. Raises UserError for a wrong mapping."""

    def __init__(self, mapping: Mapping, columns: Sequence[str]) -> None:
        if not 0 < len(mapping.segments) <= MAX_MAPPED_SEGMENTS:
            raise UserError(
                f"An example of a table has 1 to {MAX_MAPPED_SEGMENTS} segments.",
                field="segments",
            )
        self.columns = list(columns)
        self.segments = [
            (self._texts_of(segment), self._weights_of(segment), segment)
            for segment in mapping.segments
        ]

    def example(self, row: TableRow) -> list[Segment]:
        """Returns the segments of a row. Raises ExampleError if it makes none."""
        if row.problem:
            raise ExampleError(row.problem)
        cells = [*row.cells, *[""] * (len(self.columns) - len(row.cells))]
        segments = []
        for text_of, weight_of, segment in self.segments:
            text, weight = text_of(cells), weight_of(cells)
            if weight and not text.strip():
                raise ExampleError(
                    f"there is nothing to learn in “{segment.template}”; fill its "
                    "cell, or give it the loss weight 0"
                )
            segments.append((text, weight))
        if not any(text for text, _ in segments):
            raise ExampleError("there is no text in it; fill a cell that is used")
        if sum(len(text) for text, _ in segments) > MAX_EXAMPLE_BYTES:
            raise ExampleError(
                f"its text is longer than {MAX_EXAMPLE_BYTES // 1024**2} MB; split it "
                "into several rows"
            )
        return segments

    def _texts_of(self, segment: MappedSegment) -> Callable[[Cells], str]:
        """Returns what writes the template with the cells of a row."""
        if len(segment.template) > MAX_TEMPLATE_CHARACTERS:
            raise UserError("This template is too long.", field="template")
        if "\x00" in segment.template:
            raise UserError(
                "A template cannot hold the character NUL; take it out.",
                field="template",
            )
        pieces = [self._piece(piece) for piece in pieces_of(segment.template)]
        literals = [piece if isinstance(piece, str) else None for piece in pieces]
        numbers = [piece if isinstance(piece, int) else 0 for piece in pieces]
        if len(pieces) == 1 and literals[0] is None:
            return lambda cells, at=numbers[0]: cells[at]  # type: ignore[misc]
        parts = list(zip(literals, numbers, strict=True))
        return lambda cells: "".join(
            cells[at] if literal is None else literal for literal, at in parts
        )

    def _piece(self, piece: tuple[bool, str]) -> str | int:
        is_column, text = piece
        return self._number_of(text, "template") if is_column else text

    def _number_of(self, name: str, field: str) -> int:
        if name in self.columns:
            return self.columns.index(name)
        near = get_close_matches(name, self.columns, n=1)
        there = f"there are {_listed(self.columns)}"
        if near:
            there = f"perhaps “{near[0]}” is meant"
        raise UserError(
            f"There is no column “{name}”; {there}. A brace itself is written twice.",
            field=field,
        )

    def _weights_of(self, segment: MappedSegment) -> Callable[[Cells], float]:
        if not segment.weight_column:
            if not is_loss_weight(segment.weight):
                raise UserError(_not_a_weight(f"{segment.weight:g}"), field="weight")
            return lambda cells: segment.weight
        at = self._number_of(segment.weight_column, "weight_column")
        return lambda cells: _weight(cells[at], segment.weight_column)


def read_table(table: Table, mapping: Mapping) -> Iterator[ImportBatch]:
    """Yields batches of the examples that the rows of a table make."""
    mapper = Mapper(mapping, table.columns)
    batch = ImportBatch(0)
    for row in table.rows():
        try:
            batch.add(mapper.example(row))
        except ExampleError as error:
            batch.refuse(row.line, str(error), " | ".join(row.cells)[:400].encode())
        if len(batch) + len(batch.bad_lines) >= ROWS_PER_BATCH:
            batch.done = table.done
            yield batch
            batch = ImportBatch(0)
    batch.done = table.done
    yield batch


def pieces_of(template: str) -> Iterator[tuple[bool, str]]:
    """Yields the pieces of a template: whether it names a column, and its text.

    Raises UserError for a brace that stands alone.
    """
    at = 0
    for found in PIECE.finditer(template):
        if found.start() > at:
            yield False, template[at : found.start()]
        at = found.end()
        if found[0] in ("{{", "}}"):
            yield False, found[0][0]
        elif found[1] is None:
            raise UserError(
                f"The brace {found[0]} stands alone. Write {found[0] * 2} for a brace "
                "itself, or {name} for a column.",
                field="template",
            )
        else:
            yield True, found[1]
    if at < len(template):
        yield False, template[at:]


def guess(table: Table, rows: Sequence[TableRow]) -> Mapping:
    """Returns the mapping that a table seems to want, from its names and first rows."""
    columns = table.columns
    weights = [name for name in columns if name.lower() in WEIGHT_NAMES]
    texts = [name for name in columns if name not in weights] or list(columns)
    learned = _named(texts, LEARNED_NAMES) or _longest(texts, columns, rows)
    others = [name for name in texts if name != learned]
    read = _named(others, READ_NAMES) or next(iter(others), "")
    weight_column = weights[0] if weights else ""
    last = MappedSegment(f"{{{learned}}}", 1.0, weight_column)
    if not read:
        return Mapping((last,))
    # As pairs of our own they stand for themselves; else words would run together.
    end = "" if (read.lower(), learned.lower()) == ("prompt", "completion") else "\n"
    return Mapping((MappedSegment(f"{{{read}}}{end}", 0.0), last))


def _named(columns: Sequence[str], names: Sequence[str]) -> str:
    """Returns the column that has the first of these names, or else begins with one."""
    for name in names:
        for column in columns:
            if column.lower() == name:
                return column
    for name in (name for name in names if len(name) > 1):
        for column in columns:
            if name in column.lower().split():
                return column
    return ""


def _longest(texts: Sequence[str], columns: list[str], rows: Sequence[TableRow]) -> str:
    """Returns the column with most text, the later one of equals."""
    sizes = {
        name: sum(
            len(row.cells[columns.index(name)])
            for row in rows
            if columns.index(name) < len(row.cells)
        )
        for name in texts
    }
    return max(reversed(texts), key=lambda name: sizes[name])


def _weight(cell: str, column: str) -> float:
    """Returns the loss weight in a cell, which may have a decimal comma."""
    try:
        weight = float(cell.strip().replace(",", "."))
    except ValueError:
        weight = float("nan")
    if not is_loss_weight(weight):
        raise ExampleError(_not_a_weight(cell[:40], f" in the column {column}"))
    return weight


def _not_a_weight(text: str, where: str = "") -> str:
    return (
        f"the loss weight “{text}”{where} is neither 0 (read, not learned) nor a "
        f"number from {MIN_LOSS_WEIGHT:g} to {MAX_LOSS_WEIGHT:g} (1 = learned)"
    )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"“{name}”" for name in names[:8])
    return f"{shown} and more" if len(names) > 8 else shown

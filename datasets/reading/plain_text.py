"""Cuts a .txt file into examples of one segment each."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from datasets.reading.batches import TOO_LONG, ImportBatch
from datasets.reading.lines import MAX_EXAMPLE_BYTES, Block, read_blocks
from finetune_site.common.errors import UserError
from jobs.trainer.text.examples import is_utf8


class TextSplit(StrEnum):
    """What becomes one example: a paragraph, a line, or the whole file."""

    PARAGRAPHS = "paragraphs"
    LINES = "lines"
    WHOLE = "whole"


NOT_UTF8 = "the text is not UTF-8; save the file with the encoding UTF-8"


@dataclass
class Passage:
    """Lines that become one example. They are kept as bytes until it is whole."""

    first_line: int = 0
    lines: list[bytes] = field(default_factory=list)
    num_bytes: int = 0

    def take(self, number: int, line: bytes) -> None:
        """Adds a line. What is longer than an example may be is only counted."""
        self.first_line = self.first_line or number
        self.num_bytes += len(line) + 1
        if self.num_bytes <= MAX_EXAMPLE_BYTES:
            self.lines.append(line)

    def close_into(self, batch: ImportBatch) -> None:
        """Adds the example, or says what is wrong with it, and begins anew."""
        if self.num_bytes > MAX_EXAMPLE_BYTES:
            batch.refuse(
                self.first_line, TOO_LONG, self.lines[0] if self.lines else b""
            )
        elif self.num_bytes:
            self._decode_into(batch)
        self.first_line, self.lines, self.num_bytes = 0, [], 0

    def _decode_into(self, batch: ImportBatch) -> None:
        try:
            batch.add([(b"\n".join(self.lines).decode(), 1.0)])
        except UnicodeDecodeError:
            for number, line in enumerate(self.lines, start=self.first_line):
                if not is_utf8(line):
                    batch.refuse(number, NOT_UTF8, line)


def read_text(path: Path, split: str) -> Iterator[ImportBatch]:
    """Yields batches of a .txt file's examples. `split` is a TextSplit.

    Raises UserError if the whole file is to be one example and is too large for that.
    """
    if split == TextSplit.WHOLE:
        return _read_whole(path)
    return _read_passages(path, every_line=split == TextSplit.LINES)


def _read_passages(path: Path, every_line: bool) -> Iterator[ImportBatch]:
    passage, done = Passage(), 0
    for block in read_blocks(path):
        batch = ImportBatch(block.done)
        _take_block(block, passage, batch, every_line)
        done = block.done
        yield batch
    batch = ImportBatch(done)
    passage.close_into(batch)
    yield batch


def _take_block(
    block: Block, passage: Passage, batch: ImportBatch, every_line: bool
) -> None:
    if block.too_long:
        batch.refuse(block.first_line, TOO_LONG, block.lines[0])
        return
    for number, line in enumerate(block.lines, start=block.first_line):
        if line and not line.isspace():
            passage.take(number, line)
            if not every_line:
                continue
        passage.close_into(batch)


def _read_whole(path: Path) -> Iterator[ImportBatch]:
    size = path.stat().st_size
    if size > MAX_EXAMPLE_BYTES:
        raise UserError(
            f"One example may have {MAX_EXAMPLE_BYTES // 1024**2} MB at most, and this "
            f"file has {size // 1024**2} MB. Upload it again and choose that every "
            "paragraph is an example.",
            field="text_split",
        )
    whole, batch = Passage(), ImportBatch(size)
    for block in read_blocks(path):
        for number, line in enumerate(block.lines, start=block.first_line):
            if whole.lines or not _is_blank(line):
                whole.take(number, line)
    while whole.lines and _is_blank(whole.lines[-1]):
        whole.lines.pop()
    whole.close_into(batch)
    yield batch


def _is_blank(line: bytes) -> bool:
    return not line or line.isspace()

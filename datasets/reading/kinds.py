"""Tells what a file holds where its name does not say it."""

from pathlib import Path
from typing import Any

from datasets.reading.lines import read_blocks
from jobs.trainer.text.examples import ExampleError, read_json
from jobs.trainer.text.line_forms import EXAMPLE_KEYS

# So many lines, most of which are examples, are no accident.
MAX_LINES = 50
NOTE = "Read as JSON lines, which the file holds, though its name ends in .txt"


def holds_json_lines(path: Path) -> bool:
    """Returns whether a file of text holds examples as JSON lines.

    Most of its first lines have to be examples: some may be spoilt, and are then named.
    A text in which a line stands in braces is still a text.
    """
    block = next(read_blocks(path), None)
    lines = [line for line in block.lines if line.strip()] if block else []
    first = lines[:MAX_LINES]
    return 2 * sum(map(_is_example, first)) > len(first)


def _is_example(line: bytes) -> bool:
    """Returns whether a line is an example as JSON, perhaps encoded again as a text."""
    value: Any = line
    while isinstance(value, str | bytes):
        try:
            value = read_json(value)
        except ExampleError:
            return False
    return isinstance(value, dict) and not EXAMPLE_KEYS.isdisjoint(value)

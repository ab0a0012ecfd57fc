"""Tells what a file holds where its name does not say it."""

from pathlib import Path

from datasets.lines import read_blocks
from jobs.trainer.text.examples import ExampleError, read_json
from jobs.trainer.text.line_forms import EXAMPLE_KEYS

# So many lines, which are all examples, are no accident.
MAX_LINES = 50
NOTE = "Read as JSON lines, which the file holds, though its name ends in .txt"


def holds_json_lines(path: Path) -> bool:
    """Returns whether a file of text holds examples as JSON lines.

    All of its first lines have to be examples. A text in which one line stands in
    braces is still a text.
    """
    block = next(read_blocks(path), None)
    lines = [line for line in block.lines if line.strip()] if block else []
    return bool(lines) and all(map(_is_example, lines[:MAX_LINES]))


def _is_example(line: bytes) -> bool:
    try:
        value = read_json(line)
    except ExampleError:
        return False
    return isinstance(value, dict) and not EXAMPLE_KEYS.isdisjoint(value)

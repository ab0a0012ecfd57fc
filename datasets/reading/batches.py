"""Reads an upload into batches of checked examples; bad lines are named, never fatal.

A block whose lines are all in the long form is checked column by column, which is
several times faster, and its lines are kept as they are. The same is done for a block
whose lines all lack weights, and for one whose lines are all prompts with completions.
Every other block goes line by line through `read_line`, which knows every form and
every complaint.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import orjson

from datasets.reading.lines import MAX_EXAMPLE_BYTES, Block, read_blocks
from jobs.trainer.text.examples import (
    ExampleError,
    Segment,
    dump_line,
    is_loss_weight,
)
from jobs.trainer.text.line_forms import (
    KEYS_OF_ONE,
    MAX_SEGMENTS,
    PROMPT_WEIGHTS,
    LineForm,
    read_line,
)

# The loss weights of an example, and the texts of all examples that have these.
Groups = dict[tuple[float, ...], list[Sequence[str]]]

TOO_LONG = (
    f"longer than {MAX_EXAMPLE_BYTES // 1024**2} MB; split it into several examples"
)


@dataclass(frozen=True)
class BadLine:
    """A line that was left out. `text` is how the line begins."""

    line: int
    message: str
    text: str


@dataclass
class ImportBatch:
    """The examples of a block, once as lines for the file and once in groups.

    `groups` holds the same examples for the tally. `done` is the number of bytes of the
    file that are read so far.
    """

    done: int
    lines: list[bytes] = field(default_factory=list)
    groups: Groups = field(default_factory=dict)
    # How many examples came from lines of other forms than our own.
    forms: Counter[LineForm] = field(default_factory=Counter)
    problems: list[BadLine] = field(default_factory=list)

    def add(self, segments: Sequence[Segment]) -> None:
        """Adds an example, which is written in the long form."""
        texts, weights = zip(*segments, strict=True)
        self.take(dump_line(segments)[:-1], texts, weights)

    def take(self, line: bytes, texts: Sequence[str], weights: Sequence[float]) -> None:
        """Adds an example whose line is in the long form already."""
        self.lines.append(line)
        self.groups.setdefault(tuple(weights), []).append(texts)

    def refuse(self, line: int, message: str, text: bytes) -> None:
        """Notes a line that is left out.

        The message and the text are cut, and rid of NUL, which PostgreSQL does not
        take.
        """
        shown = text[:200].decode(errors="replace")
        clean = [part.replace("\x00", "\ufffd") for part in (message[:400], shown)]
        self.problems.append(BadLine(line, *clean))


def read_jsonl(path: Path, joiner: str = "") -> Iterator[ImportBatch]:
    """Yields a batch for each block of a .jsonl file.

    `joiner` is put wherever two segments meet without white space between them.
    """
    for block in read_blocks(path):
        yield _read_block(block, joiner)


def _read_block(block: Block, joiner: str) -> ImportBatch:
    if joiner or block.too_long or _names_twice(block):
        return _read_line_by_line(block, joiner)
    return (
        _read_long_form(block)
        or _read_unweighted(block)
        or _read_prompts(block)
        or _read_line_by_line(block, joiner)
    )


def _names_twice(block: Block) -> bool:
    """Returns whether a line may have a key twice, of which JSON would keep the last.

    A text that is the name of a key counts too; the line is then read with more care.
    """
    return any(line.count(key) > 1 for key in KEYS_OF_ONE for line in block.lines)


def join_by(segments: Sequence[Segment], joiner: str) -> list[Segment]:
    """Returns the segments with `joiner` wherever two meet without white space.

    A space begins the later segment, as words do for a tokenizer. A new line ends the
    earlier one, as it does in a prompt.
    """
    joined: list[Segment] = []
    before = ""
    for text, weight in segments:
        if joiner and meets_unspaced(before, text):
            if joiner == " ":
                text = joiner + text
            else:
                _end_with(joined, joiner)
        joined.append((text, weight))
        before = text or before
    return joined


def meets_unspaced(before: str, after: str) -> bool:
    """Returns whether two texts meet without white space between them."""
    if not before or not after:
        return False
    return not (before[-1].isspace() or after[0].isspace())


def _end_with(segments: list[Segment], joiner: str) -> None:
    last = max(number for number, (text, _) in enumerate(segments) if text)
    text, weight = segments[last]
    segments[last] = (text + joiner, weight)


def _read_long_form(block: Block) -> ImportBatch | None:
    """Returns None if a line is in another form, or wrong."""
    lines = block.lines
    if b"" in lines:
        lines = [line for line in lines if line]
    batch = ImportBatch(block.done, lines)
    loads, current, weight_lists = orjson.loads, None, []
    try:
        for line in lines:
            value = loads(line)
            data = value["data"]
            texts, weights = data["text_list"], data["loss_weights"]
            if len(value) != 1 or len(data) != 2 or len(texts) != len(weights):
                return None
            if weights != current:
                group = batch.groups.setdefault(tuple(weights), [])
                current = weights
            group.append(texts)
            weight_lists.append(weights)
        # In Python true equals 1, so the types are looked at one by one.
        if not {*map(type, chain.from_iterable(weight_lists))} <= {int, float}:
            return None
        return batch if _all_right(batch.groups) else None
    except (KeyError, TypeError, ValueError):
        return None


def _read_unweighted(block: Block) -> ImportBatch | None:
    """Does the same for lines without loss weights: a text, or a list of texts."""
    batch, loads, dumps = ImportBatch(block.done), orjson.loads, orjson.dumps
    try:
        for line in filter(None, block.lines):
            value = loads(line)
            data = value["data"]
            texts = [data] if isinstance(data, str) else data["text_list"]
            if len(value) != 1 or not (isinstance(data, str) or len(data) == 1):
                return None
            weights = [1.0] * len(texts)
            long_form = {"data": {"text_list": texts, "loss_weights": weights}}
            batch.take(dumps(long_form), texts, weights)
        return batch if _all_right(batch.groups) else None
    except (KeyError, TypeError, ValueError):
        return None


def _read_prompts(block: Block) -> ImportBatch | None:
    """Does the same for lines that are a prompt with a completion."""
    batch, loads, dumps = ImportBatch(block.done), orjson.loads, orjson.dumps
    try:
        for line in filter(None, block.lines):
            value = loads(line)
            texts = [value["prompt"], value["completion"]]
            if len(value) != 2 or not texts[1]:
                return None
            long_form = {"data": {"text_list": texts, "loss_weights": PROMPT_WEIGHTS}}
            batch.take(dumps(long_form), texts, PROMPT_WEIGHTS)
        batch.forms[LineForm.PROMPT] = len(batch.lines)
        return batch if _all_right(batch.groups) else None
    except (KeyError, TypeError, ValueError):
        return None


def _all_right(groups: Groups) -> bool:
    """Returns whether all groups can be used. Raises TypeError if a text is no text."""
    for weights, examples in groups.items():
        if not 0 < len(weights) <= MAX_SEGMENTS:
            return False
        if not all(map(is_loss_weight, weights)):
            return False
        if {*map(type, examples)} != {list}:
            return False
        columns = list(zip(*examples, strict=True))
        for column in columns:
            "".join(column)
        if all("" in column for column in columns) and not all(map(any, examples)):
            return False
    return True


def _read_line_by_line(block: Block, joiner: str) -> ImportBatch:
    batch = ImportBatch(block.done)
    for number, line in enumerate(block.lines, start=block.first_line):
        if block.too_long:
            batch.refuse(number, TOO_LONG, line)
        elif line and not line.isspace():
            try:
                form, segments = read_line(line)
                batch.add(join_by(segments, joiner))
                if form != LineForm.SEGMENTS:
                    batch.forms[form] += 1
            except ExampleError as error:
                batch.refuse(number, str(error), line)
    return batch

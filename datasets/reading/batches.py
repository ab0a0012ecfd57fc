"""Reads an upload into batches of checked examples; bad lines are named, never fatal.

A block whose lines are all in one form, and right, is decoded in one go. Every other
block goes line by line through `read_line`, which knows every form and every complaint.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from datasets.reading.lines import MAX_EXAMPLE_BYTES, Block, read_blocks
from jobs.trainer.text.examples import ExampleError, Segment, is_loss_weight
from jobs.trainer.text.line_forms import (
    MAX_SEGMENTS,
    PROMPT_WEIGHTS,
    LineForm,
    read_line,
)

Weights = tuple[float, ...]

TOO_LONG = (
    f"longer than {MAX_EXAMPLE_BYTES // 1024**2} MB; split it into several examples"
)
# A key with an escaped letter in it, which may be one that stands there already.
ESCAPED_KEY = re.compile(rb'[{,]\s*"[^"\\]*\\u[^"]*"\s*:')


class Data(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The texts of an example with the loss weight of each."""

    text_list: Sequence[str]
    loss_weights: Weights


class Line(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A line in the long form."""

    data: Data


class Texts(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The texts of an example without loss weights."""

    text_list: list[str]


class UnweightedLine(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A line without loss weights: one text, or a list of texts."""

    data: str | Texts


class PromptLine(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A prompt with its completion."""

    prompt: str
    completion: str


encoder = msgspec.json.Encoder()
long_lines = msgspec.json.Decoder(Line)
unweighted_lines = msgspec.json.Decoder(UnweightedLine)
prompt_lines = msgspec.json.Decoder(PromptLine)


@dataclass(frozen=True)
class BadLine:
    """A line that was left out. `text` is how the line begins."""

    line: int
    message: str
    text: str


@dataclass
class ImportBatch:
    """The examples of a block: the texts of each, and their loss weights.

    `done` is the number of bytes of the file that are read so far.
    """

    done: int
    texts: list[Sequence[str]] = field(default_factory=list)
    weights: list[Weights] = field(default_factory=list)
    # How many examples came from lines of other forms than our own.
    forms: Counter[LineForm] = field(default_factory=Counter)
    bad_lines: list[BadLine] = field(default_factory=list)
    # What `content` returns, where it is known already.
    encoded: bytes | None = None

    def __len__(self) -> int:
        return len(self.texts)

    def add(self, segments: Sequence[Segment]) -> None:
        """Adds an example."""
        texts, weights = zip(*segments, strict=True)
        self.texts.append(texts)
        self.weights.append(weights)

    def content(self) -> bytes:
        """Returns the lines of all examples, in the long form and the one spelling.

        It is what `dump_line` writes of each.
        """
        if self.encoded is None:
            pairs = zip(self.texts, self.weights, strict=True)
            self.encoded = encoder.encode_lines([Line(Data(*pair)) for pair in pairs])
        return self.encoded

    def refuse(self, line: int, message: str, text: bytes) -> None:
        """Notes a line that is left out.

        The message and the text are cut, and rid of NUL, which PostgreSQL does not
        take.
        """
        shown = text[:200].decode(errors="replace")
        clean = [part.replace("\x00", "\ufffd") for part in (message[:400], shown)]
        self.bad_lines.append(BadLine(line, *clean))


def read_jsonl(path: Path, joiner: str = "") -> Iterator[ImportBatch]:
    """Yields a batch for each block of a .jsonl file.

    `joiner` is put wherever two segments meet without white space between them.
    """
    for block in read_blocks(path):
        yield _read_block(block, joiner)


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


def _read_block(block: Block, joiner: str) -> ImportBatch:
    if not joiner and not block.too_long:
        for read in FORMS:
            batch = read(block)
            if batch is not None and _all_right(batch):
                return batch
    return _read_line_by_line(block, joiner)


def _read_long_form(block: Block) -> ImportBatch | None:
    """Returns None if a line is in another form, or wrong."""
    try:
        found = long_lines.decode_lines(block.text)
    except (msgspec.DecodeError, RecursionError):
        return None
    encoded = encoder.encode_lines(found)
    keys = dict.fromkeys((b'"data"', b'"text_list"', b'"loss_weights"'), len(found))
    # What is spelt as we would spell it has one object a line, and no key twice.
    if encoded != block.text and not _are_single(block, len(found), keys):
        return None
    return ImportBatch(
        block.done,
        [line.data.text_list for line in found],
        [line.data.loss_weights for line in found],
        encoded=encoded,
    )


def _read_unweighted(block: Block) -> ImportBatch | None:
    """Does the same for lines without loss weights."""
    try:
        found = unweighted_lines.decode_lines(block.text)
    except (msgspec.DecodeError, RecursionError):
        return None
    texts: list[Sequence[str]] = [
        [line.data] if isinstance(line.data, str) else line.data.text_list
        for line in found
    ]
    num_lists = sum(isinstance(line.data, Texts) for line in found)
    keys = {b'"data"': len(found), b'"text_list"': num_lists}
    if not _are_single(block, len(found), keys):
        return None
    return ImportBatch(block.done, texts, [(1.0,) * len(some) for some in texts])


def _read_prompts(block: Block) -> ImportBatch | None:
    """Does the same for lines that are a prompt with a completion."""
    try:
        found = prompt_lines.decode_lines(block.text)
    except (msgspec.DecodeError, RecursionError):
        return None
    keys = dict.fromkeys((b'"prompt"', b'"completion"'), len(found))
    if not _are_single(block, len(found), keys):
        return None
    texts: list[Sequence[str]] = [[line.prompt, line.completion] for line in found]
    if not all(line.completion for line in found):
        return None
    return ImportBatch(
        block.done,
        texts,
        [PROMPT_WEIGHTS] * len(texts),
        forms=Counter({LineForm.PROMPT: len(texts)}),
    )


FORMS: tuple[Callable[[Block], ImportBatch | None], ...] = (
    _read_long_form,
    _read_unweighted,
    _read_prompts,
)


def _are_single(block: Block, num_objects: int, keys: dict[bytes, int]) -> bool:
    """Returns whether each line is one object, which has none of its keys twice.

    `keys` tells how often each key stands in the text if it stands in no object twice.
    The decoder takes objects that share a line or go over several. An object of our
    forms cannot be cut into lines that all begin and end with a brace, and within a
    text a line feed is written in another way.
    """
    text = _without_blanks(block)
    return (
        text.count(b"\n") == num_objects
        and text.count(b"}\n{") == num_objects - 1
        and all(text.count(key) == number for key, number in keys.items())
        and not (b"\\u" in text and ESCAPED_KEY.search(text))
    )


def _without_blanks(block: Block) -> bytes:
    if b"\n\n" not in block.text and not block.text.startswith(b"\n"):
        return block.text
    return b"".join(line + b"\n" for line in block.lines if line)


def _all_right(batch: ImportBatch) -> bool:
    """Returns whether every example has texts, not all empty, and a weight for each."""
    for weights in set(batch.weights):
        if not 0 < len(weights) <= MAX_SEGMENTS:
            return False
        if not all(map(is_loss_weight, weights)):
            return False
    if list(map(len, batch.texts)) != list(map(len, batch.weights)):
        return False
    return all(map(any, batch.texts))


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

"""Reads text files as clean documents, without slurs and without held-out text."""

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

from jobs.base_models.pretraining.errors import BuildError
from jobs.base_models.pretraining.slurs import slurs_in

SEPARATOR = "<|endoftext|>"
HELD_OUT = "heldout-"
# Names that were perhaps meant to begin with HELD_OUT. Learning from such a file would
# make all figures wrong.
NEARLY_HELD_OUT = re.compile(r"held[-_ ]?out", re.IGNORECASE)
# So many words in a row are hardly the same by chance.
PASSAGE_WORDS = 13
MIN_DOCUMENT_CHARACTERS = 20

SEPARATOR_LINE = re.compile(rf"(?m)^[ \t]*{re.escape(SEPARATOR)}[ \t]*$")
BLANK_LINES = re.compile(r"\n\s*\n")

INVISIBLE = re.compile("[\u200b-\u200f\u2060\ufeff\u00ad]")
# Line ends of all kinds, such as new pages. Of the other control characters only tabs
# are text.
LINE_END = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")
WORD = re.compile(r"[^\W_]+")

Passage = tuple[str, ...]
# Where a part of a document begins and ends, in characters.
Span = tuple[int, int]


@dataclass(frozen=True)
class Source:
    """The documents of one file."""

    name: str
    documents: tuple[str, ...]

    @property
    def num_bytes(self) -> int:
        """The size of all documents in bytes of UTF-8."""
        return sum(len(document.encode()) for document in self.documents)


def read_sources(folder: Path) -> list[Source]:
    """Reads all files to learn from, in the order of their names; raises BuildError."""
    paths = [path for path in text_files(folder) if not is_held_out(path)]
    if not paths:
        raise BuildError(f"{folder} holds no text files to learn from (*.txt)")
    return [read_source(path) for path in paths]


def read_source(path: Path) -> Source:
    """Reads one file to learn from.

    Raises BuildError if its name was perhaps meant for a file to measure by.
    """
    if NEARLY_HELD_OUT.search(path.name):
        raise BuildError(
            f"{path.name} is for measuring, by its name: what is learned from it "
            f"cannot be measured by it. Call it {HELD_OUT}NAME.txt, or something else."
        )
    return Source(path.stem, tuple(_documents(path)))


def read_held_out(folder: Path) -> list[Source]:
    """Reads the files to measure by, without changing their documents."""
    return [
        Source(path.stem.removeprefix(HELD_OUT), tuple(_split(path)))
        for path in text_files(folder)
        if is_held_out(path)
    ]


def text_files(folder: Path) -> list[Path]:
    """Returns a folder's text files, sorted; raises BuildError if it does not exist."""
    if not folder.is_dir():
        raise BuildError(f"There is no folder {folder}")
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() == ".txt" and path.is_file()
    )


def is_held_out(path: Path) -> bool:
    """Returns whether a file is for measuring, by its name."""
    return path.name.startswith(HELD_OUT)


def _documents(path: Path) -> Iterator[str]:
    """Returns each document once, without those that are too short."""
    long = (text for text in map(clean, _split(path)) if is_long_enough(text))
    return iter(dict.fromkeys(long))


def is_long_enough(document: str) -> bool:
    """Returns whether a document is long enough to learn from."""
    return len(document) >= MIN_DOCUMENT_CHARACTERS


def _split(path: Path) -> list[str]:
    """Splits a file at lines that hold the separator, or else at blank lines."""
    text = _read(path).replace("\r\n", "\n")
    border = SEPARATOR_LINE if SEPARATOR in text else BLANK_LINES
    parts = border.split(text)
    for number, part in enumerate(parts, 1):
        if SEPARATOR in part:
            raise BuildError(
                f"{path.name} has {SEPARATOR} within a line of its document "
                f"{number:,}. Put it on a line of its own, so that it is never learned "
                "as text."
            )
    return [part.strip() for part in parts if part.strip()]


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BuildError(
            f"{path.name} is not UTF-8: byte {error.start:,} cannot be read. Save the "
            "file as UTF-8."
        ) from None


def clean(text: str) -> str:
    """Returns a text with each character written in one way.

    Invisible characters and needless white space are removed.
    """
    text = unicodedata.normalize("NFC", text).replace("\u00a0", " ")
    text = CONTROL.sub("", INVISIBLE.sub("", LINE_END.sub("\n", text)))
    text = re.sub(r"[ \t]+\n", "\n", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


# ----- what is kept for measuring


def passages_of(sources: Iterable[Source]) -> set[Passage]:
    """Returns every run of PASSAGE_WORDS words in the sources, in lower case.

    Punctuation does not count, and a run may reach over several documents of a file.
    """
    passages: set[Passage] = set()
    for source in sources:
        words = [
            _plain(match)
            for document in source.documents
            for match in _words(clean(document))
        ]
        passages.update(passage for _, passage in _passages(words))
    return passages


def without_documents(source: Source, others: Iterable[Source]) -> tuple[Source, int]:
    """Returns the source without documents that the others have too, and their number.

    Short documents have no passage by which they could be found.
    """
    known = {clean(document) for other in others for document in other.documents}
    kept = tuple(document for document in source.documents if document not in known)
    return replace(source, documents=kept), len(source.documents) - len(kept)


def without_passages(source: Source, held_out: set[Passage]) -> tuple[Source, int]:
    """Returns the source without lines of held-out passages, and their number.

    A passage may reach over several lines, and then all of them are dropped. The lines
    that remain may form such a passage again, so this repeats until there is none.
    """
    source, num_dropped = _without(source, lambda text: _passages_in(text, held_out))
    if not num_dropped:
        return source, 0
    source, num_later = without_passages(source, held_out)
    return source, num_dropped + num_later


def _passages_in(text: str, held_out: set[Passage]) -> Iterator[Span]:
    matches = list(_words(text))
    words = list(map(_plain, matches))
    for at, passage in _passages(words):
        if passage in held_out:
            yield matches[at].start(), matches[at + PASSAGE_WORDS - 1].end()


def _words(text: str) -> Iterator[re.Match[str]]:
    return WORD.finditer(text)


def _plain(word: re.Match[str]) -> str:
    """Returns a word in lower case. Variants such as full-width letters are unified."""
    return unicodedata.normalize("NFKC", word.group()).lower()


def _passages(words: list[str]) -> Iterator[tuple[int, Passage]]:
    return enumerate(zip(*(words[n:] for n in range(PASSAGE_WORDS)), strict=False))


# ----- what must not be learned


def without_slurs(source: Source, slurs: frozenset[str]) -> tuple[Source, int]:
    """Returns the source without lines that hold a slur, and their number."""
    return _without(source, lambda text: slurs_in(text, slurs))


def _without(
    source: Source, faults_in: Callable[[str], Iterator[Span]]
) -> tuple[Source, int]:
    documents, num_dropped = [], 0
    for document in source.documents:
        faults = list(faults_in(document))
        kept, dropped = _drop_lines(document, faults) if faults else (document, 0)
        num_dropped += dropped
        if is_long_enough(kept):
            documents.append(kept)
    return replace(source, documents=tuple(documents)), num_dropped


def _drop_lines(document: str, faults: Sequence[Span]) -> tuple[str, int]:
    """Returns a document without the lines that a fault touches, and their number."""
    lines = document.splitlines(keepends=True)
    ends = list(accumulate(map(len, lines)))
    bad = {
        number
        for begin, end in faults
        for number in range(bisect_left(ends, begin + 1), bisect_left(ends, end) + 1)
    }
    kept = "".join(line for number, line in enumerate(lines) if number not in bad)
    return clean(kept), len(bad)

"""Text files to clean documents: no slurs, and nothing that is kept for measuring."""

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

from jobs.base_models.pretraining.slurs import slurs_in

SEPARATOR = "<|endoftext|>"
HELD_OUT = "heldout-"
# A passage of so many words is no accident of language.
PASSAGE_WORDS = 13
SHORTEST_CHARACTERS = 20

INVISIBLE = re.compile("[\u200b-\u200f\u2060\ufeff\u00ad]")
# Of all control characters only line feeds and tabs are text.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
WORD = re.compile(r"[^\W_]+")

Passage = tuple[str, ...]
# Where a piece of a document begins and ends, in characters.
Span = tuple[int, int]


class TextsError(ValueError):
    """A folder of texts that nothing can be learned from, or must not be."""


@dataclass(frozen=True)
class Source:
    """A file's documents."""

    name: str
    documents: tuple[str, ...]

    @property
    def num_bytes(self) -> int:
        return sum(len(document.encode()) for document in self.documents)


def read_sources(folder: Path) -> list[Source]:
    """All files to learn from, in the order of their names."""
    paths = [path for path in text_files(folder) if not is_held_out(path)]
    if not paths:
        raise TextsError(f"{folder} holds no text files to learn from (*.txt)")
    return [read_source(path) for path in paths]


def read_source(path: Path) -> Source:
    if is_held_out(path):
        raise TextsError(
            f"{path.name} is for measuring: what is learned from it cannot be measured "
            "by it"
        )
    return Source(path.stem, tuple(_documents(path)))


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise TextsError(
            f"{path.name} is not UTF-8: byte {error.start:,} cannot be read. Save the "
            "file as UTF-8."
        ) from None


def read_held_out(folder: Path) -> list[Source]:
    """Files that are measured by, as they are."""
    return [
        Source(path.stem.removeprefix(HELD_OUT), tuple(_split(_read(path))))
        for path in text_files(folder)
        if is_held_out(path)
    ]


def text_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.txt"))


def is_held_out(path: Path) -> bool:
    return path.name.startswith(HELD_OUT)


def _documents(path: Path) -> Iterator[str]:
    """Each once, without those too short to say anything."""
    cleaned = map(clean, _split(_read(path)))
    long = (text for text in cleaned if len(text) >= SHORTEST_CHARACTERS)
    return iter(dict.fromkeys(long))


def _split(text: str) -> list[str]:
    """At lines that hold the separator, or else at blank lines."""
    text = text.replace("\r\n", "\n")
    if f"\n{SEPARATOR}\n" in text:
        parts = re.split(rf"(?m)^{re.escape(SEPARATOR)}$", text)
    else:
        parts = re.split(r"\n\s*\n", text)
    return [part.strip() for part in parts if part.strip()]


def clean(text: str) -> str:
    """One way to write each character, no invisible ones, no ragged white space."""
    text = unicodedata.normalize("NFC", text).replace("\u00a0", " ")
    text = CONTROL.sub("", INVISIBLE.sub("", text.replace("\r", "\n")))
    text = re.sub(r"[ \t]+\n", "\n", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


# ----- what is kept for measuring


def passages_of(sources: Iterable[Source]) -> set[Passage]:
    """Every run of PASSAGE_WORDS words, whatever their case and punctuation."""
    return {
        passage
        for source in sources
        for document in source.documents
        for _, passage in _passages([m.group().lower() for m in _words(document)])
    }


def without_passages(source: Source, held_out: set[Passage]) -> tuple[Source, int]:
    """The source without paragraphs that hold such a passage, and how many those are.

    A passage may reach over several paragraphs: all of them go.
    """
    return _without(source, lambda text: _passages_in(text, held_out))


def _passages_in(text: str, held_out: set[Passage]) -> Iterator[Span]:
    matches = list(_words(text))
    words = [match.group().lower() for match in matches]
    for at, passage in _passages(words):
        if passage in held_out:
            yield matches[at].start(), matches[at + PASSAGE_WORDS - 1].end()


def _words(text: str) -> Iterator[re.Match[str]]:
    return WORD.finditer(text)


def _passages(words: list[str]) -> Iterator[tuple[int, Passage]]:
    return enumerate(zip(*(words[n:] for n in range(PASSAGE_WORDS)), strict=False))


# ----- what must not be learned


def without_slurs(source: Source, slurs: frozenset[str]) -> tuple[Source, int]:
    """The source without paragraphs that hold one, and how many those are."""
    return _without(source, lambda text: slurs_in(text, slurs))


def _without(
    source: Source, faults_in: Callable[[str], Iterator[Span]]
) -> tuple[Source, int]:
    documents, num_dropped = [], 0
    for document in source.documents:
        faults = list(faults_in(document))
        kept, dropped = _drop_lines(document, faults) if faults else (document, 0)
        num_dropped += dropped
        if len(kept) >= SHORTEST_CHARACTERS:
            documents.append(kept)
    return replace(source, documents=tuple(documents)), num_dropped


def _drop_lines(document: str, faults: Sequence[Span]) -> tuple[str, int]:
    """Without the lines that a fault touches, and how many those are."""
    lines = document.splitlines(keepends=True)
    ends = list(accumulate(map(len, lines)))
    bad = {
        number
        for begin, end in faults
        for number in range(bisect_left(ends, begin + 1), bisect_left(ends, end) + 1)
    }
    kept = "".join(line for number, line in enumerate(lines) if number not in bad)
    return clean(kept), len(bad)

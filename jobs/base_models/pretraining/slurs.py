"""Finds words that the model which ships must not say, so that it never reads them.

`slurs.txt` holds hashes, so that the words themselves are written nowhere: the first 16
hexadecimal digits of the SHA-256 of each word in lower case, sorted. The list was made
for this purpose. It has slurs against people for their origin, colour, religion, sex,
love or health, and the coarsest swear words, each in its usual spellings. Words with an
innocent meaning that old books use are left out. To add a word:

    printf word | sha256sum | cut -c1-16
"""

import re
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path

PATH = Path(__file__).with_name("slurs.txt")
DIGITS = 16
WORD = re.compile(r"[^\W\d_]+")


def read_slurs() -> frozenset[str]:
    """Returns the hashes of all slurs."""
    return frozenset(PATH.read_text().split())


def slurs_in(text: str, slurs: frozenset[str]) -> Iterator[tuple[int, int]]:
    """Yields where each slur begins and ends, in characters."""
    for word in WORD.finditer(text):
        if is_slur(word.group().lower(), slurs):
            yield word.span()


@cache
def is_slur(word: str, slurs: frozenset[str]) -> bool:
    """Returns whether a word in lower case is a slur, or may be the plural of one."""
    forms = (word, word.removesuffix("s"), word.removesuffix("es"))
    return any(digest(form) in slurs for form in forms)


def digest(word: str) -> str:
    """Returns the hash of a word, as `slurs.txt` has it."""
    return sha256(word.encode()).hexdigest()[:DIGITS]

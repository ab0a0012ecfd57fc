"""Words that the model which ships must not say, so it never reads them.

`slurs.txt` holds hashes, so that the words themselves stand nowhere: of each word in
lower case the first 16 hexadecimal digits of its SHA-256, sorted. The list was put
together for this purpose: slurs against people for their origin, colour, religion,
sex, love or health, and the coarsest swear words, each in its usual spellings. Words
with an innocent meaning that old books use are left out. To add one:

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
    return frozenset(PATH.read_text().split())


def slurs_in(text: str, slurs: frozenset[str]) -> Iterator[tuple[int, int]]:
    """Where each begins and ends."""
    for word in WORD.finditer(text):
        if is_slur(word.group().lower(), slurs):
            yield word.span()


@cache
def is_slur(word: str, slurs: frozenset[str]) -> bool:
    """A word in lower case, or what it may be the plural of."""
    forms = (word, word.removesuffix("s"), word.removesuffix("es"))
    return any(digest(form) in slurs for form in forms)


def digest(word: str) -> str:
    return sha256(word.encode()).hexdigest()[:DIGITS]

"""[contract] Whole characters: which token may come next, so that an answer is UTF-8.

Vocabularies of bytes have tokens that are parts of characters, and a model may put them
together as no character is written.
"""

import codecs
import json
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from jobs.trainer.text.byte_alphabet import lettered_bytes, numbered_byte

# Python finds these, which are no characters, only by their third byte.
SURROGATE = re.compile(rb"\xed[\xa0-\xbf]")
# A character has at most 4 bytes; of those that have several, the first is at least so.
MAX_PENDING = 3
FIRST_OF_SEVERAL = 0xC0

_decoder = codecs.getincrementaldecoder("utf-8")


class Characters:
    """`pending` is always what there is of a character that is not complete."""

    def __init__(self, tokens: Sequence[bytes]) -> None:
        # By token id.
        self.tokens = tokens
        # Large vocabularies take a moment, and there are a thousand begun characters.
        self.misfits = lru_cache(maxsize=64)(self._misfits)

    def after(self, pending: bytes, token: int) -> bytes | None:
        """What is pending behind the token. None: it cannot stand there."""
        decoder = _decoder()
        decoder.setstate((pending, 0))
        try:
            decoder.decode(self._bytes_of(token))
        except UnicodeDecodeError:
            return None
        pending = decoder.getstate()[0]
        return None if SURROGATE.match(pending) else pending

    def at_end(self, tokens: Sequence[int]) -> bytes:
        """What is pending behind a text, which may begin within a character."""
        last = b"".join(map(self._bytes_of, tokens[-MAX_PENDING:]))[-MAX_PENDING:]
        for start, byte in enumerate(last):
            if byte >= FIRST_OF_SEVERAL and _is_begun(last[start:]):
                return last[start:]
        return b""

    def _misfits(self, pending: bytes) -> npt.NDArray[np.int64]:
        """All tokens that cannot stand behind it."""
        ids = range(len(self.tokens))
        found = [one for one in ids if self.after(pending, one) is None]
        return np.array(found, dtype=np.int64)

    def _bytes_of(self, token: int) -> bytes:
        # Models may have more tokens than their vocabulary has names for.
        return self.tokens[token] if token < len(self.tokens) else b""


def _is_begun(text: bytes) -> bool:
    """Whether it is the beginning of one character, and no more."""
    decoder = _decoder()
    try:
        return not decoder.decode(text) and not SURROGATE.match(text)
    except UnicodeDecodeError:
        return False


_known: WeakKeyDictionary[Tokenizer, Characters | None] = WeakKeyDictionary()


def characters_of(tokenizer: Tokenizer) -> Characters | None:
    """None: its tokens are whole characters, or nobody knows how it writes bytes."""
    if tokenizer not in _known:
        tokens = token_bytes(tokenizer)
        _known[tokenizer] = Characters(tokens) if tokens else None
    return _known[tokenizer]


def token_bytes(tokenizer: Tokenizer) -> list[bytes] | None:
    """By token id; None if it is not made of bytes. Control tokens are their names."""
    kinds = set(_decoders(tokenizer))
    if not kinds & {"ByteLevel", "ByteFallback"}:
        return None
    read = lettered_bytes if "ByteLevel" in kinds else numbered_byte
    vocabulary = tokenizer.get_vocab()
    # There may be gaps.
    tokens = [b""] * (1 + max(vocabulary.values(), default=-1))
    for text, number in vocabulary.items():
        spelt = read(text)
        tokens[number] = text.encode() if spelt is None else spelt
    for number, token in tokenizer.get_added_tokens_decoder().items():
        tokens[number] = token.content.encode()
    return tokens


def _decoders(tokenizer: Tokenizer) -> Iterator[str]:
    if tokenizer.decoder is None:
        return
    decoder = json.loads(tokenizer.decoder.__getstate__())
    for part in decoder.get("decoders", [decoder]):
        yield part["type"]

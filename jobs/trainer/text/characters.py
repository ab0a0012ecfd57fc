"""[contract] Finds which tokens may come next, so that an answer is valid UTF-8.

In a vocabulary of bytes some tokens are parts of characters, and a model may put them
together into bytes that are no character.
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

# Surrogates are no characters, but Python's decoder refuses them only at the third
# byte.
SURROGATE = re.compile(rb"\xed[\xa0-\xbf]")
# A character has at most 4 bytes. If it has several, its first byte is at least 0xC0.
MAX_PENDING = 3
FIRST_OF_SEVERAL = 0xC0

_decoder = codecs.getincrementaldecoder("utf-8")


class Characters:
    """Knows the bytes of all tokens, and which of them may follow each other.

    `pending` is always the beginning of a character that is not complete yet.
    """

    def __init__(self, tokens: Sequence[bytes], *, one_by_one: bool = False) -> None:
        # The bytes of each token, by its id.
        self.tokens = tokens
        # Whether the tokenizer writes each byte of a broken character as a character.
        self.one_by_one = one_by_one
        # Large vocabularies take a moment, and a character can begin in about a
        # thousand ways, so only the latest results are kept.
        self.misfits = lru_cache(maxsize=64)(self._misfits)

    def after(self, pending: bytes, token: int) -> bytes | None:
        """Returns what is pending after the token, or None if it cannot come next."""
        decoder = _decoder()
        decoder.setstate((pending, 0))
        try:
            decoder.decode(self._bytes_of(token))
        except UnicodeDecodeError:
            return None
        pending = decoder.getstate()[0]
        return None if SURROGATE.match(pending) else pending

    def at_end(self, tokens: Sequence[int]) -> bytes:
        """Returns what is pending after a text, which may begin within a character."""
        last = b"".join(map(self._bytes_of, tokens[-MAX_PENDING:]))[-MAX_PENDING:]
        for start, byte in enumerate(last):
            if byte >= FIRST_OF_SEVERAL and _is_begun(last[start:]):
                return last[start:]
        return b""

    def marks_of(self, pending: bytes) -> int:
        """Returns how many replacement characters the tokenizer writes for them."""
        return len(pending) if self.one_by_one else min(1, len(pending))

    def _misfits(self, pending: bytes) -> npt.NDArray[np.int64]:
        """Returns the ids of all tokens that cannot come next."""
        ids = range(len(self.tokens))
        found = [one for one in ids if self.after(pending, one) is None]
        return np.array(found, dtype=np.int64)

    def _bytes_of(self, token: int) -> bytes:
        # A model may have more tokens than its vocabulary has names.
        return self.tokens[token] if token < len(self.tokens) else b""


def _is_begun(text: bytes) -> bool:
    """Returns whether the text is the beginning of one character and nothing else."""
    decoder = _decoder()
    try:
        return not decoder.decode(text) and not SURROGATE.match(text)
    except UnicodeDecodeError:
        return False


_known: WeakKeyDictionary[Tokenizer, Characters | None] = WeakKeyDictionary()


def characters_of(tokenizer: Tokenizer) -> Characters | None:
    """Returns the characters of a tokenizer, which are made once and kept.

    Returns None if its tokens are whole characters, or if it is not known how it writes
    bytes.
    """
    if tokenizer not in _known:
        tokens = token_bytes(tokenizer)
        one_by_one = "ByteLevel" not in set(_decoders(tokenizer))
        _known[tokenizer] = (
            Characters(tokens, one_by_one=one_by_one) if tokens else None
        )
    return _known[tokenizer]


def token_bytes(tokenizer: Tokenizer) -> list[bytes] | None:
    """Returns the bytes of each token by its id, or None if tokens are not bytes.

    The bytes of a control token are those of its name.
    """
    kinds = set(_decoders(tokenizer))
    if not kinds & {"ByteLevel", "ByteFallback"}:
        return None
    read = lettered_bytes if "ByteLevel" in kinds else numbered_byte
    vocabulary = tokenizer.get_vocab()
    # Token ids may have gaps.
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

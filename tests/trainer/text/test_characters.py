"""Answers are made of whole characters, whatever a model prefers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders
from tokenizers.models import BPE, WordLevel

from jobs.trainer.text.characters import Characters, characters_of
from jobs.trainer.text.encoding import encode_text, load_tokenizer
from tests.support.paths import TINY

TOKENIZER = load_tokenizer(TINY)
# Each byte is a token, whose id is the byte's number.
BYTES = Characters([bytes([number]) for number in range(256)])


def follow(tokens, characters=BYTES):
    """Returns what is pending after the tokens, or None if one cannot be there."""
    pending = b""
    for token in tokens:
        pending = characters.after(pending, token)
        if pending is None:
            return None
    return pending


@given(st.binary(max_size=6))
def test_what_fits_is_what_can_still_become_utf8(text):
    def is_text(content):
        try:
            content.decode()
        except UnicodeDecodeError:
            return False
        return True

    # These cover all ends that a begun character can have.
    lead, late = b"\x80", b"\xbf"
    ends = [b"", lead, late, lead * 2, late + lead, lead * 3, late + lead * 2]
    assert (follow(text) is not None) == any(is_text(text + end) for end in ends)


@given(st.text())
def test_text_fits_token_by_token(text):
    assert follow(encode_text(TOKENIZER, text), characters_of(TOKENIZER)) == b""


def test_a_character_is_not_broken_off_by_the_end_token():
    characters = characters_of(TOKENIZER)
    *begun, last = encode_text(TOKENIZER, "\U00013080")
    pending = follow(begun, characters)
    assert characters.after(pending, 0) is None
    assert 0 in characters.misfits(pending)
    assert last not in characters.misfits(pending)


def test_a_prompt_may_end_within_a_character():
    *begun, last = encode_text(TOKENIZER, "word \U00013080")
    characters = characters_of(TOKENIZER)
    assert characters.after(characters.at_end(begun), last) == b""


def test_a_character_may_begin_in_a_token_that_ends_another():
    characters = Characters([b"\xe2\x82", b"\xac\xf0", b"\x9f", b"\x98", b"\x80"])
    assert characters.at_end([0, 1, 2, 3]) == b"\xf0\x9f\x98"
    assert characters.at_end([0, 1, 2, 3, 4]) == b""


def test_a_vocabulary_may_have_gaps():
    tokenizer = Tokenizer(BPE({"a": 0, "Ã": 5}, []))
    tokenizer.decoder = decoders.ByteLevel()
    assert characters_of(tokenizer).tokens == [b"a", b"", b"", b"", b"", b"\xc3"]


def test_tokens_beyond_the_vocabulary_write_nothing():
    assert BYTES.after(b"", 300) == b""


def test_lone_bytes_of_other_vocabularies_are_bytes():
    vocabulary = {"a": 0, "<0xC3>": 1, "<0xA9>": 2}
    tokenizer = Tokenizer(BPE(vocabulary, []))
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    assert list(characters_of(tokenizer).misfits(b"\xc3")) == [0, 1]


@pytest.mark.parametrize("decoder", [None, decoders.WordPiece()])
def test_vocabularies_of_words_need_no_guard(decoder):
    tokenizer = Tokenizer(WordLevel({"a": 0}, "a"))
    if decoder is not None:
        tokenizer.decoder = decoder
    assert characters_of(tokenizer) is None

"""Text comes in whole characters, and all of it comes."""

import pytest

from jobs.trainer.contract.model_folders import SHIPPED
from jobs.trainer.text.encoding import encode_text, load_tokenizer
from jobs.trainer.text.text_pieces import TextDecoder

TOKENIZER = load_tokenizer(SHIPPED / "tiny")


def said(tokens, num_marks=0):
    decoder = TextDecoder(TOKENIZER, encode_text(TOKENIZER, "Line:"))
    pieces = [decoder.push(token) for token in tokens]
    return "".join(pieces) + decoder.flush(num_marks)


@pytest.mark.parametrize("text", ["ok \ufffd", "caf\ufffd", "\ufffd" * 5, "a\ufffdb"])
def test_replacement_characters_that_were_written_are_kept(text):
    assert said(encode_text(TOKENIZER, text)) == text


def test_a_character_that_stays_unfinished_is_left_out():
    *begun, _ = encode_text(TOKENIZER, "\U0001fad6")
    for text in ("tea ", "\ufffd"):
        tokens = encode_text(TOKENIZER, text) + begun
        assert said(tokens, num_marks=1) == text

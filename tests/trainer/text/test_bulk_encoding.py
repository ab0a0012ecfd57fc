"""Encoding many examples at once gives the same tokens as encoding one by one."""

import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from jobs.trainer.contract.model_folders import SHIPPED
from jobs.trainer.text import bulk_encoding
from jobs.trainer.text.bulk_encoding import (
    CUTS_BEFORE_SPACES,
    BulkEncoder,
    PieceMemo,
    cuts_before_spaces,
)
from jobs.trainer.text.encoding import (
    TextEncoder,
    encode_example,
    load_encoder,
    load_tokenizer,
)

TINY = SHIPPED / "tiny"
END = load_encoder(TINY).end_id

BYTES = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": False,
    "use_regex": False,
}
WORDS = BYTES | {"use_regex": True}
DIGITS = {"type": "Digits", "individual_digits": True}


def split(pattern):
    return {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": "Isolated",
        "invert": False,
    }


def sequence(*steps):
    return {"type": "Sequence", "pretokenizers": steps}


def tokenizer_with(**changes):
    """Returns the tokenizer of `tiny` with other settings."""
    value = json.loads((TINY / "tokenizer.json").read_bytes()) | changes
    tokenizer = Tokenizer.from_str(json.dumps(value))
    tokenizer.encode_special_tokens = True
    return tokenizer


THINK = {
    "id": 4096,
    "content": "<think>",
    "single_word": False,
    "lstrip": False,
    "rstrip": False,
    "normalized": False,
    "special": False,
}
CUTTING = [
    load_tokenizer(TINY),
    tokenizer_with(pre_tokenizer=sequence(DIGITS, WORDS)),
    *(
        tokenizer_with(
            normalizer={"type": "NFC"},
            pre_tokenizer=sequence(split(pattern), BYTES),
            added_tokens=[THINK],
        )
        for pattern in sorted(CUTS_BEFORE_SPACES)
    ),
]
NOT_CUTTING = [
    tokenizer_with(pre_tokenizer=BYTES),
    tokenizer_with(pre_tokenizer=None),
    tokenizer_with(pre_tokenizer=WORDS | {"add_prefix_space": True}),
    tokenizer_with(pre_tokenizer=sequence(split(r"\s+|\S+ \S+"), BYTES)),
    tokenizer_with(
        normalizer={"type": "Strip", "strip_left": True, "strip_right": True}
    ),
    tokenizer_with(added_tokens=[THINK | {"content": "so to"}]),
    tokenizer_with(added_tokens=[THINK | {"lstrip": True}]),
]
# All that tokenizers treat in a special way, each beside each other.
PARTS = [" ", "  ", "\n", "\r\n", "\t", "\x1c", "\x85", "\xa0", "\u3000", "\u0301"]
PARTS += ["'s", "'LL", "n't", "so", "to", "<think>", "<|endoftext|>", "12", "½", "_"]
PARTS += ["é", "ß", "ж", "日本", "e\u0301", "🦊", "...", "!", '"', "a", "Mind the gap"]
TEXTS = st.lists(st.sampled_from(PARTS) | st.text(max_size=4), max_size=12).map("".join)
SEGMENTS = st.tuples(TEXTS, st.sampled_from([0.0, 0.1, 1.0]))
EXAMPLES = st.lists(st.lists(SEGMENTS, min_size=1, max_size=3), min_size=1, max_size=5)


@pytest.mark.parametrize("tokenizer", CUTTING + NOT_CUTTING)
@given(EXAMPLES, st.sampled_from([None, 1]))
@example([[("", 1.0)], [(" so  to\n so", 0.1), ("", 1.0)]], None)
def test_tokens_are_those_of_each_example_alone(tokenizer, examples, begin_id):
    encoder = TextEncoder(tokenizer, begin_id, (END,))
    batch = BulkEncoder(encoder).encode(examples)
    encoded = [encode_example(encoder, one) for one in examples]
    assert batch.ids.tolist() == [token for one in encoded for token in one.ids]
    assert batch.lengths.tolist() == [len(one.ids) for one in encoded]
    weights = np.array([w for one in encoded for w in one.weights], dtype=np.float32)
    assert batch.weights.tolist() == weights.tolist()
    assert batch.have_context.tolist() == [one.has_context for one in encoded]


@pytest.mark.parametrize("tokenizer", CUTTING)
def test_tokenizers_that_cut_before_spaces_are_recognised(tokenizer):
    assert cuts_before_spaces(tokenizer)


@pytest.mark.parametrize("tokenizer", NOT_CUTTING)
def test_no_other_tokenizer_has_its_texts_cut(tokenizer):
    assert not cuts_before_spaces(tokenizer)


def test_a_piece_that_recurs_is_encoded_once():
    memo = PieceMemo(CUTTING[0])
    memo.encode(["the gap and the gap", "the gap"])
    assert list(memo.numbers) == ["the", " gap", " and", " the"]


def test_a_full_memo_starts_again_and_changes_nothing(monkeypatch):
    monkeypatch.setattr(bulk_encoding, "MAX_KNOWN_PIECES", 3)
    memo = PieceMemo(CUTTING[0])
    before, _ = memo.encode(["one two three four"])
    assert not memo.numbers
    assert memo.encode(["one two three four"])[0].tolist() == before.tolist()

"""Tokens as clients read them: their names, and which are told when."""

import pytest

from jobs.serving.token_log import TokenLog, TokenNames, as_bytes
from jobs.trainer.answering.answer import Piece
from jobs.trainer.answering.token_choice import Chance
from jobs.trainer.text.encoding import load_tokenizer
from tests.support.paths import TINY

TEXT = "Tea for two, 🫖 and cake"


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(TINY)


@pytest.fixture(scope="module")
def names(tokenizer):
    return TokenNames(tokenizer)


def piece(text, tokens, finish_reason=None):
    chances = tuple(Chance(-1.0, ((5, -0.5), (6, -2.0))) for _ in tokens)
    return Piece(0, text, tuple(tokens), finish_reason, False, chances)


def test_names_join_to_the_text(tokenizer, names):
    tokens = tokenizer.encode("Once upon a time, there was").ids
    assert "".join(names[token] for token in tokens) == "Once upon a time, there was"


def test_parts_of_a_character_are_named_by_their_bytes(tokenizer, names):
    told = [names[token] for token in tokenizer.encode("🫖").ids]
    assert all(name.startswith("bytes:") for name in told)
    joined = "".join(name.removeprefix("bytes:\\x").replace("\\x", "") for name in told)
    assert bytes.fromhex(joined).decode() == "🫖"


def test_control_token_is_named_as_it_is_written(tokenizer, names):
    assert names[tokenizer.token_to_id("<|endoftext|>")] == "<|endoftext|>"


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        ("Ġthe", " the"),
        ("<0xE2>", "bytes:\\xe2"),
        ("ðŁ", "bytes:\\xf0\\x9f"),
        ("▁", ""),
    ],
)
def test_entries_of_a_vocabulary(entry, name):
    assert as_bytes(entry) == name


def test_places_count_whole_characters_from_the_prompt_on(tokenizer, names):
    tokens = tokenizer.encode(TEXT).ids
    log = TokenLog(names, 0, [], 10)
    told = log.take([piece(TEXT, tokens, "length")])
    for name, place in zip(told["tokens"], told["text_offset"], strict=True):
        at = TEXT[place - 10 :]
        assert at.startswith("🫖") if name.startswith("bytes:") else at.startswith(name)


def test_tokens_whose_text_waits_are_told_with_it(tokenizer, names):
    first, *rest = tokenizer.encode("Once upon a time").ids
    log = TokenLog(names, 0, [], 0)
    assert log.take([piece(names[first], [first, *rest])])["tokens"] == [names[first]]
    text = "".join(names[token] for token in rest)
    assert len(log.take([piece(text, [])])["tokens"]) == len(rest)


def test_tokens_of_a_stop_text_are_never_told(tokenizer, names):
    tokens = tokenizer.encode("Once upon a time").ids
    log = TokenLog(names, 0, [], 0)
    told = log.take([piece("Once", tokens, "stop")])
    assert "".join(told["tokens"]).startswith("Once")
    assert len(told["tokens"]) < len(tokens)


def test_top_holds_the_chosen_token_too(names):
    told = TokenLog(names, 2, [], 0).take([piece("x", [9], "length")])
    assert told["top_logprobs"] == [{names[5]: -0.5, names[6]: -2.0, names[9]: -1.0}]


def test_no_top_asked_none_told(names):
    told = TokenLog(names, 0, [], 0).take([piece("x", [9], "length")])
    assert told["top_logprobs"] is None

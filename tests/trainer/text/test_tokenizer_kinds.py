"""What a model learns is what it is asked, whatever kind of tokenizer it has."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.trainers import BpeTrainer, UnigramTrainer, WordPieceTrainer

from jobs.trainer.contract.model_folders import SHIPPED
from jobs.trainer.text.bulk_encoding import BulkEncoder
from jobs.trainer.text.encoding import (
    TokenizerError,
    check_reads_back,
    encode_example,
    encode_prompt,
    load_encoder,
)
from tests.support.paths import SAMPLES

TINY = SHIPPED / "tiny"
BEGIN, END = "<s>", "</s>"
SPECIAL = ["<unk>", BEGIN, END]
BYTE_TOKENS = [f"<0x{byte:02X}>" for byte in range(256)]
WORDS = ("wonder", "ful", "Total: 4", "2", " the", "  two spaces", "\n\n", "User:", "é")
TEXTS = st.lists(st.sampled_from(WORDS) | st.text(max_size=6), max_size=4).map("".join)
SEGMENTS = st.tuples(TEXTS, st.sampled_from([0.0, 0.1, 1.0]))
EXAMPLES = st.lists(SEGMENTS, min_size=1, max_size=4)


def stories():
    return (SAMPLES / "stories.txt").read_text().splitlines()[:200]


def tiny_with(**changes):
    settings = json.loads((TINY / "tokenizer.json").read_bytes())
    return Tokenizer.from_str(json.dumps(settings | changes))


def with_prefix_space():
    step = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True}
    return tiny_with(pre_tokenizer=step | {"use_regex": True})


def with_begin_token():
    name = "<|endoftext|>"
    begin = {"SpecialToken": {"id": name, "type_id": 0}}
    text, other = ({"Sequence": {"id": one, "type_id": 0}} for one in "AB")
    return tiny_with(
        post_processor={
            "type": "TemplateProcessing",
            "single": [begin, text],
            "pair": [begin, text, other],
            "special_tokens": {name: {"id": name, "ids": [0], "tokens": [name]}},
        }
    )


def cutting_and_padding():
    tokenizer = tiny_with()
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=16)
    return tokenizer


def back_to_spaces(*last):
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    return decoders.Sequence([*steps, *last])


def metaspace(scheme):
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    special = SPECIAL + BYTE_TOKENS
    trainer = BpeTrainer(vocab_size=600, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(stories(), trainer)
    strip = [] if scheme == "never" else [decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = back_to_spaces(*strip)
    return without_special_bytes(tokenizer)


def llama_like():
    """The space comes from a normalizer, as in the files of Llama 2."""
    settings = json.loads(metaspace("never").to_str())
    tokenizer = Tokenizer.from_str(json.dumps(settings | {"pre_tokenizer": None}))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = back_to_spaces(decoders.Strip(" ", 1, 0))
    return tokenizer


def unigram():
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    trainer = UnigramTrainer(
        vocab_size=600,
        special_tokens=SPECIAL + BYTE_TOKENS,
        unk_token="<unk>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(stories(), trainer)
    settings = json.loads(tokenizer.to_str())
    settings["model"]["byte_fallback"] = True
    tokenizer = Tokenizer.from_str(json.dumps(settings))
    tokenizer.decoder = back_to_spaces(decoders.Strip(" ", 1, 0))
    return without_special_bytes(tokenizer)


def without_special_bytes(tokenizer):
    """Bytes are ordinary tokens, which a text may become."""
    settings = json.loads(tokenizer.to_str())
    settings["added_tokens"] = [
        token for token in settings["added_tokens"] if token["content"] in SPECIAL
    ]
    return Tokenizer.from_str(json.dumps(settings))


def word_piece():
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = WordPieceTrainer(
        vocab_size=600, special_tokens=SPECIAL, show_progress=False
    )
    tokenizer.train_from_iterator(stories(), trainer)
    return tokenizer


KINDS = {
    "byte level": tiny_with,
    "byte level, with a space first": with_prefix_space,
    "byte level, with a begin token": with_begin_token,
    "byte level, cutting and padding": cutting_and_padding,
    "metaspace, always": lambda: metaspace("always"),
    "metaspace, first": lambda: metaspace("first"),
    "metaspace, never": lambda: metaspace("never"),
    "space by normalizer": llama_like,
    "unigram": unigram,
}


@pytest.fixture(scope="module", params=KINDS)
def encoder(request, tmp_path_factory):
    return encoder_of(KINDS[request.param], tmp_path_factory.mktemp("model"))


def encoder_of(make, folder):
    make().save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text('{"eos_token_id": 2}')
    return load_encoder(folder)


def decoded(encoder, ids):
    return encoder.tokenizer.decode(list(ids))


@given(EXAMPLES)
def test_training_and_asking_agree_at_every_border(encoder, example):
    encoded = encode_example(encoder, example)
    texts = [text for text, _ in example]
    assert encoded.ids[encoded.has_context :] == behind_context(encoder, texts) + [
        encoder.end_id
    ]
    for number in range(1, len(texts) + 1):
        if not any(texts[:number]) and not encoded.has_context:
            # Nothing was learned to come first.
            continue
        asked = encode_prompt(encoder, *texts[:number])
        begins_alike = encoded.ids[: len(asked)] == asked
        # A prompt that is learned from its first token on stands behind the context.
        assert begins_alike or encoded.ids[1 : len(asked) + 1] == asked


def behind_context(encoder, texts):
    asked = encode_prompt(encoder, *texts)
    if encoder.begin_id is not None or not any(texts):
        return asked[1:]
    return asked


@given(EXAMPLES)
def test_tokens_decode_to_the_joined_text(encoder, example):
    encoded = encode_example(encoder, example)
    text = "".join(text for text, _ in example)
    found = decoded(encoder, encoded.ids[encoded.has_context : -1])
    # Where a tokenizer puts a space first, a text with one and without are the same.
    assert found in (text, f" {text}", text.removeprefix(" "))


@given(st.lists(EXAMPLES, min_size=1, max_size=5))
def test_many_at_once_are_encoded_as_one_alone(encoder, examples):
    batch = BulkEncoder(encoder).encode(examples)
    alone = [encode_example(encoder, example) for example in examples]
    assert batch.ids.tolist() == [token for one in alone for token in one.ids]
    assert batch.lengths.tolist() == [len(one.ids) for one in alone]


def test_each_kind_reads_back_what_it_was_given(encoder):
    check_reads_back(encoder)


def test_a_tokenizer_that_loses_white_space_is_refused_in_words(tmp_path):
    with pytest.raises(TokenizerError, match="does not give back"):
        check_reads_back(encoder_of(word_piece, tmp_path))


def test_the_begin_token_stands_first_once(tmp_path):
    encoder = encoder_of(with_begin_token, tmp_path)
    assert encoder.begin_id == 0
    assert encode_prompt(encoder, "Once").count(0) == 1
    assert encode_prompt(encoder, "") == [0]
    for weight in (0.0, 1.0):
        encoded = encode_example(encoder, [("Once", weight), (" more", 1.0)])
        assert encoded.ids.count(0) == 1
        assert (encoded.ids[0], encoded.weights[0]) == (0, 0.0)

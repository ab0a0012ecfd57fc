"""Text becomes tokens in one way for preview, cache and trainer."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from threading import Event
from time import perf_counter, sleep

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.trainer.contract.model_folders import SHIPPED
from jobs.trainer.rows.token_cache import build_token_cache, open_token_cache
from jobs.trainer.text.encoding import (
    encode_example,
    encode_prompt,
    encode_text,
    load_encoder,
)
from jobs.trainer.text.examples import dump_line

TINY = SHIPPED / "tiny"
ENCODER = load_encoder(TINY)
TOKENIZER, END = ENCODER.tokenizer, ENCODER.end_id


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_tokens_hold_exactly_the_text(texts):
    encoded = encode_example(ENCODER, [(text, 1.0) for text in texts])
    text = TOKENIZER.decode(encoded.ids[1:-1], skip_special_tokens=False)
    assert text == "".join(texts)


@pytest.mark.alone
def test_other_threads_go_on_while_a_text_is_encoded():
    text = "The capital of France is Paris. " * 30_000
    ticks = [perf_counter()]
    with ThreadPoolExecutor(1) as pool:
        encoding = pool.submit(encode_text, TOKENIZER, text)
        while not encoding.done():
            sleep(0.001)
            ticks.append(perf_counter())
    longest_wait = max(after - before for before, after in pairwise(ticks))
    assert longest_wait < (ticks[-1] - ticks[0]) / 2


def test_segment_borders_are_token_borders():
    encoded = encode_example(ENCODER, [("cap", 0.1), ("ital", 0.9)])
    border = encoded.segments.index(1)
    texts = [TOKENIZER.decode(encoded.ids[1:border])]
    texts.append(TOKENIZER.decode(encoded.ids[border:-1]))
    assert texts == ["cap", "ital"]


def test_the_end_token_carries_the_last_weight():
    encoded = encode_example(ENCODER, [("a", 0.1), (" b", 0.9)])
    assert (encoded.ids[-1], encoded.weights[-1]) == (END, 0.9)


def test_a_typed_control_token_stays_text():
    encoded = encode_example(ENCODER, [("a <|endoftext|> b", 0.0)])
    assert encoded.ids.count(END) == 1


def test_the_empty_prompt_is_the_end_token():
    assert encode_prompt(ENCODER, "") == encode_prompt(ENCODER) == [END]


@pytest.mark.parametrize(
    ("config", "generation", "ends"),
    [
        ([0, 199], None, (0, 199)),
        (0, [199, 0], (199, 0)),
        (0, 0, (0,)),
        (None, 5, (5,)),
    ],
)
def test_all_end_tokens_are_known_and_the_first_is_trained(
    tmp_path, config, generation, ends
):
    shutil.copy(TINY / "tokenizer.json", tmp_path)
    for name, end in (("config", config), ("generation_config", generation)):
        (tmp_path / f"{name}.json").write_text(json.dumps({"eos_token_id": end}))
    encoder = load_encoder(tmp_path)
    assert (encoder.end_ids, encoder.end_id) == (ends, ends[0])


def test_a_first_token_is_learned_behind_the_end_token():
    encoded = encode_example(ENCODER, [("a", 0.1), (" b", 1.0)])
    assert encoded.has_context
    assert (encoded.ids[0], encoded.weights[:2]) == (END, [0.0, 0.1])
    assert encoded.segments == [0, 0, 1, 1]


def test_a_first_token_that_is_only_read_needs_nothing_before_it():
    encoded = encode_example(ENCODER, [("a", 0.0), (" b", 1.0)])
    assert not encoded.has_context
    assert len(encoded.ids) == 3


def test_an_empty_example_teaches_nothing():
    encoded = encode_example(ENCODER, [("", 0.0), ("", 0.5)])
    assert (encoded.ids, encoded.weights) == ([END], [0.5])


@pytest.fixture
def examples(tmp_path):
    examples = [[("What?", 0.0), (" That.", 0.5)], [("Only read.", 0.0)]]
    path = tmp_path / "examples.jsonl"
    path.write_bytes(b"".join(map(dump_line, examples)))
    return path, examples


def test_the_cache_holds_what_the_function_yields(examples, tmp_path):
    path, segments = examples
    cache = build_token_cache(path, TINY, tmp_path / "tokens" / "x")
    encoded = [encode_example(ENCODER, one) for one in segments]
    assert cache.ids.tolist() == [token for one in encoded for token in one.ids]
    assert np.allclose(cache.weights, [w for one in encoded for w in one.weights])
    assert cache.lengths.tolist() == [len(one.ids) for one in encoded]


def test_the_cache_counts_what_is_learned(examples, tmp_path):
    path, _ = examples
    facts = build_token_cache(path, TINY, tmp_path / "tokens" / "x").facts
    assert (facts.examples, facts.unlearned_examples) == (2, 1)
    assert 0 < facts.learned_targets < facts.targets


@pytest.fixture
def texts(tmp_path):
    """A cache of a text of 8 tokens and its end, and of the same after a prompt."""
    text = encode_text(TOKENIZER, "a b c d e f g h")
    assert len(text) == 8
    examples = [[("a b c d e f g h", 1.0)], [("a", 0.0), (" b c d e f g h", 1.0)]]
    path = tmp_path / "texts.jsonl"
    path.write_bytes(b"".join(map(dump_line, examples)))
    return build_token_cache(path, TINY, tmp_path / "tokens" / "x")


def test_what_fits_into_a_row_begins_with_its_context(texts):
    assert texts.bare(9).tolist() == [False, False]
    facts = texts.facts_for(9)
    assert (facts.targets, facts.learned_targets) == (9 + 8, 9 + 8)


def test_running_text_goes_without_context(texts):
    assert texts.bare(4).tolist() == [True, False]
    facts = texts.facts_for(4)
    assert (facts.targets, facts.learned_targets) == (8 + 8, 8 + 8)


def test_a_cache_of_an_older_form_keeps_its_rows(texts):
    (texts.folder / "spare.bin").unlink()
    older = open_token_cache(texts.folder)
    assert older.bare(4).tolist() == [False, False]
    assert older.facts_for(4) == older.facts


def test_running_text_whose_first_token_alone_was_learned_teaches_nothing(tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_bytes(dump_line([("a", 1.0), (" b c d e f", 0.0)]))
    cache = build_token_cache(path, TINY, tmp_path / "tokens" / "x")
    assert cache.facts_for(100).unlearned_examples == 0
    assert cache.facts_for(3).unlearned_examples == 1


def test_a_half_made_cache_does_not_count(examples, tmp_path):
    folder = tmp_path / "tokens" / "x"
    folder.mkdir(parents=True)
    (folder / "ids.bin").write_bytes(b"1234")
    assert open_token_cache(folder) is None


def test_what_a_killed_process_left_goes(examples, tmp_path):
    draft = tmp_path / "tokens" / ".x.123456"
    draft.mkdir(parents=True)
    (draft / "ids.bin").write_bytes(b"1234")
    build_token_cache(examples[0], TINY, tmp_path / "tokens" / "x")
    assert not draft.exists()


def test_who_comes_second_waits_and_encodes_nothing(examples, tmp_path):
    folder = tmp_path / "tokens" / "x"
    began, waited, encoded = Event(), Event(), []

    def first(num_examples):
        began.set()
        assert waited.wait(10)

    def second():
        assert began.wait(10)
        build_token_cache(
            examples[0], TINY, folder, progress=encoded.append, waiting=waited.set
        )

    with ThreadPoolExecutor() as pool:
        both = pool.submit(second)
        build_token_cache(examples[0], TINY, folder, progress=first)
        both.result(10)
    assert waited.is_set()
    assert encoded == []

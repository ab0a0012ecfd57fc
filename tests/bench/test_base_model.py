"""How the base model is judged: the parts of the bench that could judge wrongly."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.base_models.pretraining.slurs import PATH, digest, read_slurs, slurs_in
from jobs.base_models.pretraining.texts import Source
from jobs.new_job.suggest import suggest_settings
from jobs.trainer.answering.generation import Completion
from jobs.trainer.contract.model_folders import SHIPPED
from jobs.trainer.contract.spec import Spec
from jobs.trainer.text.encoding import encode_text, load_tokenizer
from jobs.trainer.text.examples import iter_examples
from tests.bench.base_model import over_all
from tests.bench.base_model_tuning import (
    CAPITALS,
    INTENTS,
    JOKES,
    examples_of,
    has_form,
    loss_fall,
    write_run,
)
from tests.bench.base_model_writing import (
    bytes_of,
    is_text,
    whole_words,
)
from tests.support import factories

TINY = SHIPPED / "tiny"
TOKENIZER = load_tokenizer(TINY)
# Four bytes that no vocabulary has as one token.
RARE = "\U00013080"
JOKE = " Why did the tomato blush? It saw the salad dressing."

every_tuning = pytest.mark.parametrize(
    "tuning", [CAPITALS, INTENTS, JOKES], ids=lambda tuning: tuning.dataset
)


def answer(text="", tokens=(), finish_reason="stop"):
    return Completion(text, finish_reason, tuple(tokens))


@every_tuning
def test_fine_tunes_have_the_settings_that_the_site_suggests(db, tmp_path, tuning):
    examples = list(iter_examples(examples_of(tuning.dataset)))
    version = factories.make_dataset(examples=examples)
    suggested = suggest_settings(version, "tiny", {"epochs": tuning.epochs})
    spec = Spec.load(write_run(tuning, TINY, tmp_path) / "spec.json")
    assert {name: getattr(spec, name) for name in suggested} == suggested


def test_losses_fall_from_the_first_step_to_the_last_epoch():
    losses = [4.0, 3.0, 3.0, 2.0, 1.5, 0.5]
    steps = [{"type": "step", "learned_loss": loss} for loss in losses]
    assert loss_fall([{"type": "log"}, *steps]) == 75


def test_a_joke_has_the_form_of_one():
    assert has_form(answer(JOKE))
    assert has_form(answer(' The clock said: "I have all the time in the world!"'))


@pytest.mark.parametrize(
    "text", [" Too short.", JOKE.replace("?", "?\n"), JOKE[:-1], JOKE * 5]
)
def test_other_texts_have_not(text):
    assert not has_form(answer(text))


def test_a_joke_without_an_end_is_none():
    assert not has_form(answer(JOKE, finish_reason="length"))


def test_a_large_file_counts_for_more_bytes():
    sources = [Source("small", ("x" * 10,)), Source("large", ("x" * 30,))]
    assert over_all(sources, [2.0, 1.0]) == 1.25


# ----- slurs


def test_slurs_are_kept_as_sorted_hashes():
    lines = PATH.read_text().split()
    assert len(lines) >= 50
    assert lines == sorted(set(lines))
    assert all(re.fullmatch("[0-9a-f]{16}", line) for line in lines)


@pytest.mark.parametrize("text", ["A turnip.", "TURNIPS!", "of_turnips_", "turnip's"])
def test_a_word_of_the_list_is_found(text):
    assert any(slurs_in(text, frozenset({digest("turnip")})))


@pytest.mark.parametrize("text", ["", "turnipseed", "turn ip"])
def test_a_word_is_not_found_in_parts_of_others(text):
    assert not any(slurs_in(text, frozenset({digest("turnip")})))


def test_half_a_word_at_the_end_is_not_judged():
    assert whole_words(answer("He ate a turn", finish_reason="length")) == "He ate a "
    assert whole_words(answer("He ate a turn")) == "He ate a turn"


@pytest.mark.parametrize("name", ["capitals", "intents", "jokes"])
def test_the_list_has_none_of_the_words_of_the_samples(name):
    slurs = read_slurs()
    examples = iter_examples(examples_of(name))
    assert not any(
        any(slurs_in(text, slurs)) for example in examples for text, _ in example
    )


# ----- characters


@given(st.text())
def test_tokens_are_written_as_the_bytes_of_their_text(text):
    assert bytes_of(encode_text(TOKENIZER, text), TOKENIZER) == text.encode()


def test_text_is_text():
    assert is_text(answer(tokens=encode_text(TOKENIZER, "naïve ☃\ufffd")), TOKENIZER)


def test_a_lone_byte_in_the_midst_is_no_text():
    *begun, _ = encode_text(TOKENIZER, RARE)
    tokens = begun + encode_text(TOKENIZER, " and more")
    assert not is_text(answer(tokens=tokens), TOKENIZER)


def test_only_what_was_cut_off_may_end_within_a_character():
    *begun, _ = encode_text(TOKENIZER, RARE)
    assert is_text(answer(tokens=begun, finish_reason="length"), TOKENIZER)
    assert not is_text(answer(tokens=begun, finish_reason="stop"), TOKENIZER)

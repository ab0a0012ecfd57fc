"""The sample data people try first: counts, format, weights, no overlap."""

import re
from collections import Counter
from itertools import combinations

import jsonlines
import pytest

from tests.support.paths import SAMPLES

FOLDER = SAMPLES
NUM_EXAMPLES = {
    "jokes": 240,
    "jokes-validation": 24,
    "capitals": 197,
    "capitals-validation": 24,
    "intents": 300,
    "intents-validation": 100,
}
NUM_STORIES = {"stories": 60, "stories-validation": 6}
WEIGHTS = {"jokes": [0, 1], "capitals": [0.1, 0.9], "intents": [0, 1]}
INTENTS = [" borrow", " event", " hours", " lost", " renew"]
COUNTRY = re.compile(r"What is the capital of (.+)\?")

every_jsonl = pytest.mark.parametrize("name", NUM_EXAMPLES)
every_txt = pytest.mark.parametrize("name", NUM_STORIES)


def examples(name):
    with jsonlines.open(FOLDER / f"{name}.jsonl") as lines:
        return [line["data"] for line in lines]


def segments(name, position):
    return [example["text_list"][position] for example in examples(name)]


def text(name):
    return (FOLDER / f"{name}.txt").read_text(encoding="utf-8")


def stories(name):
    return text(name).rstrip("\n").split("\n\n")


@every_jsonl
def test_number_of_examples(name):
    assert len(examples(name)) == NUM_EXAMPLES[name]


@every_jsonl
def test_lines_have_the_long_form(name):
    with jsonlines.open(FOLDER / f"{name}.jsonl") as lines:
        for line in lines:
            assert list(line) == ["data"]
            assert list(line["data"]) == ["text_list", "loss_weights"]


@every_jsonl
def test_examples_have_two_segments(name):
    assert {len(example["text_list"]) for example in examples(name)} == {2}


@every_jsonl
def test_weights(name):
    expected = WEIGHTS[name.removesuffix("-validation")]
    assert all(example["loss_weights"] == expected for example in examples(name))


@every_jsonl
def test_second_segment_starts_with_one_space(name):
    assert all(re.match(r" \S", segment) for segment in segments(name, 1))


@every_jsonl
def test_segments_have_no_stray_whitespace(name):
    for example in examples(name):
        first, second = example["text_list"]
        assert first + second == " ".join((first + second).split())


@every_jsonl
def test_no_example_twice(name):
    texts = ["".join(example["text_list"]).casefold() for example in examples(name)]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("name", ["jokes", "jokes-validation"])
def test_jokes_follow_the_mark(name):
    assert set(segments(name, 0)) == {"<joke>"}


@pytest.mark.parametrize("name", ["jokes", "jokes-validation"])
def test_jokes_have_8_to_30_words(name):
    assert all(8 <= len(joke.split()) <= 30 for joke in segments(name, 1))


def test_validation_jokes_are_not_in_training():
    assert not set(segments("jokes", 1)) & set(segments("jokes-validation", 1))


def test_every_country_once():
    countries = [COUNTRY.fullmatch(q)[1] for q in segments("capitals", 0)]
    assert len(set(countries)) == 197


def test_capitals_are_asked_in_other_words_for_validation():
    assert not set(segments("capitals", 0)) & set(segments("capitals-validation", 0))


def test_validation_capitals_have_the_answers_of_training():
    answers = {
        COUNTRY.fullmatch(question)[1]: answer
        for question, answer in (e["text_list"] for e in examples("capitals"))
    }
    for question, answer in (e["text_list"] for e in examples("capitals-validation")):
        country = re.search(r"capital(?: city)? of (.+?)(?: called)?\?", question)[1]
        assert answer == answers[country]


def messages(name):
    return [segment.removesuffix(" ->") for segment in segments(name, 0)]


def words(message):
    return re.findall(r"[\w']+", message.casefold())


def runs(message, length=5):
    return set(zip(*(words(message)[start:] for start in range(length)), strict=False))


@pytest.mark.parametrize("name", ["intents", "intents-validation"])
def test_as_many_messages_of_each_intent(name):
    share = NUM_EXAMPLES[name] // 5
    assert Counter(segments(name, 1)) == dict.fromkeys(INTENTS, share)


@pytest.mark.parametrize("name", ["intents", "intents-validation"])
def test_messages_end_with_the_mark(name):
    assert all(segment.endswith(" ->") for segment in segments(name, 0))


def test_unseen_messages_share_no_five_words_in_a_row_with_training():
    trained = set().union(*map(runs, messages("intents")))
    unseen = set().union(*map(runs, messages("intents-validation")))
    assert trained and unseen and not trained & unseen


def test_no_two_messages_are_nearly_the_same():
    texts = messages("intents") + messages("intents-validation")
    for one, other in combinations([set(words(text)) for text in texts], 2):
        assert len(one & other) <= 0.8 * len(one | other)


@every_txt
def test_number_of_stories(name):
    assert len(stories(name)) == NUM_STORIES[name]


@every_txt
def test_one_blank_line_between_stories(name):
    assert "\n\n\n" not in text(name)
    assert all(story == story.strip() for story in stories(name))


@every_txt
def test_stories_have_60_to_140_words(name):
    assert all(60 <= len(story.split()) <= 140 for story in stories(name))


def test_no_story_twice():
    both = stories("stories") + stories("stories-validation")
    assert len(set(both)) == len(both)

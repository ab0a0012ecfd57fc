"""OpenAI's forms of a line are read, and wrong lines are refused with a reason."""

import orjson
import pytest

from jobs.trainer.text.examples import ExampleError
from jobs.trainer.text.line_forms import LineForm, read_line

USER = {"role": "user", "content": "2 + 2?"}
FOUR = {"role": "assistant", "content": "4"}
PROMPT = "User: 2 + 2?\n\nAssistant:"


def chat(*messages, **more):
    return orjson.dumps({"messages": messages, **more})


def test_our_own_forms_are_read_as_ever():
    assert read_line('{"data": "a"}') == (LineForm.SEGMENTS, [("a", 1.0)])


def test_a_prompt_is_read_and_its_completion_learned():
    line = '{"prompt": "2 + 2 =", "completion": " 4"}'
    assert read_line(line) == (LineForm.PROMPT, [("2 + 2 =", 0.0), (" 4", 1.0)])


def test_a_prompt_may_be_empty():
    _, segments = read_line('{"prompt": "", "completion": " 4"}')
    assert segments == [("", 0.0), (" 4", 1.0)]


@pytest.mark.parametrize("number", [10_000, 10_001])
def test_segments_beyond_the_most_are_refused(number):
    texts = ["a"] * number
    turns = [USER, FOUR] * (number // 2 + 1)
    lines = {"data": {"text_list": texts}}, {"text_list": texts}, {"messages": turns}
    for line in map(orjson.dumps, lines[: 2 if number == 10_000 else 3]):
        if number == 10_000:
            assert len(read_line(line)[1]) == number
            continue
        with pytest.raises(ExampleError, match="10,000 are the most; join some"):
            read_line(line)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"prompt": "a"}', '"completion" is missing'),
        ('{"completion": "a"}', '"prompt" is missing'),
        ('{"prompt": "a", "completion": ""}', "the completion is empty"),
        ('{"prompt": "a", "completion": 4}', '"completion" is a number'),
        ('{"prompt": ["a"], "completion": "b"}', '"prompt" is a list'),
        ('{"prompt": "a", "completion": "b", "id": 1}', 'unknown key "id"'),
    ],
)
def test_what_is_wrong_with_a_prompt_is_said(line, words):
    with pytest.raises(ExampleError, match=words):
        read_line(line)


@pytest.mark.parametrize(
    "answer",
    [
        FOUR,
        {**FOUR, "weight": 1},
        {**FOUR, "name": "Bo", "refusal": None, "tool_calls": []},
        {**FOUR, "content": [{"type": "text", "text": "4"}]},
    ],
)
def test_a_chat_is_written_out_as_text(answer):
    expected = LineForm.CHAT, [(PROMPT, 0.0), (" 4", 1.0)]
    assert read_line(chat(USER, answer)) == expected


def test_an_answer_has_the_weight_it_is_given():
    _, segments = read_line(chat(USER, {**FOUR, "weight": 0}, USER, FOUR))
    assert [weight for _, weight in segments] == [0.0, 1.0]


def test_no_tools_are_no_fault():
    assert read_line(chat(USER, FOUR, tools=[], parallel_tool_calls=True))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"messages": {}}', '"messages" is an object'),
        ('{"messages": []}', "no message is the assistant's"),
        (chat(USER), "no message is the assistant's"),
        (chat(USER, "4"), "message 2 is a text"),
        (chat({"content": "a"}), "message 1: the role is null"),
        (chat({**USER, "role": "boss"}), 'message 1: the role is "boss"'),
        (chat({**USER, "role": ["user"]}), "message 1: the role is a list"),
        (chat(USER, FOUR, tools=[{"type": "function"}]), '"tools": calls of tools'),
        (chat(USER, FOUR, functions=[{}]), '"functions": calls of tools'),
        (chat(USER, {**FOUR, "tool_calls": [{}]}), 'message 2: "tool_calls": calls'),
        (chat(USER, {"role": "tool", "content": "4"}), "message 2: calls of tools"),
        (chat(USER, {"role": "assistant"}), "message 2: the content is null"),
        (chat({**USER, "content": ["a"]}), "message 1: a part of the content is a te"),
        (
            chat({**USER, "content": [{"type": "image_url"}]}),
            'message 1: a part of the content is of type "image_url"',
        ),
        (chat(USER, {**FOUR, "weight": -1}), "message 2: the weight is -1"),
        (chat(USER, {**FOUR, "weight": True}), "message 2: the weight is true"),
        (chat({**USER, "weight": 1}, FOUR), "message 1: it has a weight"),
        (chat(USER, {**FOUR, "mood": "glad"}), 'message 2: unknown key "mood"'),
        (chat(USER, FOUR, id=7), 'unknown key "id"'),
    ],
)
def test_what_is_wrong_with_a_chat_is_said(line, words):
    with pytest.raises(ExampleError, match=words):
        read_line(line)

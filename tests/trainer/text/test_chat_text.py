"""Chats are written as text, for training and for asking."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.trainer.text.chat_text import (
    CHAT_STOPS,
    LABELS,
    ChatMessage,
    chat_prompt,
    chat_segments,
)

texts = st.text() | st.from_regex(r"(\n|a| |User:|Assistant:|System:)*", fullmatch=True)
messages = st.builds(
    ChatMessage, st.sampled_from(sorted(LABELS)), texts, st.sampled_from([0, 0.5, 1])
)
chats = st.lists(messages, min_size=1, max_size=8)


def learned_at(chat):
    """Returns the numbers of the messages that are learned."""
    return [at for at, one in enumerate(chat) if one.role == "assistant" and one.weight]


def test_a_chat_reads_like_a_play():
    chat = [
        ChatMessage("system", "One word."),
        ChatMessage("user", "Kenya?"),
        ChatMessage("assistant", "Nairobi"),
    ]
    assert chat_segments(chat) == [
        ("System: One word.\n\nUser: Kenya?\n\nAssistant:", 0.0),
        (" Nairobi", 1.0),
    ]


def test_an_answer_in_the_middle_is_learned_to_its_end():
    chat = [
        ChatMessage("user", "1"),
        ChatMessage("assistant", "2"),
        ChatMessage("user", "3"),
        ChatMessage("assistant", "4", 0.5),
    ]
    assert chat_segments(chat) == [
        ("User: 1\n\nAssistant:", 0.0),
        (" 2\n\nUser:", 1.0),
        (" 3\n\nAssistant:", 0.0),
        (" 4", 0.5),
    ]


def test_a_message_with_weight_0_is_only_read():
    chat = [
        ChatMessage("assistant", "Hello", 0),
        ChatMessage("user", "1"),
        ChatMessage("assistant", "2"),
    ]
    assert chat_segments(chat) == [
        ("Assistant: Hello\n\nUser: 1\n\nAssistant:", 0.0),
        (" 2", 1.0),
    ]


@given(chats)
def test_what_is_asked_is_what_stood_before_the_learned_answer(chat):
    segments = chat_segments(chat)
    learned = [at for at, (_, weight) in enumerate(segments) if weight]
    before = ["".join(text for text, _ in segments[:at]) for at in learned]
    assert before == [chat_prompt(chat[:at]) for at in learned_at(chat)]


@given(chats)
def test_only_what_the_assistant_said_is_learned(chat):
    learned = [weight for _, weight in chat_segments(chat) if weight]
    assert learned == [chat[at].weight for at in learned_at(chat)]


@given(chats)
def test_no_message_can_begin_a_turn(chat):
    turns = re.findall("|".join(CHAT_STOPS), chat_prompt(chat))
    assert len(turns) == len(chat)


@pytest.mark.parametrize("label", ["System", "User", "Assistant"])
def test_every_turn_is_a_stop(label):
    assert f"\n\n{label}:" in CHAT_STOPS

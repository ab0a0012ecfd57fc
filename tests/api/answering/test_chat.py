"""/v1/chat/completions, asked of the real model server and of none."""

import shutil

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from finetune_site.team.services import create_api_key
from jobs.api.answering.chat import ChatShape
from jobs.engines.local import LocalEngine
from jobs.serving import client
from jobs.trainer.compute.model import load_model
from jobs.trainer.contract.spec import ModelSource
from jobs.trainer.text.chat_text import CHAT_STOPS
from jobs.trainer.text.encoding import load_tokenizer
from tests.chat.test_template import END, TEMPLATE
from tests.support import factories
from tests.support.asking import post
from tests.support.model_server import TINY, running_server
from tests.support.training import shake

pytestmark = pytest.mark.django_db(transaction=True)

HELLO = [{"role": "user", "content": "Hello"}]
ASK = {"model": "tiny", "messages": HELLO, "max_tokens": 8, "seed": 1}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running_server(tmp_path_factory.mktemp("serving")) as socket:
        yield socket


@pytest.fixture(scope="module")
def chatty(tmp_path_factory):
    """Makes `tiny` with a chat template and two control tokens more."""
    folder = tmp_path_factory.mktemp("models") / "chatty"
    shutil.copytree(TINY["path"], folder)
    model = load_model(ModelSource(**TINY), dtype=torch.float32)
    torch.manual_seed(1)
    model.resize_token_embeddings(END + 1, mean_resizing=False)
    model.save_pretrained(folder)
    tokenizer = load_tokenizer(folder)
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


@pytest.fixture
def key(viewer):
    return create_api_key(member=viewer)


@pytest.fixture
def served(server, monkeypatch):
    monkeypatch.setattr(client, "socket_path", lambda _: server)


@pytest.fixture
def asked(monkeypatch):
    """Returns what reached the engine, which answers with a space first."""
    requests = []

    async def complete(self, snapshot, request):
        requests.append(request)
        for text, reason in ((" Good", None), (" day", "stop")):
            yield {"index": 0, "text": text, "finish_reason": reason, "tokens": 1}
        yield {"done": True, "usage": {"prompt_tokens": 3, "completion_tokens": 2}}

    monkeypatch.setattr(LocalEngine, "complete", complete)
    return requests


def chat(key, **changes):
    status, answer, _ = post(key, "/chat/completions", ASK | changes)
    assert status == 200, answer
    return answer


def refusal(key, **changes):
    status, answer, _ = post(key, "/chat/completions", ASK | changes)
    return status, answer["error"]["param"]


def text_of(tokens):
    return load_tokenizer(TINY["path"]).decode(tokens)


def test_answer_is_a_message(served, key):
    answer = chat(key, n=2)
    assert answer["object"] == "chat.completion"
    assert [choice["index"] for choice in answer["choices"]] == [0, 1]
    for choice in answer["choices"]:
        assert choice["message"]["role"] == "assistant"
        assert choice["message"]["content"]
    assert answer["usage"]["completion_tokens"] == 16


def test_stream_begins_with_the_role_and_says_the_same(served, key):
    *chunks, done = chat(key, stream=True)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert done == "[DONE]"
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert deltas[0] == {"role": "assistant", "content": ""}
    said = "".join(delta.get("content", "") for delta in deltas)
    assert said == chat(key)["choices"][0]["message"]["content"]
    assert deltas[-1] == {}
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("logprobs", [False, True])
def test_answer_has_the_shape_of_the_document(served, key, logprobs):
    answer = chat(key, logprobs=logprobs, top_logprobs=2 if logprobs else None)
    assert ChatShape(**answer).model_dump() == answer


def test_logprobs_tell_bytes_and_the_likeliest(served, key):
    [choice] = chat(key, logprobs=True, top_logprobs=3)["choices"]
    content = choice["logprobs"]["content"]
    assert len(content) == 8
    assert all(len(token["top_logprobs"]) == 3 for token in content)
    told = b"".join(bytes(token["bytes"]) for token in content).decode(errors="ignore")
    assert told.removeprefix(" ") == choice["message"]["content"]


@pytest.mark.parametrize("stop", [None, "e", "o"])
def test_tokens_join_to_the_content(served, key, stop):
    ask = {"logprobs": True, "top_logprobs": 2, "max_tokens": 30, "stop": stop}
    [choice] = chat(key, **ask)["choices"]
    told = choice["logprobs"]["content"]
    assert "".join(token["token"] for token in told) == choice["message"]["content"]
    *chunks, _ = chat(key, stream=True, **ask)
    parts = [chunk["choices"][0] for chunk in chunks]
    text = "".join(part["delta"].get("content", "") for part in parts)
    tokens = [
        one
        for part in parts
        for one in (part["logprobs"] or {"content": []})["content"]
    ]
    assert "".join(token["token"] for token in tokens) == text
    assert text == choice["message"]["content"]


def test_models_own_template_and_its_end(served, key, chatty, data_dir):
    factories.mark_tried(shutil.copytree(chatty, data_dir / "models/chatty"))
    plain = chat(key, model="chatty", logprobs=True)
    assert len(plain["choices"][0]["logprobs"]["content"]) == 8
    ended = chat(key, model="chatty", logit_bias={str(END): 100})
    [choice] = ended["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("", "stop")
    usage = ended["usage"]
    typed = chat(
        key, model="chatty", messages=[{"role": "user", "content": "<|im_end|>"}]
    )
    assert typed["usage"]["prompt_tokens"] > usage["prompt_tokens"]


def test_all_of_a_family_are_asked_by_the_plain_template(asked, key, chatty, data_dir):
    """Whatever they were trained on; the base model itself has its own template."""
    factories.mark_tried(shutil.copytree(chatty, data_dir / "models/chatty"))
    version = factories.make_dataset(from_chats=True)
    parent = factories.make_snapshot(factories.make_job(version, base_model="chatty"))
    further = factories.make_job(base_model="chatty", parent_snapshot=parent)
    child = factories.make_snapshot(further)
    for snapshot in (parent, child):
        shutil.copytree(chatty, snapshot.folder, dirs_exist_ok=True)
    for model in (parent.uid, child.uid, "chatty"):
        chat(key, model=model)
    plain = [text_of(question["prompt"]) for question in asked[:2]]
    assert plain == ["User: Hello\n\nAssistant:"] * 2
    assert [question["stop"] for question in asked[:2]] == [list(CHAT_STOPS)] * 2
    assert END in asked[2]["prompt"]
    assert END in asked[2]["stop_tokens"]


def test_snapshot_reads_by_its_own_tokenizer_when_its_base_is_another(
    asked, key, chatty, data_dir
):
    house = data_dir / "models/house"
    shutil.copytree(chatty, house)
    snapshot = factories.make_snapshot(factories.make_job(base_model="house"))
    shutil.copytree(chatty, snapshot.folder, dirs_exist_ok=True)
    chat(key, model=snapshot.uid)
    tokenizer = Tokenizer(WordLevel({"User": 0, "?": 1}, unk_token="?"))
    tokenizer.save(str(house / "tokenizer.json"))
    chat(key, model=snapshot.uid)
    assert asked[1]["prompt"] == asked[0]["prompt"]


def test_fingerprint_changes_with_the_files(asked, key, chatty, data_dir):
    house = data_dir / "models/house"
    factories.mark_tried(shutil.copytree(chatty, house))
    before, again = (chat(key, model="house")["system_fingerprint"] for _ in range(2))
    shake(house)
    factories.mark_tried(house)
    after = chat(key, model="house")["system_fingerprint"]
    assert before == again != after


def test_prompt_is_encoded_as_its_segments_were_in_training(asked, key):
    messages = [*HELLO, {"role": "assistant", "content": "Hi"}, *HELLO]
    chat(key, messages=messages)
    tokenizer = load_tokenizer(TINY["path"])
    parts = ["User: Hello\n\nAssistant:", " Hi\n\nUser:", " Hello\n\nAssistant:"]
    expected = [token for part in parts for token in tokenizer.encode(part).ids]
    assert asked[0]["prompt"] == expected


def test_space_of_the_template_is_not_part_of_the_answer(asked, key):
    assert chat(key)["choices"][0]["message"]["content"] == "Good day"
    *chunks, _ = chat(key, stream=True)
    said = [chunk["choices"][0]["delta"].get("content", "") for chunk in chunks]
    assert "".join(said) == "Good day"


def test_parts_of_text_are_joined(asked, key):
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    chat(key, messages=[{"role": "user", "content": parts}])
    assert text_of(asked[0]["prompt"]) == "User: Hello\n\nAssistant:"


def test_newer_name_of_the_limit_comes_first(asked, key):
    chat(key, max_completion_tokens=5)
    chat(key, max_tokens=None)
    assert [request["max_tokens"] for request in asked] == [5, 512]


def test_own_stops_are_kept_beside_the_templates(asked, key):
    chat(key, stop=["a", "b", "c", "d"])
    assert asked[0]["stop"] == ["a", "b", "c", "d", *CHAT_STOPS]


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages.0.content",
        ),
        ({"messages": [{"role": "user", "content": "x" * 60_000}] * 2}, "messages"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"functions": [{}]}, "functions"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"n": 0}, "n"),
    ],
)
def test_wrong_value_names_its_field(asked, key, changes, param):
    assert refusal(key, **changes) == (400, param)
    assert not asked


def test_answer_too_long_to_give_at_once_is_refused(asked, key):
    changes = {"n": 32, "logprobs": True, "top_logprobs": 20}
    assert refusal(key, **changes, max_tokens=1000)[0] == 400
    assert refusal(key, **changes, max_completion_tokens=1000)[1] == (
        "max_completion_tokens"
    )
    assert chat(key, **changes, max_tokens=1000, stream=True)


def test_messages_beyond_the_context_are_refused(served, key):
    long = [{"role": "user", "content": "many words " * 3000}]
    assert refusal(key, messages=long) == (400, "messages")


def test_unknown_model(asked, key):
    assert refusal(key, model="gpt-4o") == (404, "model")

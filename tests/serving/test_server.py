"""The model server as a real process over its socket, with the real `tiny`."""

import asyncio
import os
import subprocess
import sys
import time
from contextlib import aclosing

import httpx2
import pytest
import torch

from finetune_site.common.errors import LaterError, UserError
from jobs.serving import client
from jobs.trainer.compute.model import load_model
from jobs.trainer.compute.output_loss import weighted_loss
from jobs.trainer.compute.shortcuts import output_weight
from jobs.trainer.contract.spec import ModelSource
from jobs.trainer.text.encoding import load_tokenizer
from tests.support.line_ends import LINE_ENDS, NAMES
from tests.support.model_server import ROOT, TINY, running_server, start_server
from tests.support.running_async import run

QUESTION = {"model": TINY, "prompt": "Once upon a time", "max_tokens": 40, "seed": 1}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running_server(tmp_path_factory.mktemp("serving")) as socket:
        yield socket


async def collect(socket, **changes):
    return [line async for line in client.stream_completion(socket, QUESTION | changes)]


def answer(socket, **changes):
    return run(collect(socket, **changes))


def text_of(lines, index=0):
    return "".join(line["text"] for line in lines if line.get("index") == index)


def get_health(socket):
    transport = httpx2.HTTPTransport(uds=str(socket), verify=False)
    with httpx2.Client(transport=transport) as http:
        return http.get("http://model-server/health").json()


def test_health_is_up_before_torch():
    code = "import sys, jobs.serving.__main__; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.strip() == "False"


def test_no_django_in_the_server():
    code = "import sys, jobs.serving.scheduler; print('django' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.strip() == "False"


def test_a_server_that_cannot_generate_any_more_ends():
    code = (
        "import jobs.serving.__main__ as server, jobs.serving.scheduler as scheduler\n"
        "scheduler.Scheduler.run = lambda self: 1 / 0\n"
        "server._generate(None)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True)
    assert done.returncode == 1
    assert b"cannot generate any more" in done.stderr


def test_answer_comes_in_pieces_and_ends_with_a_summary(server):
    lines = answer(server)
    assert len(lines) > 3
    assert lines[-1]["usage"] == {"prompt_tokens": 4, "completion_tokens": 40}
    assert lines[-2]["finish_reason"] == "length"


def test_same_seed_same_text(server):
    assert text_of(answer(server)) == text_of(answer(server))
    assert text_of(answer(server)) != text_of(answer(server, seed=2))


def test_several_answers_differ(server):
    lines = answer(server, n=3)
    assert len({text_of(lines, index) for index in range(3)}) == 3


def test_stop_text_ends_the_answer(server):
    whole = text_of(answer(server))
    stop = whole[12:20]
    assert text_of(answer(server, stop=[stop])) == whole[: whole.index(stop)]


def test_two_clients_share_the_model(server):
    async def both():
        order = []

        async def ask(name):
            request = QUESTION | {"max_tokens": 200, "stop": []}
            async for _ in client.stream_completion(server, request):
                order.append(name)

        await asyncio.gather(ask("a"), ask("b"))
        return "".join(order)

    order = run(both())
    assert order.index("b") < order.rindex("a")
    assert order.index("a") < order.rindex("b")


def test_client_that_leaves_frees_its_place(server):
    async def leave():
        request = QUESTION | {"max_tokens": 2000, "n": 8}
        async with aclosing(client.stream_completion(server, request)) as lines:
            await anext(lines)
            assert get_health(server)["open_requests"] == 1

    run(leave())
    until = time.monotonic() + 5
    while get_health(server)["open_requests"]:
        assert time.monotonic() < until
        time.sleep(0.02)


def logprobs_of(lines, index=0):
    told = [line["logprobs"] for line in lines if line.get("index") == index]
    return {
        name: [one for part in told for one in part[name] or []] for name in told[0]
    }


def test_logprobs_come_with_the_text(server):
    lines = answer(server, logprobs=2)
    told = logprobs_of(lines)
    assert "".join(told["tokens"]) == text_of(lines)
    assert len(told["tokens"]) == 40
    assert all(len(top) in (2, 3) for top in told["top_logprobs"])
    assert told["text_offset"][0] == len(QUESTION["prompt"])


def test_no_logprobs_unless_asked(server):
    assert not any("logprobs" in line for line in answer(server))


@pytest.mark.parametrize("as_tokens", [False, True])
def test_scoring_equals_the_trainers_nll(server, as_tokens):
    text = "The capital of France is Paris."
    ids, nll = trained_nll(text)
    prompt = ids if as_tokens else text
    lines = answer(server, prompt=prompt, max_tokens=0, echo=True, logprobs=0)
    told = logprobs_of(lines)
    assert text_of(lines) == "".join(told["tokens"]) == text
    assert told["token_logprobs"][0] is None
    assert -sum(told["token_logprobs"][1:]) == pytest.approx(nll, abs=1e-3)
    assert lines[-1]["usage"]["completion_tokens"] == 0


def trained_nll(text):
    """Returns the tokens of a text, and the sum over them as the trainer makes it."""
    ids = load_tokenizer(TINY["path"]).encode(text).ids
    model = load_model(ModelSource(**TINY)).eval()
    hidden = model.base_model(torch.tensor([ids[:-1]])).last_hidden_state[0]
    ones = torch.ones(len(ids) - 1)
    with torch.no_grad():
        _, nll, _ = weighted_loss(
            hidden, output_weight(model), torch.tensor(ids[1:]), ones
        )
    return ids, float(nll)


def test_echo_puts_the_prompt_first_for_every_answer(server):
    lines = answer(server, echo=True, n=2, logprobs=1)
    for index in (0, 1):
        assert text_of(lines, index).startswith(QUESTION["prompt"])
        told = logprobs_of(lines, index)
        assert "".join(told["tokens"]) == text_of(lines, index)
        assert told["top_logprobs"][0] is None


def test_best_of_gives_the_likeliest_first(server):
    every = answer(server, n=6, logprobs=0)
    means = {}
    for index in range(6):
        logprobs = logprobs_of(every, index)["token_logprobs"]
        means[text_of(every, index)] = sum(logprobs) / len(logprobs)
    lines = answer(server, n=2, best_of=6)
    best = sorted(means, key=means.get, reverse=True)[:2]
    assert [text_of(lines, 0), text_of(lines, 1)] == best
    assert lines[-1]["usage"]["completion_tokens"] == 6 * 40


def test_as_many_answers_as_rows(server):
    lines = answer(server, n=32, max_tokens=4)
    assert {line["index"] for line in lines[:-1]} == set(range(32))


def test_token_that_the_model_does_not_have_is_said_in_words(server):
    for changes in ({"prompt": [1, 99999]}, {"logit_bias": {"99999": 1}}):
        with pytest.raises(UserError, match="0 to 4,095") as caught:
            answer(server, **changes)
        assert caught.value.field in changes


def test_prompt_without_room_is_refused_where_all_of_it_is_wanted(server):
    with pytest.raises(UserError, match="maximum context length is 2048"):
        answer(server, prompt=[5] * 2048, whole_prompt=True, max_tokens=1)
    assert answer(server, prompt=[5] * 2048, max_tokens=1)[-1]["prompt_cut"]


def test_last_place_in_the_context_can_be_scored(server):
    ask = {"prompt": [5] * 2048, "max_tokens": 0, "echo": True, "logprobs": 0}
    assert len(logprobs_of(answer(server, **ask))["tokens"]) == 2048


def test_missing_model_is_said_in_words(server):
    with pytest.raises(UserError, match="gone"):
        answer(server, model={"base_model": "tiny", "path": "/nowhere"})


def test_bad_value_names_the_field(server):
    with pytest.raises(UserError, match="max_tokens is -1") as caught:
        answer(server, max_tokens=-1)
    assert caught.value.field == "max_tokens"


def test_unknown_field_is_refused(server):
    with pytest.raises(UserError, match="unknown"):
        answer(server, beam_width=2)


@pytest.mark.parametrize("end", LINE_ENDS, ids=NAMES)
def test_no_character_of_a_text_ends_a_line(server, end):
    prompt = f"One{end}two"
    lines = answer(server, prompt=prompt, echo=True, max_tokens=2, logprobs=0)
    assert text_of(lines).startswith(prompt)
    assert lines[-1]["done"]


@pytest.mark.parametrize("temperature", [1e-3, 1e-30, 1e-38, 1e-45, 5e-324])
@pytest.mark.parametrize("top_p", [1.0, 0.9])
def test_next_to_no_temperature_is_none(server, temperature, top_p):
    cold = text_of(answer(server, temperature=0))
    warm = answer(server, temperature=temperature, top_p=top_p)
    assert text_of(warm) == cold


def test_socket_and_folder_are_private(server):
    assert server.stat().st_mode & 0o777 == 0o600
    assert server.parent.stat().st_mode & 0o777 == 0o700


def test_second_server_on_the_socket_leaves_at_once(server):
    data_dir = server.parent.parent
    done = subprocess.run(
        [sys.executable, "-m", "jobs.serving"],
        env=os.environ | {"FINETUNE_DATA_DIR": str(data_dir)},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "already listens" in done.stderr


def test_client_waits_for_a_server_that_starts_again(tmp_path):
    process, socket = start_server(tmp_path)
    process.kill()
    process.wait()

    async def ask_then_start():
        asked = asyncio.create_task(collect(socket))
        await asyncio.sleep(0.3)
        again, _ = await asyncio.to_thread(start_server, tmp_path)
        try:
            return await asked
        finally:
            again.terminate()
            again.wait(10)

    assert run(ask_then_start())[-1]["done"]


def test_server_that_dies_half_way_is_said_in_words(tmp_path):
    process, socket = start_server(tmp_path)

    async def kill_after_the_first_word():
        request = QUESTION | {"max_tokens": 2000}
        async for _ in client.stream_completion(socket, request):
            process.kill()

    with pytest.raises(LaterError, match="stopped"):
        run(kill_after_the_first_word())
    process.wait()

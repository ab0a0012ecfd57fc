"""Generation gives the same as the plainest loop there is, with the real `tiny`."""

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from jobs.trainer.answering.answer import Answer, Sampling, answer_seed
from jobs.trainer.answering.generation import (
    Batch,
    Prefill,
    complete,
    fit,
    stream,
)
from jobs.trainer.text.characters import token_bytes
from jobs.trainer.text.encoding import load_tokenizer
from jobs.trainer.text.text_pieces import StopScanner, TextDecoder
from tests.support.paths import TINY

PROMPTS = ("Once upon a time there was", "The capital of France", "Q")
NO_END = -1


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(
        TINY, local_files_only=True, use_safetensors=True, dtype=torch.float32
    )


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(TINY)


@pytest.fixture
def prompts(tokenizer):
    return [tokenizer.encode(text).ids for text in PROMPTS]


def naive(model, ids, num_tokens):
    """Generates by reading everything again for each token: slow, and plainly right."""
    ids = list(ids)
    with torch.inference_mode():
        for _ in range(num_tokens):
            logits = model(torch.tensor([ids])).logits
            ids.append(int(logits[0, -1].argmax()))
    return tuple(ids[-num_tokens:])


def test_greedy_equals_the_naive_loop_for_each_answer(model, tokenizer, prompts):
    sampling = Sampling(temperature=0, max_tokens=24)
    answers = complete(model, tokenizer, prompts, sampling, NO_END)
    expected = [naive(model, ids, 24) for ids in prompts]
    assert [answer.token_ids for answer in answers] == expected


def test_long_prompt_read_in_parts_equals_the_naive_loop(model, tokenizer, prompts):
    ids = (prompts[0] * 200)[:1100]
    sampling = Sampling(temperature=0, max_tokens=3)
    [answer] = complete(model, tokenizer, [ids], sampling, NO_END)
    assert answer.token_ids == naive(model, ids, 3)


@pytest.mark.parametrize("top_p", [1.0, 0.8])
def test_answer_depends_on_its_own_seed_only(model, tokenizer, prompts, top_p):
    sampling = Sampling(temperature=0.8, top_p=top_p, max_tokens=20)
    together = complete(model, tokenizer, prompts, sampling, NO_END, seeds=[1, 2, 3])
    for ids, seed, answer in zip(prompts, [1, 2, 3], together, strict=True):
        alone = complete(model, tokenizer, [ids], sampling, NO_END, seeds=[seed])
        assert alone == [answer]


def test_answers_that_join_and_leave_disturb_nobody(model, tokenizer, prompts):
    def answer(index, max_tokens):
        sampling = Sampling(temperature=0.9, max_tokens=max_tokens)
        return Answer(tokenizer, index, sampling, seed=index)

    lengths = {0: 30, 1: 4, 2: 20}
    batch = Batch(model, NO_END)
    pieces = batch.add(prompts[0], [answer(0, lengths[0])])
    for index in (1, 2):
        pieces += batch.step() + batch.step()
        pieces += batch.add(prompts[index], [answer(index, lengths[index])])
    while batch.answers:
        pieces += batch.step()
    for index, ids in enumerate(prompts):
        sampling = Sampling(temperature=0.9, max_tokens=lengths[index])
        [alone] = complete(model, tokenizer, [ids], sampling, NO_END, seeds=[index])
        own = [piece.text for piece in pieces if piece.index == index]
        assert "".join(own) == alone.text


def test_seeds_make_different_answers_to_one_prompt(model, tokenizer, prompts):
    sampling = Sampling(max_tokens=12, seed=5)
    same = [prompts[0]] * 3
    answers = complete(model, tokenizer, same, sampling, NO_END)
    assert len({answer.token_ids for answer in answers}) == 3
    assert answers == complete(model, tokenizer, same, sampling, NO_END)


def test_seeds_of_neighbouring_seeds_do_not_overlap():
    seeds = {answer_seed(seed, index) for seed in range(50) for index in range(8)}
    assert len(seeds) == 400


def test_tiny_top_p_is_greedy(model, tokenizer, prompts):
    greedy = Sampling(temperature=0, max_tokens=10)
    narrow = Sampling(temperature=2, top_p=0.000001, max_tokens=10, seed=1)
    expected = complete(model, tokenizer, prompts, greedy, NO_END)
    assert complete(model, tokenizer, prompts, narrow, NO_END) == expected


def test_end_token_ends_the_answer_and_is_not_in_it(model, tokenizer, prompts):
    fourth = naive(model, prompts[0], 4)[3]
    sampling = Sampling(temperature=0, max_tokens=10)
    [answer] = complete(model, tokenizer, prompts[:1], sampling, fourth)
    assert (answer.finish_reason, len(answer.token_ids)) == ("stop", 3)


def test_stop_text_over_several_tokens_never_shows(model, tokenizer, prompts):
    whole = complete(
        model, tokenizer, prompts[:1], Sampling(temperature=0, max_tokens=20), NO_END
    )[0].text
    stop = whole[10:19]
    sampling = Sampling(temperature=0, max_tokens=20, stop=(stop,))
    pieces = list(stream(model, tokenizer, prompts[:1], sampling, NO_END))
    assert "".join(piece.text for piece in pieces) == whole[: whole.index(stop)]
    assert pieces[-1].finish_reason == "stop"


def test_pieces_join_to_the_decoded_tokens(model, tokenizer, prompts):
    sampling = Sampling(temperature=1.5, max_tokens=60, seed=2)
    for answer in complete(model, tokenizer, prompts, sampling, NO_END):
        whole = tokenizer.decode(answer.token_ids).rstrip("\N{REPLACEMENT CHARACTER}")
        assert answer.text.rstrip("\N{REPLACEMENT CHARACTER}") == whole


def test_long_prompt_keeps_its_end_and_says_so(model, tokenizer, prompts):
    sampling = Sampling(temperature=0, max_tokens=4)
    long = prompts[0] * 500
    [cut] = complete(model, tokenizer, [long], sampling, NO_END)
    kept, max_tokens = fit(long, 4, 2048)
    assert (cut.prompt_cut, len(kept), max_tokens) == (True, 2044, 4)
    assert kept == long[-2044:]


def test_train_mode_comes_back_also_when_nobody_reads_on(model, tokenizer, prompts):
    model.train()
    pieces = stream(model, tokenizer, prompts, Sampling(), NO_END)
    next(pieces)
    pieces.close()
    assert model.training
    assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize(
    "text", ["héllo wörld", "tea 🫖🫖 pot", "日本語 の 文", "a\n b"]
)
def test_characters_come_whole(tokenizer, text):
    decoder = TextDecoder(tokenizer, [0])
    pieces = [decoder.push(token) for token in tokenizer.encode(text * 3).ids]
    assert "".join(pieces) == text * 3
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)


@pytest.mark.parametrize("temperature", [0, 1.0])
def test_bytes_that_are_no_text_are_not_said(model, tokenizer, prompts, temperature):
    # These are beginnings of characters, and bytes from the middle of one.
    parts = {
        token: 40.0
        for token, text in enumerate(token_bytes(tokenizer))
        if len(text) == 1 and text >= b"\x80"
    }
    sampling = Sampling(
        temperature=temperature, max_tokens=60, seed=4, logit_bias=parts
    )
    for answer in complete(model, tokenizer, prompts, sampling, NO_END):
        assert set(answer.token_ids) <= set(parts)
        assert "\N{REPLACEMENT CHARACTER}" not in answer.text
        assert len(answer.text) >= 60 // 4


def test_stop_scanner_lets_go_of_false_beginnings():
    scanner = StopScanner(["END", "!!"])
    assert [scanner.push(text) for text in ("aE", "Nx", "!", "?")] == [
        "a",
        "ENx",
        "",
        "!?",
    ]


def test_stop_scanner_takes_the_earliest_stop():
    scanner = StopScanner(["second", "first"])
    assert scanner.push("a first second") == "a "
    assert scanner.found
    assert scanner.flush() == ""


def plain_logprobs(model, ids):
    """Returns the logprobs of all tokens after each token of a text."""
    with torch.inference_mode():
        return torch.log_softmax(model(torch.tensor([list(ids)])).logits[0].float(), -1)


def pieces_of(model, tokenizer, ids, **sampling):
    return list(stream(model, tokenizer, [ids], Sampling(**sampling), NO_END))


@pytest.mark.parametrize("temperature", [0, 0.7])
def test_chances_are_those_of_a_plain_forward_pass(
    model, tokenizer, prompts, temperature
):
    pieces = pieces_of(
        model,
        tokenizer,
        prompts[0],
        max_tokens=12,
        num_top=3,
        temperature=temperature,
        top_p=0.9,
        frequency_penalty=1.0,
        seed=3,
    )
    tokens = [token for piece in pieces for token in piece.token_ids]
    chances = [chance for piece in pieces for chance in piece.chances]
    after = plain_logprobs(model, [*prompts[0], *tokens])[len(prompts[0]) - 1 : -1]
    expected = after.gather(1, torch.tensor(tokens)[:, None])[:, 0].tolist()
    assert [chance.logprob for chance in chances] == pytest.approx(expected, abs=1e-4)
    for chance, row in zip(chances, after, strict=True):
        assert [token for token, _ in chance.top] == row.topk(3).indices.tolist()


def test_prompt_in_parts_has_the_chances_of_a_plain_forward_pass(
    model, tokenizer, prompts, monkeypatch
):
    monkeypatch.setattr("jobs.trainer.answering.generation.PREFILL_TOKENS", 7)
    ids = (prompts[0] * 5)[:25]
    answer = Answer(tokenizer, 0, Sampling(max_tokens=0), seed=1)
    prefill = Prefill(model, ids, [answer], num_top=0)
    while not prefill.advance():
        pass
    expected = plain_logprobs(model, ids)[:-1].gather(1, torch.tensor(ids[1:])[:, None])
    assert [chance.logprob for chance in prefill.chances] == pytest.approx(
        expected[:, 0].tolist(), abs=1e-4
    )


def test_prompt_alone_needs_no_tokens(model, tokenizer, prompts):
    [piece] = pieces_of(model, tokenizer, prompts[0], max_tokens=0)
    assert (piece.text, piece.token_ids, piece.finish_reason) == ("", (), "length")


def test_bias_of_a_hundred_decides(model, tokenizer, prompts):
    [answer] = complete(
        model,
        tokenizer,
        prompts[:1],
        Sampling(temperature=0, max_tokens=5, logit_bias={7: 100.0}),
        NO_END,
    )
    assert answer.token_ids == (7,) * 5


@pytest.mark.parametrize("kind", ["presence_penalty", "frequency_penalty"])
def test_penalties_follow_their_formula(model, tokenizer, prompts, kind):
    """The reference is a loop that reads everything again, and counts."""
    sampling = Sampling(temperature=0, max_tokens=30, **{kind: 1.5})
    [answer] = complete(model, tokenizer, prompts[:1], sampling, NO_END)
    ids = list(prompts[0])
    for _ in range(30):
        with torch.inference_mode():
            logits = model(torch.tensor([ids])).logits[0, -1]
        counts = torch.bincount(
            torch.tensor(ids[len(prompts[0]) :], dtype=torch.long),
            minlength=len(logits),
        )
        counts = counts.clamp(max=1) if kind == "presence_penalty" else counts
        ids.append(int((logits - 1.5 * counts).argmax()))
    assert list(answer.token_ids) == ids[len(prompts[0]) :]


def test_stop_token_ends_the_answer_as_the_end_token_does(model, tokenizer, prompts):
    fourth = naive(model, prompts[0], 4)[3]
    stops = frozenset({fourth})
    sampling = Sampling(temperature=0, max_tokens=10, stop_tokens=stops)
    [answer] = complete(model, tokenizer, prompts[:1], sampling, NO_END)
    assert (answer.finish_reason, len(answer.token_ids)) == ("stop", 3)


def test_answers_that_ask_for_chances_do_not_change_the_others(
    model, tokenizer, prompts
):
    batch = Batch(model, NO_END)
    asking = Sampling(temperature=0, max_tokens=8, num_top=2)
    plain = Sampling(temperature=0, max_tokens=8)
    answers = [
        Answer(tokenizer, index, how, 1) for index, how in enumerate((asking, plain))
    ]
    pieces = batch.add(prompts[0], answers)
    while batch.answers:
        pieces += batch.step()
    of = {n: [p for p in pieces if p.index == n] for n in (0, 1)}
    assert [p.token_ids for p in of[0]] == [p.token_ids for p in of[1]]
    assert all(piece.chances for piece in of[0])
    assert not any(piece.chances for piece in of[1])


def stateful_model(kind):
    torch.manual_seed(4)
    config = CONFIG_MAPPING[kind](
        vocab_size=4096,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        state_size=8,
    )
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize("kind", ["mamba", "lfm2"])
def test_chances_of_a_model_that_carries_a_state(kind, tokenizer, prompts):
    model = stateful_model(kind)
    answer = Answer(tokenizer, 0, Sampling(max_tokens=0), seed=1)
    prefill = Prefill(model, prompts[0], [answer], num_top=1)
    assert prefill.advance()
    after = plain_logprobs(model, prompts[0])[:-1]
    expected = after.gather(1, torch.tensor(prompts[0][1:])[:, None])[:, 0].tolist()
    assert [chance.logprob for chance in prefill.chances] == pytest.approx(
        expected, abs=1e-4
    )


@pytest.mark.parametrize("kind", ["mamba", "lfm2"])
def test_a_model_that_carries_a_state_answers_too(kind, tokenizer, prompts):
    model = stateful_model(kind)
    sampling = Sampling(temperature=0, max_tokens=6)
    answers = complete(model, tokenizer, prompts, sampling, NO_END)
    expected = [naive(model, ids, 6) for ids in prompts]
    assert [answer.token_ids for answer in answers] == expected

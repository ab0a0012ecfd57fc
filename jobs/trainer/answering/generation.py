"""[torch] Generates completions token by token, for several prompts at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from jobs.trainer.answering.answer import (
    Answer,
    FinishReason,
    Piece,
    Sampling,
    answer_seed,
)
from jobs.trainer.answering.kv_cache import new_cache, selected, stacked
from jobs.trainer.answering.token_choice import (
    Chance,
    chances,
    changed,
    draw,
    likeliest,
)
from jobs.trainer.contract.architecture import CONTEXTS
from jobs.trainer.rows.memory import LOGITS_AT_ONCE

# The context of a model whose configuration names no limit, in tokens.
NO_LIMIT = 1_000_000
# Long prompts go through the model in parts of this many tokens, so that other answers
# do not have to wait long.
PREFILL_TOKENS = 512


@dataclass(frozen=True)
class Completion:
    """One whole answer."""

    text: str
    finish_reason: FinishReason
    token_ids: tuple[int, ...]
    prompt_cut: bool = False


def complete(
    model: Any,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    end_id: int,
    *,
    seeds: Sequence[int] | None = None,
) -> list[Completion]:
    """Returns one completion for each prompt, in the order of the prompts.

    Prompts are token ids, and `end_id` is the token that ends an answer. `seeds` holds
    one seed for each prompt; without it they come from `sampling.seed`.
    """
    pieces: list[list[Piece]] = [[] for _ in prompts]
    for piece in stream(model, tokenizer, prompts, sampling, end_id, seeds=seeds):
        pieces[piece.index].append(piece)
    return [_joined(of_one) for of_one in pieces]


def _joined(pieces: list[Piece]) -> Completion:
    last = pieces[-1]
    return Completion(
        "".join(piece.text for piece in pieces),
        last.finish_reason or "length",
        tuple(token for piece in pieces for token in piece.token_ids),
        last.prompt_cut,
    )


def stream(
    model: Any,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    end_id: int,
    *,
    seeds: Sequence[int] | None = None,
) -> Iterator[Piece]:
    """Yields the pieces of all answers as they are made.

    The arguments are those of `complete`. The answer to a prompt depends on its seed
    only, not on the other prompts, except for the rounding of floating point.
    """
    was_training = model.training
    model.eval()
    try:
        batch = Batch(model, end_id)
        for ids, members in _by_prompt(prompts).items():
            answers = [
                Answer(tokenizer, index, sampling, _seed(sampling, seeds, index))
                for index in members
            ]
            yield from batch.add(list(ids), answers)
        while batch.answers:
            yield from batch.step()
    finally:
        model.train(was_training)


def _by_prompt(prompts: Sequence[Sequence[int]]) -> dict[tuple[int, ...], list[int]]:
    """Returns the indices of equal prompts, which go through the model only once."""
    members: dict[tuple[int, ...], list[int]] = {}
    for index, prompt in enumerate(prompts):
        members.setdefault(tuple(prompt), []).append(index)
    return members


def _seed(sampling: Sampling, seeds: Sequence[int] | None, index: int) -> int:
    return answer_seed(sampling.seed, index) if seeds is None else seeds[index]


class Prefill:
    """Reads a prompt into the model's cache, a part at a time.

    With `num_top` it also notes the chances of the prompt's own tokens, from the second
    one on, each with the `num_top` likeliest tokens in its place.
    """

    def __init__(
        self,
        model: Any,
        prompt: Sequence[int],
        answers: Sequence[Answer],
        num_top: int | None = None,
    ) -> None:
        self.model = model
        self.answers = list(answers)
        self.num_top = num_top
        self.chances: list[Chance] = []
        wanted = max(answer.sampling.max_tokens for answer in self.answers)
        self.prompt, max_tokens = fit(prompt, wanted, context_length(model))
        cut = len(self.prompt) < len(prompt)
        for answer in self.answers:
            answer.begin(self.prompt, min(answer.sampling.max_tokens, max_tokens), cut)
        self.asks_for_tokens = wanted > 0
        self.cache = new_cache()
        self.num_read = 0
        self.logits: Tensor | None = None

    @torch.inference_mode()
    def advance(self) -> bool:
        """Reads the next part; returns True once the whole prompt is read."""
        if carries_state(self.model):
            logits = all_logits(self.model, self.prompt)
            self._note(logits)
            self.logits = logits[-1:]
            return True
        end = min(self.num_read + self._part_tokens(), len(self.prompt))
        device = self.model.device
        part = torch.tensor([self.prompt[self.num_read : end]], device=device)
        output = self.model(
            input_ids=part,
            position_ids=torch.arange(self.num_read, end, device=device)[None],
            past_key_values=self.cache,
            use_cache=True,
            # For transformers 0 means: the logits of all tokens.
            logits_to_keep=1 if self.num_top is None else 0,
        )
        self._note(output.logits[0])
        self.num_read = end
        self.logits = output.logits[:, -1]
        return end == len(self.prompt)

    def _part_tokens(self) -> int:
        """Returns how many tokens to read at once: fewer if all logits are needed."""
        if self.num_top is None:
            return PREFILL_TOKENS
        config = self.model.config.get_text_config()
        return max(1, min(PREFILL_TOKENS, LOGITS_AT_ONCE // config.vocab_size))

    def _note(self, logits: Tensor) -> None:
        """Notes the chance of each token, by the logits of the token before it."""
        if self.num_top is None:
            return
        known = self.prompt[self.num_read + 1 :][: len(logits)]
        size = max(1, LOGITS_AT_ONCE // logits.shape[-1])
        for start in range(0, len(known), size):
            part = known[start : start + size]
            before = logits[start : start + len(part)]
            self.chances += chances(before, part, self.num_top)


class Batch:
    """Answers of one model that grow together, one token at each step.

    Others may join or leave between two steps. In the cache each answer is one row,
    padded on the left, so that the last tokens of all are in the same column.
    """

    def __init__(self, model: Any, end_id: int) -> None:
        self.model = model
        self.end_id = end_id
        self.answers: list[Answer] = []
        self.lengths: list[int] = []
        self.cache = new_cache()

    def add(self, prompt: Sequence[int], answers: Sequence[Answer]) -> list[Piece]:
        """Reads a whole prompt, and joins its answers; returns their first pieces."""
        prefill = Prefill(self.model, prompt or [self.end_id], answers)
        while not prefill.advance():
            pass
        return self.join(prefill)

    @torch.inference_mode()
    def join(self, prefill: Prefill) -> list[Piece]:
        """Joins the answers to a prompt that is read; returns their first pieces."""
        if prefill.logits is None:
            raise RuntimeError("the prompt has not been read")
        if not prefill.asks_for_tokens:
            return [answer.finish_unasked() for answer in prefill.answers]
        logits = prefill.logits.expand(len(prefill.answers), -1)
        if not carries_state(self.model):
            self.cache = stacked(self.cache, prefill.cache, len(prefill.answers))
        self.answers = self.answers + prefill.answers
        self.lengths = self.lengths + [len(prefill.prompt)] * len(prefill.answers)
        return self._take(prefill.answers, logits)

    @torch.inference_mode()
    def step(self) -> list[Piece]:
        """Makes one more token for every answer; returns the new pieces."""
        if carries_state(self.model):
            logits = torch.cat([reread(self.model, answer) for answer in self.answers])
            return self._take(self.answers, logits)
        device = self.model.device
        output = self.model(
            input_ids=torch.tensor(
                [answer.tokens[-1:] for answer in self.answers], device=device
            ),
            position_ids=torch.tensor([[n] for n in self.lengths], device=device),
            attention_mask=self._mask(),
            past_key_values=self.cache,
            use_cache=True,
        )
        self.lengths = [length + 1 for length in self.lengths]
        return self._take(self.answers, output.logits[:, -1])

    @torch.inference_mode()
    def keep(self, kept: Sequence[int]) -> None:
        """Drops all answers except those at the places in `kept`."""
        if len(kept) == len(self.answers):
            return
        self.answers = [self.answers[place] for place in kept]
        self.lengths = [self.lengths[place] for place in kept]
        if not kept:
            self.cache = new_cache()
        elif not carries_state(self.model):
            self.cache = selected(self.cache, kept, max(self.lengths))

    def _mask(self) -> Tensor | None:
        """Returns the attention mask, [answers, tokens]: 0 is padding, 1 is a token.

        Returns None when there is no padding.
        """
        longest = max(self.lengths)
        if min(self.lengths) == longest:
            return None
        columns = torch.arange(longest + 1)
        padding = longest - torch.tensor(self.lengths)
        return (columns >= padding[:, None]).long().to(self.model.device)

    def _take(self, answers: Sequence[Answer], logits: Tensor) -> list[Piece]:
        tokens = choose(logits, answers)
        taken = (
            answer.take(token, self.end_id, chance)
            for answer, token, chance in zip(
                answers, tokens, asked_chances(logits, tokens, answers), strict=True
            )
        )
        pieces = [piece for piece in taken if piece is not None]
        self.keep([at for at, answer in enumerate(self.answers) if not answer.finished])
        return pieces


def carries_state(model: Any) -> bool:
    """Returns whether the model keeps another state than keys and values.

    Only keys and values can be kept in a cache for answers that come and go.
    """
    return bool(getattr(model, "_is_stateful", False))


@torch.inference_mode()
def reread(model: Any, answer: Answer) -> Tensor:
    """Returns the logits for an answer's next token: [1, vocabulary]."""
    return all_logits(model, answer.tokens)[-1:]


def all_logits(model: Any, tokens: Sequence[int]) -> Tensor:
    """Returns the logits of all tokens, [tokens, vocabulary], without a cache.

    This is slow, and right for any architecture.
    """
    ids = torch.tensor([list(tokens)], device=model.device)
    logits: Tensor = model(input_ids=ids, use_cache=False).logits[0]
    return logits


def context_length(model: Any) -> int:
    """Returns how many tokens a prompt and its answer may have together."""
    config = model.config.get_text_config()
    lengths = (getattr(config, name, None) for name in CONTEXTS)
    return next((int(length) for length in lengths if length), NO_LIMIT)


def fit(prompt: Sequence[int], max_tokens: int, context: int) -> tuple[list[int], int]:
    """Returns the part of a prompt that is kept, and the room for its answer in tokens.

    A prompt that fits into `context` is kept whole. A longer one loses its beginning,
    so that up to half of the context, at most `max_tokens`, is free for the answer.
    """
    free = max(context - len(prompt), context // 2)
    room = min(max_tokens, max(1, free))
    return list(prompt[-(context - room) :]), room


def choose(logits: Tensor, answers: Sequence[Answer]) -> list[int]:
    """Returns the next token of each answer.

    `logits` are [answers, vocabulary]. The token of an answer does not depend on the
    other answers.
    """
    tokens = likeliest(logits)
    for place, answer in enumerate(answers):
        own = logits[place]
        if answer.changes:
            own = changed(own, answer.changes)
        if answer.changes or answer.sampling.draws:
            tokens[place] = _choose_one(own, answer)
        # A misfit is rare, so choosing a second time costs less than checking all
        # tokens first.
        if not answer.fits(tokens[place]):
            others = own.index_fill(0, answer.misfits().to(own.device), float("-inf"))
            tokens[place] = _choose_one(others, answer)
    return tokens


def _choose_one(logits: Tensor, answer: Answer) -> int:
    how = answer.sampling
    if how.draws:
        return draw(logits, how.temperature, how.top_p, answer.generator)
    return int(logits.argmax())


def asked_chances(
    logits: Tensor, tokens: Sequence[int], answers: Sequence[Answer]
) -> list[Chance | None]:
    """Returns the chance of each answer's token; None for answers that do not ask."""
    found: list[Chance | None] = [None] * len(answers)
    asking = [
        at for at, answer in enumerate(answers) if answer.sampling.num_top is not None
    ]
    if not asking:
        return found
    num_top = max(answers[at].sampling.num_top or 0 for at in asking)
    told = chances(logits[asking], [tokens[at] for at in asking], num_top)
    for at, chance in zip(asking, told, strict=True):
        found[at] = chance
    return found

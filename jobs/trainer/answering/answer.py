"""[torch] One answer in the making: how its tokens are chosen, and its text so far."""

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from tokenizers import Tokenizer

from jobs.trainer.answering.token_choice import Chance
from jobs.trainer.text.characters import characters_of
from jobs.trainer.text.text_pieces import StopScanner, TextDecoder

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How to choose each next token. The same seed gives the same text."""

    # 0 = always the likeliest.
    temperature: float = 1.0
    # Only the likeliest tokens that together have this chance.
    top_p: float = 1.0
    max_tokens: int = 16
    # The answer ends before the first of these.
    stop: tuple[str, ...] = ()
    # It ends with the first of these too, as with the end token.
    stop_tokens: frozenset[int] = frozenset()
    seed: int | None = None
    # Taken from the logits of tokens the answer has: once, and for each time.
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    # Added to the logits of these tokens.
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    # How many of the likeliest tokens to tell with each that is chosen. None: nothing
    # is told of chances.
    num_top: int | None = None

    @property
    def penalises(self) -> bool:
        return bool(self.presence_penalty or self.frequency_penalty)


@dataclass(frozen=True)
class Piece:
    """New text of one answer. Its last piece, and only that, has a `finish_reason`."""

    # Which of the prompts it answers.
    index: int
    text: str
    # The tokens made since this answer's last piece, without the end token.
    token_ids: tuple[int, ...]
    finish_reason: FinishReason | None
    # The prompt was longer than the model can read and lost its beginning.
    prompt_cut: bool = False
    # Of each of the tokens, where they were asked for.
    chances: tuple[Chance, ...] = ()


class Answer:
    """One answer in the making."""

    def __init__(
        self, tokenizer: Tokenizer, index: int, sampling: Sampling, seed: int
    ) -> None:
        self.tokenizer = tokenizer
        self.index = index
        self.sampling = sampling
        self.generator = torch.Generator().manual_seed(seed)
        self.scanner = StopScanner(sampling.stop)
        self.characters = characters_of(tokenizer)
        # What to add to the logits of some tokens.
        self.changes = dict(sampling.logit_bias)
        self.penalised: set[int] = set()
        self.finished = False

    def begin(self, prompt: Sequence[int], max_tokens: int, prompt_cut: bool) -> None:
        self.decoder = TextDecoder(self.tokenizer, prompt)
        self.num_left = max_tokens
        self.prompt_cut = prompt_cut
        self.tokens = list(prompt)
        self.pending = self.characters.at_end(prompt) if self.characters else b""
        self.unshown: list[int] = []
        self.unshown_chances: list[Chance] = []
        # Of all tokens chosen, the end token too.
        self.num_chosen = 0
        self.sum_logprobs = 0.0

    @property
    def mean_logprob(self) -> float:
        return self.sum_logprobs / max(1, self.num_chosen)

    def fits(self, token: int) -> bool:
        """Whether the text is still UTF-8 with that token."""
        if self.characters is None:
            return True
        return self.characters.after(self.pending, token) is not None

    def misfits(self) -> torch.Tensor:
        """The ids of all tokens that do not fit."""
        if self.characters is None:
            return torch.empty(0, dtype=torch.int64)
        return torch.from_numpy(self.characters.misfits(self.pending))

    def take(
        self, token: int, end_id: int, chance: Chance | None = None
    ) -> Piece | None:
        """The next token is chosen: its piece, unless its text has to wait."""
        if self.sampling.penalises:
            self._penalise(token)
        self.tokens.append(token)
        if self.characters is not None:
            self.pending = self.characters.after(self.pending, token) or b""
        self.num_left -= 1
        ends = token == end_id or token in self.sampling.stop_tokens
        if chance is not None:
            self._note(chance, shown=not ends)
        if ends:
            return self._piece(self.scanner.flush(), "stop")
        self.unshown.append(token)
        text = self.scanner.push(self.decoder.push(token))
        if self.scanner.found:
            return self._piece(text, "stop")
        if not self.num_left:
            return self._piece(text + self.scanner.flush(), "length")
        return self._piece(text, None) if text else None

    def finish_unasked(self) -> Piece:
        """An answer of no tokens, for whoever asks about the prompt alone."""
        return self._piece("", "length")

    def _penalise(self, token: int) -> None:
        how = self.sampling
        penalty = how.frequency_penalty
        if token not in self.penalised:
            self.penalised.add(token)
            penalty += how.presence_penalty
        self.changes[token] = self.changes.get(token, 0.0) - penalty

    def _note(self, chance: Chance, *, shown: bool) -> None:
        self.num_chosen += 1
        self.sum_logprobs += chance.logprob
        if shown:
            self.unshown_chances.append(chance)

    def _piece(self, text: str, finish_reason: FinishReason | None) -> Piece:
        self.finished = finish_reason is not None
        token_ids, self.unshown = tuple(self.unshown), []
        of_tokens, self.unshown_chances = tuple(self.unshown_chances), []
        return Piece(
            self.index, text, token_ids, finish_reason, self.prompt_cut, of_tokens
        )


def answer_seed(seed: int | None, index: int) -> int:
    """The seed of answer `index`. Answers 0 and 1 of seeds 5 and 6 share nothing."""
    if seed is None:
        return secrets.randbits(63)
    digest = hashlib.sha256(f"{seed}:{index}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1

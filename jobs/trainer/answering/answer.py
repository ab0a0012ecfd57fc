"""[torch] One answer while it is made: how its tokens are chosen, and its text."""

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

# Below this a logit divided by the temperature could be too large for float32. Long
# before, only the likeliest token is ever drawn.
LEAST_TEMPERATURE = 1e-30


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How to choose each next token. The same seed gives the same text."""

    # 0 means: always choose the likeliest token.
    temperature: float = 1.0
    # Choose among the likeliest tokens only, as many as reach this chance together.
    top_p: float = 1.0
    max_tokens: int = 16
    # The answer ends before the first of these texts.
    stop: tuple[str, ...] = ()
    # Each of these tokens ends the answer, as the end token does.
    stop_tokens: frozenset[int] = frozenset()
    # None means: draw a seed.
    seed: int | None = None
    # Subtracted from the logits of tokens that the answer already has: the first
    # penalty once, the second for each time that the token occurs.
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    # These amounts are added to the logits of these tokens.
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    # How many of the likeliest tokens to report with each chosen token. None means that
    # no chances are reported.
    num_top: int | None = None

    @property
    def draws(self) -> bool:
        """Whether tokens are drawn by chance; else each is the likeliest one."""
        return self.temperature >= LEAST_TEMPERATURE

    @property
    def penalises(self) -> bool:
        """Whether tokens that the answer already has become less likely."""
        return bool(self.presence_penalty or self.frequency_penalty)


@dataclass(frozen=True)
class Piece:
    """New text of one answer. Only an answer's last piece has a `finish_reason`."""

    # The `index` of the answer.
    index: int
    text: str
    # The tokens made since this answer's last piece, without the end token.
    token_ids: tuple[int, ...]
    finish_reason: FinishReason | None
    # Whether the prompt lost its beginning, because the model cannot read so much.
    prompt_cut: bool = False
    # The chance of each token, if they were asked for.
    chances: tuple[Chance, ...] = ()


class Answer:
    """One answer to one prompt while it is made, token by token.

    Several answers may have the same prompt; `index` tells them apart. `begin` must be
    called before the first `take`.
    """

    def __init__(
        self, tokenizer: Tokenizer, index: int, sampling: Sampling, seed: int
    ) -> None:
        self.tokenizer = tokenizer
        self.index = index
        self.sampling = sampling
        self.generator = torch.Generator().manual_seed(seed)
        self.scanner = StopScanner(sampling.stop)
        self.characters = characters_of(tokenizer)
        # By token: what to add to its logit.
        self.changes = dict(sampling.logit_bias)
        self.penalised: set[int] = set()
        self.finished = False

    def begin(self, prompt: Sequence[int], max_tokens: int, prompt_cut: bool) -> None:
        """Starts the answer behind a prompt, with room for `max_tokens` tokens.

        `prompt_cut` says whether the prompt has lost its beginning.
        """
        self.decoder = TextDecoder(self.tokenizer, prompt)
        self.num_left = max_tokens
        self.prompt_cut = prompt_cut
        self.tokens = list(prompt)
        self.pending = self.characters.at_end(prompt) if self.characters else b""
        self.unshown: list[int] = []
        self.unshown_chances: list[Chance] = []
        # Both count all chosen tokens, the end token too.
        self.num_chosen = 0
        self.sum_logprobs = 0.0

    @property
    def mean_logprob(self) -> float:
        """The mean logprob of the chosen tokens; 0 if no chances were given."""
        return self.sum_logprobs / max(1, self.num_chosen)

    def fits(self, token: int) -> bool:
        """Returns whether the text stays UTF-8 with that token next."""
        if self.characters is None:
            return True
        return self.characters.after(self.pending, token) is not None

    def misfits(self) -> torch.Tensor:
        """Returns the ids of all tokens that do not fit next: [misfits], int64."""
        if self.characters is None:
            return torch.empty(0, dtype=torch.int64)
        return torch.from_numpy(self.characters.misfits(self.pending))

    def take(
        self, token: int, end_id: int, chance: Chance | None = None
    ) -> Piece | None:
        """Appends the next token; returns the new piece.

        Returns None while the text has to wait: for the rest of a character, or because
        it may be the beginning of a stop text.
        """
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
            return self._piece(self._rest(), "stop")
        self.unshown.append(token)
        text = self.scanner.push(self.decoder.push(token))
        if self.scanner.found:
            return self._piece(text, "stop")
        if not self.num_left:
            return self._piece(text + self._rest(), "length")
        return self._piece(text, None) if text else None

    def finish_unasked(self) -> Piece:
        """Ends the answer without any token, for a request about the prompt only."""
        return self._piece("", "length")

    def _rest(self) -> str:
        """Returns the text that waited, now that no more tokens come."""
        marks = self.characters.marks_of(self.pending) if self.characters else 0
        text = self.scanner.push(self.decoder.flush(marks))
        return text + self.scanner.flush()

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
    """Returns the seed of answer `index` to a request with a seed, or a random one.

    The seeds are hashed, so answer 1 to seed 5 and answer 0 to seed 6 are unrelated.
    """
    if seed is None:
        return secrets.randbits(63)
    digest = hashlib.sha256(f"{seed}:{index}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1

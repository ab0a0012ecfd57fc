"""[torch] The answers to one request while they grow, and the lines sent of them."""

import time
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

from jobs.serving.inbox import Asked
from jobs.serving.loaded import Loaded
from jobs.serving.request import CompletionRequest, RequestError
from jobs.serving.token_log import TokenLog, TokenNames
from jobs.trainer.answering.answer import Answer, Piece, Sampling, answer_seed
from jobs.trainer.answering.generation import Prefill, context_length
from jobs.trainer.answering.token_choice import Chance
from jobs.trainer.text.encoding import encode_prompt


class Answers:
    """All answers to one request.

    `numbers` gives each answer its index. Raises RequestError if this model cannot take
    the request.
    """

    def __init__(self, asked: Asked, loaded: Loaded, numbers: "Iterable[int]"):
        request = asked.request
        self.asked = asked
        self.loaded = loaded
        self.started = time.monotonic()
        self.prompt = prompt_tokens(request, loaded)
        self.max_tokens = request.max_tokens
        if request.whole_prompt or request.echo:
            self.max_tokens = room_for(self.prompt, request, loaded)
        sampling = self._sampling()
        self.members = [
            Answer(loaded.tokenizer, number, sampling, answer_seed(request.seed, index))
            for index, number in zip(range(request.num_answers), numbers, strict=False)
        ]
        # The place of each member within the request, by its index.
        self.places = {answer.index: place for place, answer in enumerate(self.members)}
        self.logs: dict[int, TokenLog] = {}
        self.num_unfinished = len(self.members)
        self.num_tokens = 0
        self.prompt_cut = False
        self.unsent: list[Piece] = []
        # One list for all answers. None: it is not known, or was not asked for.
        self.prompt_chances: list[Chance] | None = None

    @property
    def chooses(self) -> bool:
        """Whether only the best answers are sent. All have to be complete for that."""
        return self.asked.request.n < len(self.members)

    @property
    def num_top_of_prompt(self) -> int | None:
        """How many of the likeliest tokens to note for each token of the prompt.

        None: the chances of the prompt are not asked for, or known already.
        """
        request = self.asked.request
        if not request.echo or self.prompt_chances is not None:
            return None
        return request.logprobs

    def begin(self, prefill: Prefill) -> None:
        """Begins the members whose prompt was read."""
        request = self.asked.request
        if self.num_top_of_prompt is not None:
            self.prompt_chances = prefill.chances
        for answer in prefill.answers:
            if request.logprobs is not None:
                self.logs[answer.index] = TokenLog(
                    self.names, request.logprobs, prefill.prompt, len(self.prompt_text)
                )
            if request.echo and not self.chooses:
                self.asked.put(self._echo(self.places[answer.index]))

    def take(self, piece: Piece) -> None:
        """Adds a new piece of an answer."""
        self.unsent.append(piece)
        self.num_tokens += len(piece.token_ids)
        self.num_unfinished -= piece.finish_reason is not None
        self.prompt_cut = piece.prompt_cut

    def send(self) -> None:
        """Sends one line for each answer that has something new."""
        if self.chooses and self.num_unfinished:
            return
        if self.chooses:
            self._choose()
        pieces, self.unsent = self.unsent, []
        for index in sorted({piece.index for piece in pieces}):
            self._send([piece for piece in pieces if piece.index == index])
        if not self.num_unfinished:
            self.asked.put(self._summary())

    def _choose(self) -> None:
        """Keeps the answers whose tokens are likeliest on average, the best first."""
        request = self.asked.request
        best = sorted(self.members, key=lambda answer: -answer.mean_logprob)[
            : request.n
        ]
        self.places = {answer.index: place for place, answer in enumerate(best)}
        self.unsent = [piece for piece in self.unsent if piece.index in self.places]
        for place in range(request.n if request.echo else 0):
            self.asked.put(self._echo(place))

    def _send(self, pieces: list[Piece]) -> None:
        index = pieces[0].index
        line: dict[str, Any] = {
            "index": self.places[index],
            "text": "".join(piece.text for piece in pieces),
            "finish_reason": pieces[-1].finish_reason,
            "tokens": sum(len(piece.token_ids) for piece in pieces),
        }
        if index in self.logs:
            line["logprobs"] = self.logs[index].take(pieces)
        self.asked.put(line)

    def _echo(self, place: int) -> dict[str, Any]:
        line: dict[str, Any] = {
            "index": place,
            "text": self.prompt_text,
            "finish_reason": None,
            "tokens": 0,
        }
        if self.prompt_chances is not None:
            line["logprobs"] = self._prompt_log
        return line

    @cached_property
    def _prompt_log(self) -> dict[str, list[Any] | None]:
        """The log of the prompt's tokens, of which the first has no chance."""
        request = self.asked.request
        log = TokenLog(self.names, request.logprobs or 0, [], 0)
        # An empty prompt is asked as the token behind which texts begin.
        prompt = self.prompt if request.prompt else []
        known = [None, *(self.prompt_chances or ())]
        for token, chance in zip(prompt, known, strict=False):
            log.push(token, chance)
        return log.take_all()

    @cached_property
    def prompt_text(self) -> str:
        """The prompt as text."""
        prompt = self.asked.request.prompt
        if isinstance(prompt, str):
            return prompt
        text: str = self.loaded.tokenizer.decode(list(prompt))
        return text

    @cached_property
    def names(self) -> TokenNames:
        """The names of the model's tokens."""
        return TokenNames(self.loaded.tokenizer)

    def _sampling(self) -> Sampling:
        request = self.asked.request
        num_top = request.logprobs
        if num_top is None and request.num_answers > request.n:
            num_top = 0
        return Sampling(
            temperature=request.temperature,
            top_p=request.top_p,
            max_tokens=self.max_tokens,
            stop=request.stop,
            stop_tokens=frozenset((*request.stop_tokens, *self.loaded.encoder.end_ids)),
            seed=request.seed,
            presence_penalty=request.presence_penalty,
            frequency_penalty=request.frequency_penalty,
            logit_bias=request.logit_bias,
            num_top=num_top,
        )

    def _summary(self) -> dict[str, Any]:
        return {
            "done": True,
            "usage": {
                "prompt_tokens": len(self.prompt),
                "completion_tokens": self.num_tokens,
            },
            "prompt_cut": self.prompt_cut,
            "seconds": round(time.monotonic() - self.started, 3),
        }


def prompt_tokens(request: CompletionRequest, loaded: Loaded) -> list[int]:
    """Returns the ids of the prompt's tokens. Raises RequestError for unknown ids."""
    if isinstance(request.prompt, str):
        prompt = encode_prompt(loaded.encoder, request.prompt)
    else:
        prompt = list(request.prompt) or encode_prompt(loaded.encoder)
    vocabulary = int(loaded.model.config.get_text_config().vocab_size)
    check_tokens("prompt", prompt, vocabulary)
    check_tokens("logit_bias", request.logit_bias, vocabulary)
    return prompt


def check_tokens(field: str, tokens: Iterable[int], vocabulary: int) -> None:
    """Raises RequestError if the model has fewer tokens than `field` names."""
    largest = max(tokens, default=0)
    if largest >= vocabulary:
        raise RequestError(
            f"{field} names token {largest}, and this model has tokens 0 to "
            f"{vocabulary - 1:,}.",
            field=field,
        )


def room_for(prompt: Sequence[int], request: CompletionRequest, loaded: Loaded) -> int:
    """Returns how many tokens may follow the whole prompt.

    Raises RequestError if it is too long, in words for which clients look.
    """
    context = context_length(loaded.model)
    if len(prompt) + min(1, request.max_tokens) > context:
        no_room = ", which leaves no room for an answer" * (len(prompt) == context)
        raise RequestError(
            f"This model's maximum context length is {context} tokens. The prompt has "
            f"{len(prompt)}{no_room}. Shorten it.",
            kind="context",
            field="prompt",
        )
    return min(request.max_tokens, context - len(prompt))

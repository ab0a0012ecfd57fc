"""[torch] The requests to one model, answered together, and what goes back to each."""

import itertools
import time
from collections import deque
from typing import Any

from jobs.serving.inbox import Asked
from jobs.serving.loaded import Loaded
from jobs.trainer.encoding import encode_prompt
from jobs.trainer.generation import (
    Batch,
    Piece,
    Prefill,
    Row,
    Sampling,
    context_length,
    fit,
    row_seed,
)

# A turn is short enough to look smooth and long enough that sending costs little.
TURN_SECONDS = 0.03
MAX_ROWS = 32
# What keys and values of all answers of a model may take.
MAX_CACHE_BYTES = 1_000_000_000


class Answers:
    """One request's answers in the making."""

    def __init__(self, asked: Asked, loaded: Loaded, numbers: "itertools.count[int]"):
        request = asked.request
        self.asked = asked
        self.started = time.monotonic()
        self.prompt = encode_prompt(loaded.tokenizer, request.prompt, loaded.end_id)
        sampling = Sampling(
            temperature=request.temperature,
            top_p=request.top_p,
            max_tokens=request.max_tokens,
            stop=request.stop,
            seed=request.seed,
        )
        self.rows = [
            Row(loaded.tokenizer, next(numbers), sampling, row_seed(request.seed, i))
            for i in range(request.n)
        ]
        self.first = self.rows[0].index
        self.num_unfinished = len(self.rows)
        self.num_tokens = 0
        self.prompt_cut = False
        self.unsent: list[Piece] = []

    def take(self, piece: Piece) -> None:
        self.unsent.append(piece)
        self.num_tokens += len(piece.token_ids)
        self.num_unfinished -= piece.finish_reason is not None
        self.prompt_cut = piece.prompt_cut

    def send(self) -> None:
        """One line for each answer that has something new."""
        pieces, self.unsent = self.unsent, []
        for index in sorted({piece.index for piece in pieces}):
            self._send([piece for piece in pieces if piece.index == index])
        if not self.num_unfinished:
            self.asked.put(self._summary())

    def _send(self, pieces: list[Piece]) -> None:
        self.asked.put(
            {
                "index": pieces[0].index - self.first,
                "text": "".join(piece.text for piece in pieces),
                "finish_reason": pieces[-1].finish_reason,
                "tokens": sum(len(piece.token_ids) for piece in pieces),
            }
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


class Desk:
    """All requests to one model. A turn brings each of them on."""

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded
        self.batch = Batch(loaded.model, loaded.end_id)
        self.waiting: deque[Answers] = deque()
        self.reading: tuple[Answers, Prefill] | None = None
        # By the index of their rows.
        self.answers: dict[int, Answers] = {}
        self.numbers = itertools.count()

    def add(self, asked: Asked) -> None:
        self.waiting.append(Answers(asked, self.loaded, self.numbers))

    @property
    def is_idle(self) -> bool:
        return not (self.waiting or self.reading or self.batch.rows)

    def turn(self) -> None:
        until = time.monotonic() + TURN_SECONDS
        self._drop_cancelled()
        while self._read() and time.monotonic() < until:
            pass
        while self.batch.rows:
            self._take(self.batch.step())
            if time.monotonic() > until:
                break
        self._send()

    def refuse_all(self, message: str) -> None:
        open_answers = [*self.waiting, *self.answers.values()]
        if self.reading:
            open_answers.append(self.reading[0])
        for asked in {answers.asked for answers in open_answers}:
            asked.refuse(message, "internal")

    def _drop_cancelled(self) -> None:
        self.waiting = deque(a for a in self.waiting if not a.asked.cancelled)
        if self.reading and self.reading[0].asked.cancelled:
            self.reading = None
        rows = self.batch.rows
        gone = {row.index for row in rows if self.answers[row.index].asked.cancelled}
        for index in gone:
            del self.answers[index]
        self.batch.keep([at for at, row in enumerate(rows) if row.index not in gone])

    def _read(self) -> bool:
        """One part of one prompt; when it is read, its answers join the others.

        True when there was something to read.
        """
        if self.reading is None and self.waiting and self._has_room(self.waiting[0]):
            next_one = self.waiting.popleft()
            prefill = Prefill(self.loaded.model, next_one.prompt, next_one.rows)
            self.reading = next_one, prefill
        if self.reading is None:
            return False
        answers, prefill = self.reading
        if prefill.advance():
            self.reading = None
            self.answers |= {row.index: answers for row in answers.rows}
            self._take(self.batch.join(prefill))
            # The first word at once.
            self._send()
        return True

    def _take(self, pieces: list[Piece]) -> None:
        for piece in pieces:
            self.answers[piece.index].take(piece)

    def _send(self) -> None:
        """What was made since the last time; answers that are complete leave."""
        for answers in set(self.answers.values()):
            answers.send()
        growing = {row.index for row in self.batch.rows}
        self.answers = {i: a for i, a in self.answers.items() if i in growing}

    def _has_room(self, answers: Answers) -> bool:
        num_rows = len(self.batch.rows) + len(answers.rows)
        if not self.batch.rows:
            return True
        longest = max(map(self._final_length, {answers, *self.answers.values()}))
        num_bytes = num_rows * longest * cache_bytes_per_token(self.loaded.model)
        return num_rows <= MAX_ROWS and num_bytes <= MAX_CACHE_BYTES

    def _final_length(self, answers: Answers) -> int:
        context = context_length(self.loaded.model)
        kept, room = fit(answers.prompt, answers.asked.request.max_tokens, context)
        return len(kept) + room


def cache_bytes_per_token(model: Any) -> int:
    """Keys and values of all layers for one token."""
    config = model.config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or (
        config.hidden_size // config.num_attention_heads
    )
    return int(2 * config.num_hidden_layers * heads * width * model.dtype.itemsize)

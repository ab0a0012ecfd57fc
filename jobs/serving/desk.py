"""[torch] Answers all requests to one model together."""

import itertools
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from jobs.serving.answers import Answers
from jobs.serving.inbox import Asked
from jobs.serving.loaded import Loaded
from jobs.serving.request import MAX_BEST_OF
from jobs.trainer.answering.answer import Answer, Piece
from jobs.trainer.answering.generation import (
    Batch,
    Prefill,
    carries_state,
    context_length,
    fit,
)

# A turn is short enough to look smooth and long enough that sending costs little.
TURN_SECONDS = 0.03
# The memory that the keys and values of all answers of a model may take.
MAX_CACHE_BYTES = 1_000_000_000
# Many answers to one question join in parts, so that others come in between.
GROUP_ANSWERS = MAX_BEST_OF // 4
# People who have no answer growing may use this much more of the places and bytes, so
# that one who asks a lot cannot keep the others out.
FOR_NEWCOMERS = 1.25


@dataclass(frozen=True, eq=False)
class AnswerGroup:
    """Rows of one request that are read and join together."""

    answers: Answers
    members: list[Answer]


class Desk:
    """The requests to one model, each of which grows a little in every turn."""

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded
        self.batch = Batch(loaded.model, loaded.end_id)
        self.waiting: deque[AnswerGroup] = deque()
        self.reading: tuple[AnswerGroup, Prefill] | None = None
        # By the index of each of their members.
        self.answers: dict[int, Answers] = {}
        self.numbers = itertools.count()

    def add(self, asked: Asked) -> None:
        """Takes a new request. Raises RequestError if this model cannot take it."""
        answers = Answers(asked, self.loaded, self.numbers)
        self.waiting.extend(self._groups(answers))

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.waiting or self.reading or self.batch.answers)

    def turn(self) -> None:
        """Reads prompts and makes tokens for about TURN_SECONDS, and sends them."""
        until = time.monotonic() + TURN_SECONDS
        self._drop_cancelled()
        while self._read() and time.monotonic() < until:
            pass
        while self.batch.answers:
            self._take(self.batch.step())
            if time.monotonic() > until:
                break
        self._send()

    def refuse_all(self, message: str) -> None:
        """Ends all requests with an error."""
        open_answers = [*self.answers.values()]
        open_answers += [group.answers for group in self.waiting]
        if self.reading:
            open_answers.append(self.reading[0].answers)
        for asked in {answers.asked for answers in open_answers}:
            asked.refuse(message, "internal")

    def _groups(self, answers: Answers) -> Iterator[AnswerGroup]:
        """Yields a request's answers in groups that are no larger than the room."""
        num_bytes = self._final_length(answers) * self._bytes_per_token
        size = max(1, min(GROUP_ANSWERS, MAX_CACHE_BYTES // max(1, num_bytes)))
        for start in range(0, len(answers.members), size):
            yield AnswerGroup(answers, answers.members[start : start + size])

    def _drop_cancelled(self) -> None:
        self.waiting = deque(
            group for group in self.waiting if not group.answers.asked.cancelled
        )
        if self.reading and self.reading[0].answers.asked.cancelled:
            self.reading = None
        growing = [answer.index for answer in self.batch.answers]
        gone = {index for index in growing if self.answers[index].asked.cancelled}
        for index in gone:
            del self.answers[index]
        self.batch.keep([at for at, index in enumerate(growing) if index not in gone])

    def _read(self) -> bool:
        """Reads one part of a prompt. When all is read, its answers join the others.

        Returns whether there was something to read.
        """
        if self.reading is None and (found := self._next()):
            self.waiting.remove(found)
            self.reading = self._begin(found)
        if self.reading is None:
            return False
        group, prefill = self.reading
        if prefill.advance():
            self.reading = None
            group.answers.begin(prefill)
            self.answers |= {answer.index: group.answers for answer in group.members}
            self._take(self.batch.join(prefill))
            # Sent now, so that the first word is seen at once.
            self._send()
        return True

    def _next(self) -> AnswerGroup | None:
        """Returns the group to read next.

        It belongs to the person who has the fewest answers growing, and to the request
        of theirs that has. While there is no room for it, None is returned and no other
        group is read before it.
        """
        growing = [self.answers[answer.index] for answer in self.batch.answers]
        of_asker = Counter(answers.asked.asker for answers in growing)
        of_request = Counter(growing)

        def num_growing(group: AnswerGroup) -> tuple[int, int]:
            answers = group.answers
            return of_asker[answers.asked.asker], of_request[answers]

        group = min(self.waiting, key=num_growing, default=None)
        if group is None:
            return None
        more = 1 if of_asker[group.answers.asked.asker] else FOR_NEWCOMERS
        return group if self._has_room(group, more) else None

    def _begin(self, group: AnswerGroup) -> tuple[AnswerGroup, Prefill]:
        answers = group.answers
        answers.asked.begun = True
        prefill = Prefill(
            self.loaded.model, answers.prompt, group.members, answers.num_top_of_prompt
        )
        return group, prefill

    def _take(self, pieces: list[Piece]) -> None:
        for piece in pieces:
            self.answers[piece.index].take(piece)

    def _send(self) -> None:
        """Sends what was made since the last time, and forgets complete answers."""
        for answers in set(self.answers.values()):
            answers.send()
        growing = {answer.index for answer in self.batch.answers}
        self.answers = {i: a for i, a in self.answers.items() if i in growing}

    def _has_room(self, group: AnswerGroup, more: float) -> bool:
        num_answers = len(self.batch.answers) + len(group.members)
        if not self.batch.answers:
            return True
        longest = max(map(self._final_length, {group.answers, *self.answers.values()}))
        num_bytes = num_answers * longest * self._bytes_per_token
        return num_answers <= MAX_BEST_OF * more and num_bytes <= MAX_CACHE_BYTES * more

    def _final_length(self, answers: Answers) -> int:
        context = context_length(self.loaded.model)
        kept, room = fit(answers.prompt, answers.max_tokens, context)
        return len(kept) + room

    @property
    def _bytes_per_token(self) -> int:
        return cache_bytes_per_token(self.loaded.model)


def cache_bytes_per_token(model: Any) -> int:
    """Returns the bytes of keys and values of all layers for one token.

    It is 0 for models that keep none.
    """
    if carries_state(model):
        return 0
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or (
        config.hidden_size // config.num_attention_heads
    )
    return int(2 * config.num_hidden_layers * heads * width * model.dtype.itemsize)

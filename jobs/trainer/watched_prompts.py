"""[torch] The answers to a job's watched prompts, as events."""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from jobs.trainer.answering.generation import Sampling, complete
from jobs.trainer.contract.events import EventWriter
from jobs.trainer.contract.spec import Spec
from jobs.trainer.rows.plan import check_known
from jobs.trainer.text.encoding import (
    encode_prompt,
    end_of_text_id,
    load_tokenizer,
)

# (number of the prompt, number of its answer)
Wanted = tuple[int, int]

# Between looks at what people want.
LOOK_SECONDS = 0.2


class Interrupted(Exception):
    """People want the job to end before all answers are there."""


class WatchedPrompts:
    """Only process 0 answers."""

    def __init__(
        self,
        events: EventWriter,
        spec: Spec,
        answers_at_once: int,
        is_to_end: Callable[[], bool],
    ) -> None:
        self.events = events
        self.spec = spec
        self.is_to_end = is_to_end
        self.tokenizer = load_tokenizer(spec.model.path)
        self.end_id = end_of_text_id(spec.model.path)
        self.prompts = [
            encode_prompt(self.tokenizer, prompt, self.end_id)
            for prompt in spec.prompts
        ]
        for ids in self.prompts:
            check_known(max(ids), spec, "a watched prompt")
        wanted = [
            (number, index)
            for number in range(len(spec.prompts))
            for index in range(spec.num_completions)
        ]
        # Always the same: rounding depends on what is answered together, and a resumed
        # job must say the same.
        self.groups = [
            wanted[first : first + answers_at_once]
            for first in range(0, len(wanted), answers_at_once)
        ]

    def lacks_answers(self, step: int) -> bool:
        return any(self._lacks_some(step, group) for group in self.groups)

    def write_answers(self, model: Any, step: int) -> bool:
        """All that are not on record; False when people want the job to end first."""
        try:
            with left_when_asked(model, self.is_to_end):
                for group in self.groups:
                    if self._lacks_some(step, group):
                        self._write_group(model, step, group)
        except Interrupted:
            return False
        return True

    def _lacks_some(self, step: int, group: list[Wanted]) -> bool:
        return not all(
            self.events.has("completion", step=step, prompt_index=number, index=index)
            for number, index in group
        )

    def _write_group(self, model: Any, step: int, group: list[Wanted]) -> None:
        spec = self.spec
        answers = complete(
            model,
            self.tokenizer,
            [self.prompts[number] for number, _ in group],
            Sampling(
                temperature=spec.completion_temperature,
                max_tokens=spec.completion_tokens,
            ),
            self.end_id,
            seeds=[completion_seed(spec.job, step, *which) for which in group],
        )
        for (number, index), answer in zip(group, answers, strict=True):
            self.events.write(
                "completion",
                step=step,
                prompt_index=number,
                prompt=spec.prompts[number],
                index=index,
                text=answer.text,
                finish_reason=answer.finish_reason,
            )


@contextmanager
def left_when_asked(model: Any, is_to_end: Callable[[], bool]) -> Iterator[None]:
    """Whatever runs the model is interrupted between two runs when people want so."""
    looked_at = -LOOK_SECONDS

    def look(*_: object) -> None:
        nonlocal looked_at
        if time.monotonic() - looked_at < LOOK_SECONDS:
            return
        looked_at = time.monotonic()
        if is_to_end():
            raise Interrupted

    # Before a hook that tells other processes of the run: they would wait for it.
    hook = model.register_forward_pre_hook(look, prepend=True)
    try:
        yield
    finally:
        hook.remove()


def completion_seed(job: str, step: int, prompt_index: int, index: int) -> int:
    """A function of its arguments, so that a resumed job answers the same."""
    text = f"{job} {step} {prompt_index} {index}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")

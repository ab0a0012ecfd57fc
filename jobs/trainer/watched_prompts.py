"""[torch] Answers a job's watched prompts and writes the answers as events."""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from jobs.trainer.answering.generation import Sampling, complete
from jobs.trainer.contract.events import EventWriter
from jobs.trainer.contract.spec import Spec
from jobs.trainer.rows.plan import check_known
from jobs.trainer.text.encoding import encode_prompt, load_encoder

# One wanted answer: (number of the prompt, number of its answer), both from 0.
Wanted = tuple[int, int]

# The time between two looks at what people want.
LOOK_SECONDS = 0.2


class Interrupted(Exception):
    """Stops the answering because people want the job to end."""


class WatchedPrompts:
    """Answers the watched prompts of a job. Only process 0 calls its methods."""

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
        self.encoder = load_encoder(spec.model.path)
        self.prompts = [encode_prompt(self.encoder, text) for text in spec.prompts]
        for ids in self.prompts:
            check_known(max(ids), spec, "a watched prompt")
        wanted = [
            (number, index)
            for number in range(len(spec.prompts))
            for index in range(spec.num_completions)
        ]
        # The groups are always the same: rounding depends on what is answered together,
        # and a resumed job must give the same answers.
        self.groups = [
            wanted[first : first + answers_at_once]
            for first in range(0, len(wanted), answers_at_once)
        ]

    def lacks_answers(self, step: int) -> bool:
        """Returns whether an answer after this step is not on record."""
        return any(self._lacks_some(step, group) for group in self.groups)

    def write_answers(self, model: Any, step: int) -> bool:
        """Writes the answers that are not on record yet.

        Returns False when people want the job to end before all are written.
        """
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
            self.encoder.tokenizer,
            [self.prompts[number] for number, _ in group],
            Sampling(
                temperature=spec.completion_temperature,
                max_tokens=spec.completion_tokens,
                stop_tokens=frozenset(self.encoder.end_ids),
            ),
            self.encoder.end_id,
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
    """Interrupts work with the model when people want the job to end.

    Within the context the next run of the model then raises Interrupted. `is_to_end` is
    called at most once in LOOK_SECONDS.
    """
    looked_at = -LOOK_SECONDS

    def look(*_: object) -> None:
        nonlocal looked_at
        if time.monotonic() - looked_at < LOOK_SECONDS:
            return
        looked_at = time.monotonic()
        if is_to_end():
            raise Interrupted

    # It must come before the hook that announces a run to the other processes, because
    # they would wait for that run.
    hook = model.register_forward_pre_hook(look, prepend=True)
    try:
        yield
    finally:
        hook.remove()


def completion_seed(job: str, step: int, prompt_index: int, index: int) -> int:
    """Returns a seed for one answer, the same in a resumed job."""
    text = f"{job} {step} {prompt_index} {index}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")

"""What an engine is: where jobs run and snapshots are served."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Protocol

from finetune_site.common.errors import LaterError, UserError
from jobs.models import Job, Snapshot
from jobs.trainer.contract.events import Event
from jobs.trainer.contract.spec import Spec


class RunFolderError(UserError):
    """A run folder that cannot be used any more. Its job fails with these words."""


class EngineTroubleError(LaterError):
    """An engine that cannot be asked now. Nothing is known of its jobs; it may pass."""

    def __init__(self, message: str, *, retry_after: float = 0) -> None:
        super().__init__(message)
        # Seconds that it wants to be left alone, if it says so.
        self.retry_after = retry_after


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a look at a job found.

    The events are complete when `alive` is False: liveness is looked at first.
    """

    events: list[Event]
    # Where the next look begins to read (bytes).
    offset: int
    alive: bool
    # Whether a trainer was started for the job's present claim.
    launched: bool
    # Of a server elsewhere: what it says of the job beside its events. `status` is one
    # of `Job.Status`, or empty where the events say it all.
    status: str = ""
    message: str = ""
    total_steps: int = 0


class Engine(Protocol):
    """Every call may be repeated: it brings a state about, it sends no message."""

    name: str
    # For people.
    title: str
    jobs_at_once: int
    # Whether it is a server elsewhere: then it may be slow or away, and is only asked
    # where nobody waits for a job of another engine.
    is_remote: bool

    def check_job(self, job: Job) -> None:
        """Before a job is made: UserError says what the engine lacks for it."""

    def start(self, job: Job, spec: Spec) -> None:
        """Have a trainer run the job, unless one does. RunFolderError: it cannot."""

    def poll(self, job: Job) -> Report:
        """The events since `job.last_seq`, and whether a trainer lives."""

    def control(self, job: Job) -> None:
        """Tell the trainer the job's `want` and `snapshot_requests`."""

    def enforce(self, job: Job) -> None:
        """End a trainer that has ignored a pause or stop for too long."""

    def end(self, job: Job, *, force: bool = False) -> None:
        """End the job's trainer: with a checkpoint, or at once."""

    def end_strays(self) -> None:
        """End trainers of jobs that are not live, such as those of dead launchers."""

    def ease(self, job: Job) -> str:
        """Make a dead trainer's next start need less memory; says what was changed."""

    def complete(
        self, snapshot: Snapshot | None, request: dict[str, Any]
    ) -> AsyncIterator[dict[str, Any]]:
        """Stream a completion of a snapshot, or of `base_model` when it is None.

        The request has prompt (a text or token ids), temperature, top_p, max_tokens,
        stop, seed and n, and may have logprobs, echo, best_of, logit_bias, the two
        penalties and asker, the number of the member who asks. Lines: {"index", "text",
        "finish_reason", "tokens"}, with "logprobs" when asked, at last {"done",
        "usage", ...}. Raises UserError.
        """

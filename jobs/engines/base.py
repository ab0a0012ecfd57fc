"""What an engine is: where jobs run and snapshots are served."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Protocol

from finetune_site.common.errors import LaterError, UserError
from jobs.models import Job, Snapshot
from jobs.trainer.contract.events import Event
from jobs.trainer.contract.spec import Spec


class RunFolderError(UserError):
    """A run folder that cannot be used any more. Its job fails with the message."""


class EngineTroubleError(LaterError):
    """An engine that cannot be asked now, so nothing is known of its jobs. It may pass.

    `retry_after` is for how many seconds the engine wants to be left alone; 0: unknown.
    """

    def __init__(self, message: str, *, retry_after: float = 0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a look at a job found.

    The events are complete when `alive` is False, since liveness is looked at first.
    """

    events: list[Event]
    # Where the next look begins to read (bytes).
    offset: int
    alive: bool
    # Whether a trainer was started for the job's present claim.
    launched: bool
    # These three are what a server elsewhere says of the job beside its events. The
    # status is one of `Job.Status`, or empty where the events say it all.
    status: str = ""
    message: str = ""
    total_steps: int = 0


class Engine(Protocol):
    """A place where jobs run and snapshots are served.

    Every call may be repeated, because it asks for a state.
    """

    name: str
    # What people read instead of the name.
    title: str
    jobs_at_once: int
    # Whether it is a server elsewhere. Such an engine may be slow or away, so it is
    # asked only where no job of another engine has to wait.
    is_remote: bool

    def check_job(self, job: Job) -> None:
        """Raises UserError if the engine lacks something that a new job needs."""

    def start(self, job: Job, spec: Spec) -> None:
        """Has a trainer run the job, unless one does. Raises RunFolderError."""

    def poll(self, job: Job) -> Report:
        """Returns the events after `job.last_seq`, and whether a trainer lives.

        Raises RunFolderError if the job cannot go on.
        """

    def control(self, job: Job) -> None:
        """Tells the trainer the job's `want` and `snapshot_requests`."""

    def enforce(self, job: Job) -> None:
        """Ends a trainer that has ignored a pause or stop for too long."""

    def end(self, job: Job, *, force: bool = False) -> None:
        """Ends the job's trainer: after a checkpoint, or at once with `force`."""

    def end_strays(self) -> None:
        """Ends trainers of jobs that are not live, for example of dead launchers."""

    def ease(self, job: Job) -> str:
        """Lets a dead trainer's next start need less memory.

        Returns a sentence about what was changed; empty if nothing was.
        """

    def complete(
        self, snapshot: Snapshot | None, request: dict[str, Any]
    ) -> AsyncIterator[dict[str, Any]]:
        """Streams a completion of a snapshot, or of `base_model` if it is None.

        The request has prompt (a text or token ids), temperature, top_p, max_tokens,
        stop, seed and n. It may have logprobs, echo, best_of, logit_bias, the two
        penalties and asker, which is the number of the member who asks.
        Yields lines {"index", "text", "finish_reason", "tokens"}, which have "logprobs"
        if these were asked for, and at last a line {"done", "usage", ...}.
        Raises UserError.
        """

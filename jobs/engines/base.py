"""What an engine is: where jobs run and snapshots are served."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Protocol

from finetune_site.errors import UserError
from jobs.models import Job, Snapshot
from jobs.trainer.events import Event
from jobs.trainer.spec import Spec


class RunFolderError(UserError):
    """A run folder that cannot be used any more. Its job fails with these words."""


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


class Engine(Protocol):
    """Every call may be repeated: it brings a state about, it sends no message."""

    name: str
    # For people.
    title: str
    jobs_at_once: int

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

        The request has prompt, temperature, top_p, max_tokens, stop, seed and n. Lines:
        {"index", "text", "finish_reason", "tokens"}, at last {"done", "usage", ...}.
        Raises UserError.
        """

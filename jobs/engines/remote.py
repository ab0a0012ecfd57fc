"""A remote engine: another server with this API trains, and this site shows it.

Truth lies on the far side. The rows here repeat it, as they repeat a run folder. Every
call may be made again, and nothing is lost when the process ends.
"""

from collections.abc import AsyncIterator
from functools import cached_property
from typing import Any

from finetune_site.common.errors import UserError
from finetune_site.common.sealing import unseal
from jobs.engines.base import EngineTroubleError, Report
from jobs.engines.far_api import FarApi
from jobs.engines.far_check import check_server
from jobs.engines.far_completion import complete
from jobs.engines.far_events import as_forced_pause, is_pause, read_new_events
from jobs.engines.far_jobs import FarJobs, message_of, status_of, total_steps_of
from jobs.engines.far_server import FarRefusalError, KeyTroubleError
from jobs.engines.sending import send_job
from jobs.engines.strays import Strays
from jobs.engines.wishes import Told, Wishes
from jobs.models import EngineSetting, Job, Snapshot
from jobs.trainer.contract.spec import Spec

Status = Job.Status


class RemoteEngine:
    """The engine that an `EngineSetting` of the kind remote describes.

    `told` is what an engine of the same name, with older settings, has told of jobs.
    """

    is_remote = True

    def __init__(
        self, setting: EngineSetting, told: dict[str, Told] | None = None
    ) -> None:
        self.setting = setting
        self.name = setting.name
        self.title = setting.name
        self.jobs_at_once = setting.jobs_at_once
        self.told = {} if told is None else told

    @cached_property
    def far(self) -> FarApi:
        """The far server's client. Raises KeyTroubleError if no key can be read."""
        try:
            key = unseal(self.setting.sealed_key)
        except UserError as error:
            raise KeyTroubleError(f"The engine {self.name}: {error.message}") from None
        return FarApi(
            self.name,
            self.setting.url,
            key,
            allow_private=self.setting.allow_private,
        )

    @cached_property
    def jobs(self) -> FarJobs:
        """The jobs of this site there."""
        return FarJobs(self.far)

    @cached_property
    def wishes(self) -> Wishes:
        """What people want of these jobs."""
        return Wishes(self.jobs, self.told)

    @cached_property
    def strays(self) -> Strays:
        """Jobs that may train on there although they have ended here."""
        return Strays(self.jobs)

    def check(self) -> None:
        """Raises EngineTroubleError if something keeps jobs from running there."""
        check_server(self.far)

    def check_job(self, job: Job) -> None:
        """Raises UserError if the far side has no such base model.

        An engine that is away is no reason against the job, which says itself what it
        does then.
        """
        try:
            found = self.far.has_model(job.base_model)
        except (EngineTroubleError, FarRefusalError):
            return
        if not found:
            raise UserError(
                f"The engine {self.name} has no base model {job.base_model}. Get it "
                "there first, or choose another one.",
                field="base_model",
            )

    def start(self, job: Job, spec: Spec) -> None:
        """Has the far side run the job, whatever it has of it already.

        Raises NotWantedError if somebody stops or pauses it meanwhile.
        """
        far_job = self.jobs.find(job)
        if far_job is None:
            far_job = send_job(self.jobs, job)
        if status_of(far_job) == Status.PAUSED:
            far_job = self.jobs.act(job, "resume") or far_job
        self.jobs.note(job, far_job)
        self.wishes.begin(job, far_job)

    def poll(self, job: Job) -> Report:
        """Returns what is new of the job there; see `Engine.poll`."""
        if not job.far_uid:
            return Report(events=[], offset=0, alive=False, launched=False)
        # Before its events: a job that has ended writes no more of them.
        far_job = self.jobs.recent(job)
        events, complete = read_new_events(self.far, job)
        if any(map(is_pause, events)):
            far_job = self.jobs.look(job)
            if self._is_paused_by_others(job, status_of(far_job)):
                events = [
                    as_forced_pause(event, self.name) if is_pause(event) else event
                    for event in events
                ]
        status = status_of(far_job)
        ended = status in Job.FINAL and complete
        return Report(
            events=events,
            offset=0,
            alive=not ended,
            launched=status == Status.RUNNING,
            # Until all events are here, a job that has ended seems to run.
            status=status if complete or status not in Job.FINAL else Status.RUNNING,
            message=message_of(far_job),
            total_steps=total_steps_of(far_job),
        )

    def _is_paused_by_others(self, job: Job, status: str) -> bool:
        ours = self.wishes.told_want(job) == Job.Want.PAUSE
        return status == Status.PAUSED and not ours

    def control(self, job: Job) -> None:
        """Tells the far side what people want of the job."""
        self.wishes.tell(job)

    def enforce(self, job: Job) -> None:
        """Does nothing: the far side sees to its own trainers."""

    def end(self, job: Job, *, force: bool = False) -> None:
        """Cancels the far job, if there is one."""
        if job.far_uid:
            self.jobs.act(job, "cancel")

    def end_strays(self) -> None:
        """Cancels jobs that may train on over there although they have ended here."""
        self.strays.end()

    def ease(self, job: Job) -> str:
        """Returns no words: the far side eases its own trainers."""
        return ""

    def complete(
        self, snapshot: Snapshot | None, request: dict[str, Any]
    ) -> AsyncIterator[dict[str, Any]]:
        """Streams a completion of the far side; see `Engine.complete`."""
        model = snapshot.uid if snapshot else request["base_model"]
        return complete(lambda: self.far, model, request)

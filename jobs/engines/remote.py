"""An engine elsewhere: another server with this API trains, this site shows it.

Truth lies on the far side; rows here are its echo, as they are of a run folder. Every
call may be repeated, and nothing here is lost with the process.
"""

import re
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from typing import Any

from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from datasets.models import DatasetVersion
from finetune_site.common.errors import UserError
from finetune_site.common.sealing import unseal
from finetune_site.common.wording import percent
from jobs.engines.base import EngineTroubleError, Report, RunFolderError
from jobs.engines.far_api import Answer, FarApi, FarRefusalError, KeyTroubleError
from jobs.engines.far_completion import complete
from jobs.models import EngineSetting, Event, Job, Snapshot
from jobs.trainer.contract.events import Event as Line
from jobs.trainer.contract.settings import SETTINGS
from jobs.trainer.contract.spec import Spec

# The job itself is looked at less often than its events.
JOB_SECONDS = 2.0
# A wish that shows no effect is sent again.
TELL_AGAIN_SECONDS = 5.0
# How often people hear how far an upload is, and it hears whether it is still wanted.
SENT_SECONDS = 1.0
# Pages of events in one look.
MAX_PAGES = 10
# A job that ended here is looked for on the far side for so long.
STRAY_DAYS = 7
# Of the far side's words about a job, in characters: the end of a log is in them.
MAX_MESSAGE = 4000
# The answer to a job's creation may have been lost, and the creation be on its way.
LATE_SECONDS = 600.0

Status = Job.Status
# Of the OpenAPI document, with the names of parameters left out.
PARAMETER = re.compile(r"\{[^}]*\}")
NEEDED_PATHS = (
    "/files",
    "/completions",
    "/fine_tuning/jobs",
    "/fine_tuning/jobs/{}/events",
    "/fine_tuning/jobs/{}/pause",
    "/fine_tuning/jobs/{}/snapshots",
)
# What the API calls them.
STATUSES = {
    "validating_files": Status.VALIDATING,
    "queued": Status.QUEUED,
    "running": Status.RUNNING,
    "paused": Status.PAUSED,
    "succeeded": Status.SUCCEEDED,
    "failed": Status.FAILED,
    "cancelled": Status.CANCELLED,
}


class NotWantedError(Exception):
    """Somebody stopped or paused the job while it was sent."""


@dataclass(frozen=True)
class Told:
    """What the far side has been told of a job, by this process."""

    want: str
    at: float
    # Requests of this side that are counted in the total there, which has those of its
    # own people too; and the last total that it was told.
    snapshot_requests: int
    total: int = 0
    told_total: int = 0


@dataclass(frozen=True)
class Seen:
    """The far job as it was at `at`."""

    answer: Answer
    at: float


class RemoteEngine:
    is_remote = True

    def __init__(
        self, setting: EngineSetting, told: dict[str, Told] | None = None
    ) -> None:
        self.setting = setting
        self.name = setting.name
        self.title = setting.name
        self.jobs_at_once = setting.jobs_at_once
        # By the job's uid. Losing them costs a few more calls; at worst a request for a
        # snapshot is not sent, of those made while this side was not running.
        self.told = {} if told is None else told
        self.seen: dict[str, Seen] = {}
        self.settled: set[int] = set()

    @cached_property
    def far(self) -> FarApi:
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

    # ----- before and at the start

    def check(self) -> None:
        """EngineTroubleError: what keeps jobs from running there."""
        try:
            paths = {PARAMETER.sub("{}", path) for path in self.far.paths()}
        except FarRefusalError as error:
            raise self.far.odd(error.status) from None
        known = {path[path.find("/v1/") + 3 :] for path in paths if "/v1/" in path}
        if missing := [path for path in NEEDED_PATHS if path not in known]:
            raise EngineTroubleError(
                f"The engine {self.name} runs an older version of this software: it "
                f"does not know {missing[0]}. Upgrade it."
            )
        self.far.get("fine_tuning/jobs", {"limit": "1"})
        # A viewer's key may look but not work; there is no such job to pause.
        with suppress(FarRefusalError):
            self.far.act("none", "pause")

    def check_job(self, job: Job) -> None:
        try:
            found = self.far.has_model(job.base_model)
        except (EngineTroubleError, FarRefusalError):
            # The job says itself what it does when its engine is away.
            return
        if not found:
            raise UserError(
                f"The engine {self.name} has no base model {job.base_model}. Get it "
                "there first, or choose another one.",
                field="base_model",
            )

    def start(self, job: Job, spec: Spec) -> None:
        """Have the far side run the job, whatever it has of it already."""
        far_job = self.find(job)
        if far_job is None:
            far_job = self._create(job)
        if far_job.get("status") == "paused":
            far_job = self._act(job, "resume") or far_job
        self._note(job, far_job)
        self.told[job.uid] = first_told(job, far_job, time.monotonic())

    def find(self, job: Job) -> Answer | None:
        """The far job, also of a creation whose answer was lost."""
        if job.far_uid:
            return self._far_job(job)
        far_job = self.far.find_job(job.uid)
        if far_job is not None:
            self._keep_uid(job, far_job)
        return far_job

    def _create(self, job: Job) -> Answer:
        training_file = self._send_file(job, job.dataset_version)
        body = creation(job, training_file)
        if job.validation_version:
            body["validation_file"] = self._send_file(job, job.validation_version)
        # Its own id: however often it is sent, there is one job.
        far_job = self.far.create_job(body, key=job.uid)
        self._keep_uid(job, far_job)
        return far_job

    def _keep_uid(self, job: Job, far_job: Answer) -> None:
        job.far_uid = str(far_job.get("id"))[:80]
        Job.objects.filter(pk=job.pk).update(far_uid=job.far_uid)

    def _send_file(self, job: Job, version: DatasetVersion) -> str:
        known = self.far.find_file(version.sha256)
        if known:
            return known
        sending = Sending(job, self.name)
        return self.far.upload(
            version.examples_path,
            f"{version.dataset.name}.jsonl",
            key=f"{job.uid}-{version.uid}",
            progress=sending,
        )

    # ----- what it does

    def poll(self, job: Job) -> Report:
        if not job.far_uid:
            return Report(events=[], offset=0, alive=False, launched=False)
        # First: a job that has ended writes no more events.
        far_job = self._recent(job)
        lines, complete = self._lines(job)
        if any(is_pause(line) for line in lines):
            far_job = self._far_job(job)
            lines = [self._paused_there(job, far_job, line) for line in lines]
        status = STATUSES.get(str(far_job.get("status")), Status.QUEUED)
        ended = status in Job.FINAL and complete
        return Report(
            events=lines,
            offset=0,
            alive=not ended,
            launched=status == Status.RUNNING,
            status=status if complete or status not in Job.FINAL else Status.RUNNING,
            message=words_of(far_job),
            total_steps=whole_number(far_job.get("total_steps")),
        )

    def _lines(self, job: Job) -> tuple[list[Line], bool]:
        """New events, and whether these are all."""
        lines: list[Line] = []
        last = job.last_seq
        more = True
        for _ in range(MAX_PAGES):
            page, more = self.far.events(job.far_uid, last)
            for line in page:
                if line["seq"] != last + 1:
                    raise RunFolderError(
                        f"Events are missing on the engine {self.name} after number "
                        f"{last}. Start a new job."
                    )
                last = line["seq"]
            lines += page
            if not more or not page:
                break
        return lines, not more

    def _paused_there(self, job: Job, far_job: Answer, line: Line) -> Line:
        """Somebody paused it on the far side: that is for people to end, not for us."""
        told = self.told.get(job.uid)
        ours = told is not None and told.want == Job.Want.PAUSE
        if not is_pause(line) or ours or far_job.get("status") != "paused":
            return line
        message = line.get("message") or f"It was paused on the engine {self.name}."
        return {**line, "forced": True, "message": message}

    def _recent(self, job: Job) -> Answer:
        seen = self.seen.get(job.uid)
        if seen and time.monotonic() - seen.at < JOB_SECONDS:
            return seen.answer
        return self._far_job(job)

    def _far_job(self, job: Job) -> Answer:
        try:
            far_job = self.far.job(job.far_uid)
        except FarRefusalError as error:
            if not error.is_unknown:
                raise
            raise RunFolderError(
                f"The engine {self.name} no longer has this job: it was deleted there. "
                "Start a new job."
            ) from None
        self._note(job, far_job)
        return far_job

    def _note(self, job: Job, far_job: Answer) -> None:
        self.seen[job.uid] = Seen(far_job, time.monotonic())

    # ----- what people want

    def control(self, job: Job) -> None:
        told = self.told.get(job.uid) or first_told(job, self._recent(job), 0.0)
        if told.want != job.want or (
            job.want != Job.Want.RUN and time.monotonic() - told.at > TELL_AGAIN_SECONDS
        ):
            self._act(job, ACTIONS[job.want])
            told = replace(told, want=job.want, at=time.monotonic())
        if job.snapshot_requests > told.snapshot_requests:
            told = count_requests(job, self._far_job(job), told)
        # Before it is sent: after a lost answer the same total is sent again.
        self.told[job.uid] = told
        if told.total > told.told_total:
            self._act(job, "snapshots", {"requests": told.total})
            self.told[job.uid] = replace(told, told_total=told.total)

    def _act(self, job: Job, action: str, body: Answer | None = None) -> Answer | None:
        """None: the far job is not in a state for it, and the next look says which."""
        self.seen.pop(job.uid, None)
        try:
            return self.far.act(job.far_uid, action, body)
        except FarRefusalError:
            return None

    def enforce(self, job: Job) -> None:
        """The far side sees to its own trainers."""

    def end(self, job: Job, *, force: bool = False) -> None:
        if job.far_uid:
            self._act(job, "cancel")

    def end_strays(self) -> None:
        """End far jobs of jobs that have ended here without their word, such as those
        that failed because the engine was away.
        """
        for job in unheard(self.name).exclude(pk__in=self.settled):
            if self._settle(job):
                self.settled.add(job.pk)

    def _settle(self, job: Job) -> bool:
        """Whether there is nothing left to end."""
        try:
            far_job = self.find(job)
        except RunFolderError:
            return True
        if far_job is None:
            late = timezone.now() - timedelta(seconds=LATE_SECONDS)
            return job.finished_at is not None and job.finished_at < late
        if STATUSES.get(str(far_job.get("status"))) in Job.FINAL:
            return True
        self._act(job, "cancel")
        return False

    def ease(self, job: Job) -> str:
        """The far side does so itself."""
        return ""

    def complete(
        self, snapshot: Snapshot | None, request: dict[str, Any]
    ) -> AsyncIterator[dict[str, Any]]:
        model = snapshot.uid if snapshot else request["base_model"]
        return complete(lambda: self.far, model, request)


ACTIONS: dict[str, str] = {
    Job.Want.RUN: "resume",
    Job.Want.PAUSE: "pause",
    Job.Want.STOP: "cancel",
}


class Sending:
    """Shows how far an upload is, and ends one that nobody wants any more."""

    def __init__(self, job: Job, engine: str) -> None:
        self.rows = Job.objects.filter(pk=job.pk, status=Status.STARTING)
        self.engine = engine
        self.looked_at = time.monotonic()

    def __call__(self, num_sent: int, num_bytes: int) -> None:
        if time.monotonic() - self.looked_at < SENT_SECONDS:
            return
        self.looked_at = time.monotonic()
        share = percent(num_sent / num_bytes)
        words = f"Sending the dataset to {self.engine}: {share}."
        if not self.rows.filter(want=Job.Want.RUN).update(status_message=words):
            raise NotWantedError


def creation(job: Job, training_file: str) -> Answer:
    """The body of the far job's creation: this job's settings, all of them stated."""
    parent = job.parent_snapshot
    return {
        "model": parent.uid if parent else job.base_model,
        "training_file": training_file,
        "name": job.name,
        "prompts": job.prompts,
        **{one.api_name: getattr(job, one.name) for one in SETTINGS.values()},
        "metadata": {"client_job_id": job.uid},
    }


def unheard(engine: str) -> QuerySet[Job]:
    """Jobs that ended here lately, and not by an event of theirs."""
    last_word = Event.objects.filter(
        job=OuterRef("pk"), type="status", data__status__in=list(Job.FINAL)
    )
    return Job.objects.filter(
        ~Exists(last_word),
        engine=engine,
        # Before that nothing of a job is sent.
        queued_at__isnull=False,
        status__in=[Status.FAILED, Status.CANCELLED],
        finished_at__gt=timezone.now() - timedelta(days=STRAY_DAYS),
    )


def first_told(job: Job, far_job: Answer, at: float) -> Told:
    """Of a job that this process has told nothing: what is counted there is taken for
    this side's, which another process may have sent.
    """
    return Told(Job.Want.RUN, at, min(job.snapshot_requests, requests_of(far_job)))


def count_requests(job: Job, far_job: Answer, told: Told) -> Told:
    """With those that are new on this side added to the total there."""
    there = max(told.total, requests_of(far_job))
    total = there + job.snapshot_requests - told.snapshot_requests
    return replace(told, snapshot_requests=job.snapshot_requests, total=total)


def requests_of(far_job: Answer) -> int:
    return whole_number(far_job.get("snapshot_requests"))


def is_pause(line: Line) -> bool:
    return line["type"] == "status" and line.get("status") == Status.PAUSED


def words_of(far_job: Answer) -> str:
    """Why it failed, or else how it stands."""
    error = far_job.get("error")
    if isinstance(error, dict) and error.get("message"):
        return str(error["message"])[:MAX_MESSAGE]
    return str(far_job.get("status_message") or "")[:MAX_MESSAGE]


def whole_number(value: Any) -> int:
    return value if isinstance(value, int) and 0 <= value < 2**31 else 0

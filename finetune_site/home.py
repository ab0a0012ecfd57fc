"""What the home page shows, read at once."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.contrib.humanize.templatetags.humanize import apnumber
from django.db.models import Prefetch, QuerySet
from django.utils import timezone

from finetune_site.mini_chart import MiniChart, draw_mini_chart
from jobs.models import Job, Snapshot

MAX_RUNNING, MAX_WAITING, MAX_FINISHED, MAX_SNAPSHOTS = 4, 5, 6, 4
WAITING = (
    Job.Status.VALIDATING,
    Job.Status.QUEUED,
    Job.Status.STARTING,
    Job.Status.PAUSED,
)


@dataclass(frozen=True)
class RunningJob:
    job: Job
    chart: MiniChart | None
    # The newest completion's event data: prompt, text, and its step.
    completion: dict[str, Any] | None


@dataclass(frozen=True)
class Home:
    running: list[RunningJob]
    waiting: list[Job]
    finished: list[Job]
    snapshots: list[Snapshot]
    headline: str

    @property
    def is_busy(self) -> bool:
        return bool(self.running or self.waiting)


def read_home() -> Home:
    running = Job.objects.filter(status=Job.Status.RUNNING).order_by("pk")
    waiting = Job.objects.filter(status__in=WAITING).order_by("queued_at", "pk")
    return Home(
        running=[read_running(job) for job in running[:MAX_RUNNING]],
        waiting=list(waiting[:MAX_WAITING]),
        finished=list(_finished()[:MAX_FINISHED]),
        snapshots=list(_snapshots()[:MAX_SNAPSHOTS]),
        headline=_headline(running.count(), waiting.count()),
    )


def read_running(job: Job) -> RunningJob:
    newest = job.events.filter(type="completion").order_by("-seq").first()
    completion = {**newest.data, "step": newest.step} if newest else None
    return RunningJob(job, draw_mini_chart(job), completion)


def _snapshots() -> QuerySet[Snapshot]:
    return Snapshot.objects.select_related("job").order_by("-created_at", "-pk")


def _finished() -> QuerySet[Job]:
    best = Snapshot.objects.filter(best=True)
    return (
        Job.objects.filter(status__in=Job.FINAL)
        .select_related("created_by")
        .prefetch_related(Prefetch("snapshots", queryset=best, to_attr="best_ones"))
        .order_by("-finished_at", "-pk")
    )


def _headline(num_running: int, num_waiting: int) -> str:
    now = " and ".join(
        part
        for part in (_jobs(num_running, "running"), _jobs(num_waiting, "waiting"))
        if part
    )
    since = timezone.now() - timedelta(days=1)
    num_finished = Job.objects.filter(finished_at__gte=since).count()
    lately = f"{_number(num_finished)} finished in the last 24 hours."
    if not now:
        return "Nothing is running. " + (lately.capitalize() if num_finished else "")
    first = f"{now[0].upper()}{now[1:]}."
    return f"{first} {lately.capitalize()}" if num_finished else first


def _jobs(num: int, doing: str) -> str:
    if not num:
        return ""
    return f"{_number(num)} {'job is' if num == 1 else 'jobs are'} {doing}"


def _number(num: int) -> str:
    return str(apnumber(num))

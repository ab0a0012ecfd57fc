"""Reads all that the home page shows."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.contrib.humanize.templatetags.humanize import apnumber
from django.db.models import Prefetch, QuerySet
from django.utils import timezone
from django.utils.text import get_text_list

from finetune_site.common import wording
from jobs.charts.mini import MiniChart, draw_mini_chart
from jobs.models import Job, Snapshot

MAX_RUNNING, MAX_WAITING, MAX_FINISHED, MAX_SNAPSHOTS = 4, 5, 6, 4
WAITING = (Job.Status.VALIDATING, Job.Status.QUEUED, Job.Status.STARTING)


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
    paused: list[Job]
    finished: list[Job]
    snapshots: list[Snapshot]
    headline: str

    @property
    def is_busy(self) -> bool:
        return bool(self.running or self.waiting or self.paused)

    @property
    def seconds_until_next(self) -> float | None:
        """Returns the seconds until the first running job makes room for another one,
        or None when no running job's speed is known.
        """
        left = [wording.seconds_left(running.job) for running in self.running]
        known = [seconds for seconds in left if seconds is not None]
        return min(known, default=None)


def read_home() -> Home:
    jobs = Job.objects.order_by("queued_at", "pk")
    running = jobs.filter(status=Job.Status.RUNNING)
    waiting = jobs.filter(status__in=WAITING)
    paused = jobs.filter(status=Job.Status.PAUSED)
    return Home(
        running=[read_running(job) for job in running[:MAX_RUNNING]],
        waiting=list(waiting[:MAX_WAITING]),
        paused=list(paused[:MAX_WAITING]),
        finished=list(_finished()[:MAX_FINISHED]),
        snapshots=list(_snapshots()[:MAX_SNAPSHOTS]),
        headline=_headline(
            {
                "running": running.count(),
                "waiting": waiting.count(),
                "paused": paused.count(),
            }
        ),
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


def _headline(counts: dict[str, int]) -> str:
    """Returns, for example: One job is running and two are waiting. Three finished in
    the last 24 hours.
    """
    since = timezone.now() - timedelta(days=1)
    num_finished = Job.objects.filter(finished_at__gte=since).count()
    lately = f"{_number(num_finished)} finished in the last 24 hours."
    sentences = [_now(counts), lately.capitalize() if num_finished else ""]
    return " ".join(sentence for sentence in sentences if sentence)


def _now(counts: dict[str, int]) -> str:
    parts = [
        f"{_number(num)} {'is' if num == 1 else 'are'} {doing}"
        for doing, num in counts.items()
        if num
    ]
    if not parts:
        return "Nothing is running."
    num, rest = parts[0].split(" ", 1)
    parts[0] = f"{num.capitalize()} {'job' if rest.startswith('is') else 'jobs'} {rest}"
    return f"{get_text_list(parts, 'and')}."


def _number(num: int) -> str:
    return str(apnumber(num))

"""What the live page shows: the same parts on first load and in every update."""

from functools import lru_cache
from typing import Any

import psutil
from django.db.models import Q
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.safestring import SafeString

from finetune_site.common.wording import count
from jobs.engines.registry import engine_title
from jobs.history.advice import advice
from jobs.history.curves import (
    Point,
    best_point,
    read_points,
    read_validation,
    stride_of,
)
from jobs.history.film import (
    NEWEST_COLUMNS,
    Cell,
    next_step,
    read_cells,
    read_columns,
    read_film,
    read_prompts,
)
from jobs.history.log_lines import log_tail, read_log
from jobs.models import EngineSetting, Job, Snapshot

Update = dict[str, Any]

# Part → template. Each stands in an element with data-part on the page.
PARTS = {
    "status": "jobs/_status.html",
    "actions": "jobs/_actions.html",
    "progress": "jobs/_progress.html",
    "notice": "jobs/_notice.html",
    "stats": "jobs/_stats.html",
    "snapshots": "jobs/_snapshots.html",
}
SPARK_POINTS = 40
NEWEST_SNAPSHOTS = 5
MAX_MARKS = 8


def render_parts(job: Job, *, can_work: bool) -> dict[str, SafeString]:
    context = _context(job, can_work=can_work)
    return {name: _render(template, context) for name, template in PARTS.items()}


def first_load(job: Job, *, can_work: bool, all_columns: bool) -> dict[str, Any]:
    """The context of the whole page."""
    return {
        "job": job,
        "can_work": can_work,
        "title": page_title(job),
        "engine_title": engine_title(job.engine),
        "parts": render_parts(job, can_work=can_work),
        "film": read_film(job, newest=None) if all_columns else read_film(job),
        "log": read_log(job),
    }


def update(job: Job, *, after: int, can_work: bool) -> Update:
    """What changed since event `after`, small enough to send twice a second."""
    cells = read_cells(job, after)
    new_steps, changed = _new_snapshots(job, after)
    film = _film_update(job, cells, changed) if cells or changed else None
    return {
        "seq": job.last_seq,
        "step": job.step,
        "final": job.is_final,
        "title": page_title(job),
        "parts": render_parts(job, can_work=can_work),
        "film": film,
        "next": next_step(job),
        "log": _render("jobs/_log_lines.html", {"log": read_log(job, after)}),
        "announce": _announcement(new_steps),
    }


def page_title(job: Job) -> str:
    if job.status == Job.Status.RUNNING and job.step:
        return f"Step {count(job.step)} of {count(job.total_steps)} · {job.name}"
    return f"{job.name} · {Job.Status(job.shown_status).label}"


def _render(template: str, context: dict[str, Any]) -> SafeString:
    return SafeString(render_to_string(template, context).strip())


def _film_update(job: Job, cells: list[Cell], snapshot_steps: set[int]) -> Update:
    """New cells, and the heads of the columns that they or snapshots change."""
    steps = {cell.step for cell in cells} | snapshot_steps
    return {
        "rows": [
            _render("jobs/_film_prompt.html", {"prompt": prompt})
            for prompt in read_prompts(job)
        ],
        "heads": [
            {
                "step": column.step,
                "html": _render("jobs/_film_step.html", {"column": column}),
            }
            for column in read_columns(job, sorted(steps))
        ],
        "cells": [
            {
                "row": cell.row,
                "step": cell.step,
                "html": _render("jobs/_film_cell.html", {"cell": cell}),
            }
            for cell in cells
        ],
    }


def _new_snapshots(job: Job, after: int) -> tuple[list[int], set[int]]:
    """Their steps, and the columns they change: a best takes another's mark."""
    snapshots = job.events.filter(type="snapshot").order_by("seq")
    steps = list(snapshots.filter(seq__gt=after).values_list("step", flat=True))
    if not steps:
        return [], set()
    marked = snapshots.filter(seq__lte=after, data__best=True)
    former = marked.values_list("step", flat=True).last()
    return steps, {*steps[-NEWEST_COLUMNS:], *([] if former is None else [former])}


def _announcement(new_steps: list[int]) -> str:
    """For a screen reader: new snapshots, never each step."""
    if not new_steps:
        return ""
    return f"The snapshot of step {count(new_steps[-1])} is ready."


def _context(job: Job, *, can_work: bool) -> dict[str, Any]:
    snapshots = list(job.snapshots.order_by("-step"))
    best = next((snapshot for snapshot in snapshots if snapshot.best), None)
    away = is_out_of_reach(job)
    return {
        "job": job,
        "can_work": can_work,
        "away": away,
        **_progress(job, away=away),
        "tail": _tail(job),
        "marks": _marks(job, best),
        "snapshots": _newest_and_best(snapshots),
        "num_snapshots": len(snapshots),
        "best": best,
        "last": snapshots[0] if snapshots else None,
        "next_snapshot": None if away else _next_snapshot(job),
        **_readings(job),
    }


def _tail(job: Job) -> str:
    """The end of the trainer's log, unless the status message quotes it already."""
    if job.status != Job.Status.FAILED:
        return ""
    tail = log_tail(job)
    return "" if tail in job.status_message else tail


def _advice(job: Job, validation: list[Point]) -> dict[str, str] | None:
    """Its first sentence is the heading; `help` is where Help says more."""
    found = advice(job, validation)
    if found is None:
        return None
    title, _, text = found.text.partition(". ")
    overfitting = found.text.startswith("Validation")
    topic = "overfitting" if overfitting else "learning-rate"
    return {"title": f"{title}.", "text": text, "help": topic}


def is_out_of_reach(job: Job) -> bool:
    """Whether nothing is heard of a running job, since its engine does not answer."""
    if job.status != Job.Status.RUNNING:
        return False
    silent = EngineSetting.objects.filter(name=job.engine).exclude(trouble="")
    return silent.exists()


def _progress(job: Job, *, away: bool) -> dict[str, Any]:
    ahead = num_ahead(job) if job.shown_status == Job.Status.QUEUED else 0
    speed = job.seconds_per_step
    end = job.finished_at or timezone.now()
    started = job.started_at
    return {
        "ahead": ahead,
        "badge_text": _badge_text(job, ahead, away=away),
        "elapsed": (end - started).total_seconds() if started else None,
        "progress_label": f"Step {count(job.step)} of {count(job.total_steps)}",
        "steps_per_second": 1 / speed if speed else None,
    }


def num_ahead(job: Job) -> int:
    """Jobs that its engine runs, or will run, before this one."""
    jobs = Job.objects.filter(engine=job.engine).exclude(pk=job.pk)
    earlier = Q(status=Job.Status.QUEUED, queued_at__lt=job.queued_at or timezone.now())
    if job.status == Job.Status.STARTING:
        return 0
    return jobs.filter(Q(status__in=Job.LIVE) | earlier).count()


def _badge_text(job: Job, ahead: int, *, away: bool) -> str:
    """Empty where the status says it all."""
    if not job.is_final and job.want == Job.Want.STOP:
        return "Stopping"
    if job.is_live and job.want == Job.Want.PAUSE:
        return "Pausing"
    if away:
        return f"Waiting for {job.engine}"
    return f"Queued, position {ahead}" if ahead else ""


def _newest_and_best(snapshots: list[Snapshot]) -> list[Snapshot]:
    return snapshots[:NEWEST_SNAPSHOTS] + [
        snapshot for snapshot in snapshots[NEWEST_SNAPSHOTS:] if snapshot.best
    ]


def _next_snapshot(job: Job) -> tuple[int, float | None] | None:
    """Its step, and in how many seconds it comes."""
    if job.status != Job.Status.RUNNING or job.step >= job.total_steps:
        return None
    every = job.settings.snapshots_every or job.total_steps
    step = min((job.step // every + 1) * every, job.total_steps)
    speed = job.seconds_per_step
    return step, (step - job.step) * speed if speed else None


def _marks(job: Job, best: Snapshot | None) -> list[dict[str, Any]]:
    """Where snapshots lie on the progress bar: at most MAX_MARKS, and the best."""
    every = job.settings.snapshots_every
    if not every or job.total_steps <= every:
        return []
    stride = every * -(-job.total_steps // (every * MAX_MARKS))
    # The outer ones would hang over the end of the bar.
    steps = set(range(stride, round(job.total_steps * 0.97), stride))
    if best and best.step < job.total_steps * 0.97:
        steps = {step for step in steps if abs(step - best.step) >= stride} | {
            best.step
        }
    return [
        {
            "percent": f"{100 * step / job.total_steps:.2f}",
            "step": step,
            "best": best is not None and step == best.step,
        }
        for step in sorted(steps)
    ]


def _readings(job: Job) -> dict[str, Any]:
    stride = stride_of(job, SPARK_POINTS)
    points = _thinned(job.uid, stride, job.step // stride)
    validation = read_validation(job)
    train = points["loss"]
    first = train[0].value if train else None
    latest = job.train_loss
    return {
        "advice": _advice(job, validation),
        "train_loss": latest,
        "fall": 1 - latest / first if latest and first else None,
        "best_validation": best_point(validation) if validation else None,
        # Another server does not say how much it has.
        "total_memory": 0 if job.far_uid else psutil.virtual_memory().total,
        "engine_name": job.engine,
        "sparks": {
            "train": spark(train),
            "validation": spark(validation),
            "speed": spark(points["tokens_per_second"]),
            "memory": spark(points["memory_bytes"]),
        },
    }


@lru_cache(maxsize=64)
def _thinned(uid: str, stride: int, num_strides: int) -> dict[str, list[Point]]:
    """Thinning reads every step, so it is done when there is a new point to see."""
    job = Job.objects.get(uid=uid)
    return read_points(job, ("loss", "tokens_per_second", "memory_bytes"), SPARK_POINTS)


def spark(points: list[Point]) -> str:
    """The path of a sparkline in a box of 60 by 24; empty for fewer than two points."""
    if len(points) < 2:
        return ""
    stride = -(-len(points) // SPARK_POINTS)
    values = [point.value for point in points[::stride]]
    low, high = min(values), max(values)
    span = (high - low) or 1
    width = max(len(values) - 1, 1)
    pairs = (
        f"{60 * i / width:.1f} {22 - 20 * (value - low) / span:.1f}"
        for i, value in enumerate(values)
    )
    return "M" + " ".join(pairs)

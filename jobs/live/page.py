"""Renders the live page: the same parts on first load and in every update."""

from typing import Any

import psutil
from django.template.loader import render_to_string
from django.utils.safestring import SafeString

from datasets.models import DatasetVersion
from finetune_site.common.wording import count
from jobs.charts.sparks import draw_spark, read_spark_points
from jobs.engines.registry import engine_title
from jobs.history.advice import advice
from jobs.history.curves import best_point, read_validation
from jobs.history.film import (
    MAX_NEWEST_COLUMNS,
    Cell,
    next_step,
    read_cells,
    read_columns,
    read_film,
    read_prompts,
)
from jobs.history.log_lines import log_tail, read_log
from jobs.live.progress import is_out_of_reach, read_progress, snapshot_marks
from jobs.models import Job, Snapshot

Update = dict[str, Any]

# Each part stands in an element of the page whose data-part is its name.
PARTS = {
    "status": "jobs/_status.html",
    "actions": "jobs/_actions.html",
    "progress": "jobs/_progress.html",
    "notice": "jobs/_notice.html",
    "stats": "jobs/_stats.html",
    "snapshots": "jobs/_snapshots.html",
}
MAX_NEWEST_SNAPSHOTS = 5


def render_parts(job: Job, *, can_work: bool) -> dict[str, SafeString]:
    """Returns the HTML of each part in PARTS."""
    context = _context(job, can_work=can_work)
    return {name: _render(template, context) for name, template in PARTS.items()}


def first_load(job: Job, *, can_work: bool, all_columns: bool) -> dict[str, Any]:
    """Returns the context of the whole page."""
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
    """Returns what changed since event `after`.

    It is small enough to be sent twice a second.
    """
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
    """Returns the title of the page, which the browser's tab shows."""
    if job.status == Job.Status.RUNNING and job.step:
        return f"Step {count(job.step)} of {count(job.total_steps)} · {job.name}"
    return f"{job.name} · {Job.Status(job.shown_status).label}"


def _render(template: str, context: dict[str, Any]) -> SafeString:
    return SafeString(render_to_string(template, context).strip())


def _film_update(job: Job, cells: list[Cell], snapshot_steps: set[int]) -> Update:
    """Returns new cells, and the heads of the columns that they or snapshots change."""
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
    """Returns the steps of new snapshots, and the columns that they change.

    A best snapshot takes the mark of another one, whose column changes too.
    """
    snapshots = job.told_events.filter(type="snapshot").order_by("seq")
    steps = list(snapshots.filter(seq__gt=after).values_list("step", flat=True))
    if not steps:
        return [], set()
    marked = snapshots.filter(seq__lte=after, data__best=True)
    former = marked.values_list("step", flat=True).last()
    return steps, {*steps[-MAX_NEWEST_COLUMNS:], *([] if former is None else [former])}


def _announcement(new_steps: list[int]) -> str:
    """Returns what a screen reader says: new snapshots, never each step."""
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
        **read_progress(job, away=away),
        "tail": _tail(job),
        "weightless": _weightless(job),
        "marks": snapshot_marks(job, best),
        "snapshots": _newest_and_best(snapshots),
        "num_snapshots": len(snapshots),
        "best": best,
        "last": snapshots[0] if snapshots else None,
        **_readings(job),
    }


def _tail(job: Job) -> str:
    """Returns the end of the trainer's log, unless the status message quotes it."""
    if job.status != Job.Status.FAILED:
        return ""
    tail = log_tail(job)
    return "" if tail in job.status_message else tail


def _weightless(job: Job) -> DatasetVersion | None:
    """Returns what a failed job had to learn or measure, if all of it has weight 0."""
    if job.status != Job.Status.FAILED:
        return None
    versions = filter(None, (job.dataset_version, job.validation_version))
    return next((version for version in versions if version.teaches_nothing), None)


def _newest_and_best(snapshots: list[Snapshot]) -> list[Snapshot]:
    return snapshots[:MAX_NEWEST_SNAPSHOTS] + [
        snapshot for snapshot in snapshots[MAX_NEWEST_SNAPSHOTS:] if snapshot.best
    ]


def _readings(job: Job) -> dict[str, Any]:
    points = read_spark_points(job)
    validation = read_validation(job)
    train = points["loss"]
    first = train[0].value if train else None
    latest = job.train_loss
    return {
        "advice": advice(job, validation),
        "train_loss": latest,
        "fall": 1 - latest / first if latest and first else None,
        "best_validation": best_point(validation) if validation else None,
        # Another server does not say how much it has.
        "total_memory": 0 if job.far_uid else psutil.virtual_memory().total,
        "engine_name": job.engine,
        "sparks": {
            "train": draw_spark(train),
            "validation": draw_spark(validation),
            "speed": draw_spark(points["tokens_per_second"]),
            "memory": draw_spark(points["memory_bytes"]),
        },
    }

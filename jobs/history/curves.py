"""Reads what a job's events say about its course, thinned to what a screen shows."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import F, Q

from jobs.models import Job

MAX_CURVE_POINTS = 1500
# The share of the past in each point of a smoothed line.
SMOOTHING = 0.8
MEASURES = ("loss", "learned_loss", "lr", "tokens_per_second", "memory_bytes")


@dataclass(frozen=True)
class Point:
    """A value at a step."""

    step: int
    value: float


@dataclass(frozen=True)
class Curves:
    """Everything the figures draw. `points` holds one list for each measure."""

    points: dict[str, list[Point]]
    validation: list[Point]
    snapshot_steps: list[int]


def read_points(
    job: Job, measures: tuple[str, ...] = MEASURES, max_points: int = MAX_CURVE_POINTS
) -> dict[str, list[Point]]:
    """Returns the values of each measure, thinned to about `max_points` steps.

    The steps are evenly apart; the first and the last one are always among them.
    """
    stride = stride_of(job, max_points)
    events = job.told_events.filter(type="step")
    if stride > 1:
        events = events.alias(rest=F("step") % stride).filter(
            Q(rest=0) | Q(step__in=[1, job.step])
        )
    rows = list(events.values_list("step", "data"))
    return {name: _points(rows, name) for name in measures}


def stride_of(job: Job, max_points: int) -> int:
    """Returns how many steps there are to a point, if `max_points` are shown."""
    return math.ceil(max(job.step, 1) / max_points)


def read_curves(job: Job) -> Curves:
    """Returns all that the figures of a job draw."""
    return Curves(
        points=read_points(job),
        validation=read_validation(job),
        snapshot_steps=sorted(job.snapshots.values_list("step", flat=True)),
    )


def read_validation(job: Job) -> list[Point]:
    """Returns the validation losses, thinned to about MAX_CURVE_POINTS."""
    events = job.told_events.filter(type="validation")
    points = _points(list(events.values_list("step", "data")), "loss")
    stride = math.ceil(len(points) / MAX_CURVE_POINTS)
    if stride <= 1:
        return points
    return [*points[:-1:stride], points[-1]]


def best_point(points: Sequence[Point]) -> Point:
    """Returns the point of the lowest value."""
    return min(points, key=lambda point: point.value)


def smoothed(points: Sequence[Point]) -> Iterator[Point]:
    """Yields a moving average that is not pulled towards 0 at its start."""
    total = weight = 0.0
    for point in points:
        total = SMOOTHING * total + point.value
        weight = SMOOTHING * weight + 1
        yield Point(point.step, total / weight)


def smoothed_on(last: float | None, value: float | None, num: int) -> float | None:
    """Returns the next point of `smoothed`, its number `num`, from the last one."""
    if last is None or value is None:
        return last if value is None else value
    weight = (1 - SMOOTHING**num) / (1 - SMOOTHING)
    return (last * (weight - 1) + value) / weight


def _points(rows: list[tuple[int, dict[str, Any]]], name: str) -> list[Point]:
    """Returns the numbers of a measure, without losses that are not finite."""
    return [
        Point(step, float(value))
        for step, data in rows
        if isinstance(value := data.get(name), int | float) and math.isfinite(value)
    ]

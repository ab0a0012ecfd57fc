"""The sparklines beside the numbers of the live page, as SVG paths."""

from functools import lru_cache

from jobs.history.curves import Point, read_points, stride_of
from jobs.models import Job

MEASURES = ("loss", "tokens_per_second", "memory_bytes")
MAX_SPARK_POINTS = 40


def read_spark_points(job: Job) -> dict[str, list[Point]]:
    """Returns about MAX_SPARK_POINTS steps of each measure in MEASURES."""
    stride = stride_of(job, MAX_SPARK_POINTS)
    return _points_of(job.uid, stride, job.step // stride)


@lru_cache(maxsize=64)
def _points_of(uid: str, stride: int, num_strides: int) -> dict[str, list[Point]]:
    # Every step is read here. `num_strides` is in the key of the cache so that this
    # happens only when there is a new point.
    return read_points(Job.objects.get(uid=uid), MEASURES, MAX_SPARK_POINTS)


def draw_spark(points: list[Point]) -> str:
    """Returns a path in a box of 60 by 24, which is empty for fewer than two points."""
    if len(points) < 2:
        return ""
    stride = -(-len(points) // MAX_SPARK_POINTS)
    values = [point.value for point in points[::stride]]
    low, high = min(values), max(values)
    span = (high - low) or 1
    width = max(len(values) - 1, 1)
    pairs = (
        f"{60 * i / width:.1f} {22 - 20 * (value - low) / span:.1f}"
        for i, value in enumerate(values)
    )
    return "M" + " ".join(pairs)

"""Draws a job's loss so far as SVG paths, small enough for a card."""

from collections.abc import Sequence
from dataclasses import dataclass

from jobs.history.curves import Point, read_points, read_validation, smoothed
from jobs.models import Job

MAX_CARD_POINTS = 120


@dataclass(frozen=True)
class MiniChart:
    """Paths in a box of `width` by 100, and what they show in a sentence.

    Both `width` and `done` are steps: all of the job, and those it has done.
    """

    width: int
    done: int
    raw: str
    train: str
    validation: str
    label: str

    @property
    def done_percent(self) -> float:
        """How much of the box is done, in percent of its width."""
        return round(100 * self.done / self.width, 2)

    @property
    def ahead_percent(self) -> float:
        """How much of the box is still to come, in percent of its width."""
        return round(100 - self.done_percent, 2)


def draw_mini_chart(job: Job) -> MiniChart | None:
    """Returns the chart of a job, or None while there is no line to draw."""
    train = read_points(job, ("loss",), MAX_CARD_POINTS)["loss"]
    validation = read_validation(job)
    if len(train) < 2:
        return None
    smooth = list(smoothed(train))
    scale = _scale([*train, *validation])
    width = max(job.total_steps, train[-1].step)
    return MiniChart(
        width=width,
        done=min(job.step, width),
        raw=_path(train, *scale),
        train=_path(smooth, *scale),
        validation=_path(validation, *scale),
        label=_describe(train, validation),
    )


def _scale(points: Sequence[Point]) -> tuple[float, float]:
    values = [point.value for point in points]
    return min(values), (max(values) - min(values)) or 1


def _path(points: Sequence[Point], lowest: float, span: float) -> str:
    """Returns a line whose heights go from 4 to 96, so that none lies on the frame."""
    pairs = (
        f"{point.step} {96 - 92 * (point.value - lowest) / span:.1f}"
        for point in points
    )
    line = " ".join(pairs)
    return f"M{line}" if line else ""


def _describe(train: Sequence[Point], validation: Sequence[Point]) -> str:
    first, last = train[0], train[-1]
    way = "fell" if last.value < first.value else "rose"
    text = (
        f"Train loss {way} from {first.value:.2f} to {last.value:.2f} "
        f"in {last.step:,} steps."
    )
    if validation:
        text += f" Validation loss is {validation[-1].value:.2f}."
    return text

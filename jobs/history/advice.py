"""Says in words the one thing that a person who watches a job should know."""

from dataclasses import dataclass
from typing import Literal

from jobs.history.curves import Point, best_point
from jobs.models import Job

# A section of the help page.
Topic = Literal["overfitting", "learning-rate"]


@dataclass(frozen=True)
class Advice:
    """What stands out in a job, with the numbers that show it, and what to do."""

    title: str
    text: str
    # Where the help page says more.
    topic: Topic
    step: int


def advice(job: Job, validation: list[Point]) -> Advice | None:
    """Returns what stands out in a job, or None if nothing does.

    `validation` holds the job's validation losses in the order of their steps.
    """
    return _validation_advice(validation) or _divergence_advice(job)


def _validation_advice(points: list[Point]) -> Advice | None:
    if len(points) < 4:
        return None
    best, last = best_point(points), points[-1]
    num_later = sum(point.step > best.step for point in points)
    # One or two worse measurements are noise.
    if num_later < 3 or last.value < best.value * 1.02:
        return None
    return Advice(
        title=f"Validation loss has risen for {last.step - best.step} steps, from "
        f"{best.value:.2f} to {last.value:.2f}; the best was step {best.step}.",
        text="What follows is learned by heart: use a snapshot from about there.",
        topic="overfitting",
        step=best.step,
    )


def _divergence_advice(job: Job) -> Advice | None:
    first, last = job.first_learned_loss, job.learned_loss
    if first is None or last is None or job.step < 20 or last < first * 1.3:
        return None
    gentler = job.settings.learning_rate_scale / 4
    return Advice(
        title=f"Learned loss is {last:.2f} at step {job.step}, above {first:.2f} at "
        "the beginning.",
        text=f"Try a learning-rate scale of {gentler:g}.",
        topic="learning-rate",
        step=job.step,
    )

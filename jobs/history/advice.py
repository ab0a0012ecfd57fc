"""What a person who watches a job should know: one thing, in words."""

from dataclasses import dataclass

from jobs.history.curves import Point, best_point
from jobs.models import Job


@dataclass(frozen=True)
class Advice:
    """One sentence about a job that names a step and a number."""

    text: str
    step: int


def advice(job: Job, validation: list[Point]) -> Advice | None:
    """What a person who watches the job should know; None when nothing stands out."""
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
        f"Validation loss has risen for {last.step - best.step} steps, from "
        f"{best.value:.2f} to {last.value:.2f}; the best was step {best.step}. "
        "What follows is learned by heart: use a snapshot from about there.",
        best.step,
    )


def _divergence_advice(job: Job) -> Advice | None:
    first, last = job.first_learned_loss, job.learned_loss
    if first is None or last is None or job.step < 20 or last < first * 1.3:
        return None
    gentler = job.settings.learning_rate_scale / 4
    return Advice(
        f"Learned loss is {last:.2f} at step {job.step}, above {first:.2f} at the "
        f"beginning. Try a learning-rate scale of {gentler:g}.",
        job.step,
    )

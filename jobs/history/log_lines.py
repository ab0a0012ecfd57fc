"""Writes the log of the live page: events as sentences, the newest first."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from finetune_site.common.wording import count, loss
from jobs.models import Event, Job

# The first load shows so many lines of each kind.
MAX_NEWEST_LINES = 100
MAX_TAIL_LINES = 12
MAX_TAIL_BYTES = 32_000


@dataclass(frozen=True)
class LogLine:
    """An event as a line of the log."""

    seq: int
    time: datetime
    level: str
    text: str
    # A minor line is shown with "Every step" only.
    minor: bool


def read_log(job: Job, after: int = 0) -> list[LogLine]:
    """Returns the newest lines, or those that are newer than event `after`."""
    events = job.told_events.filter(seq__gt=after).exclude(type="completion")
    if after:
        return to_lines(events.order_by("-seq")[: 2 * MAX_NEWEST_LINES])
    minor = events.filter(type__in=MINOR).order_by("-seq")[:MAX_NEWEST_LINES]
    others = events.exclude(type__in=MINOR).order_by("-seq")[:MAX_NEWEST_LINES]
    found = [*minor, *others]
    return to_lines(sorted(found, key=lambda event: event.seq, reverse=True))


def to_lines(events: Iterable[Event]) -> list[LogLine]:
    """Returns events as lines, in the same order."""
    return [
        LogLine(
            seq=event.seq,
            time=event.time,
            level=event.data.get("level", "info"),
            text=sentence(event),
            minor=event.type in MINOR,
        )
        for event in events
    ]


MINOR = ("step", "validation")


def sentence(event: Event) -> str:
    """Returns an event as a sentence."""
    write = SENTENCES.get(event.type)
    return write(event.step, event.data) if write else event.data.get("message", "")


def _step(step: int, data: dict[str, Any]) -> str:
    rate = f"{data['lr']:.2g}" if data.get("lr") is not None else "–"
    return (
        f"Step {count(step)}: train loss {loss(data.get('loss'))}, learning rate {rate}"
    )


def _validation(step: int, data: dict[str, Any]) -> str:
    return f"Step {count(step)}: validation loss {loss(data.get('loss'))}"


def _completion(step: int, data: dict[str, Any]) -> str:
    return f"Step {count(step)}: {data.get('prompt', '')}{data.get('text', '')}"


def _snapshot(step: int, data: dict[str, Any]) -> str:
    best = ", the best so far" if data.get("best") else ""
    return f"Step {count(step)}: snapshot {data.get('id', '')}{best}"


def _status(step: int, data: dict[str, Any]) -> str:
    status = str(data.get("status", ""))
    # Pages say what people did, and the job's status in the API is another word.
    word = "Stopped" if status == "cancelled" else status.capitalize()
    message = data.get("message")
    return f"{word}: {message}" if message else word


SENTENCES: dict[str, Callable[[int, dict[str, Any]], str]] = {
    "step": _step,
    "validation": _validation,
    "completion": _completion,
    "snapshot": _snapshot,
    "status": _status,
}


def log_tail(job: Job) -> str:
    """Returns the last lines that a trainer wrote to its log, or an empty text."""
    return "\n".join(read_log_end(job).split("\n")[-MAX_TAIL_LINES:])


def read_log_end(job: Job) -> str:
    """Returns what a trainer wrote to its log last, or an empty text."""
    try:
        with (job.folder / "trainer.log").open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - MAX_TAIL_BYTES))
            return file.read().decode(errors="replace").rstrip("\n")
    except FileNotFoundError:
        return ""

"""Tells a job's events in words, in as many as somebody wants."""

from enum import IntEnum
from typing import Any

from finetune_site.common.wording import count, loss
from jobs.cli.text import indented, one_line

PROMPT_CHARACTERS = 120
INDENT = "    "

Event = dict[str, Any]


class Verbosity(IntEnum):
    """How much is told. Each level has all of the level before it too."""

    # Snapshots, and how the job ended.
    QUIET = 0
    # Completions, warnings, and the loss now and then.
    NORMAL = 1
    # Validations and the trainer's log.
    MORE = 2
    # Every step, and the calls of the API.
    ALL = 3


def event_text(event: Event, verbosity: int) -> str:
    """Returns one or several lines about an event of a run folder's events.jsonl.

    The text is empty if the event matters too little for `verbosity`.
    """
    match event.get("type"):
        case "snapshot":
            best = " (the best so far)" if event.get("best") else ""
            return f"Created snapshot {one_line(str(event.get('id')), 300)}{best}"
        case "completion" if verbosity >= Verbosity.NORMAL:
            return _completion(event)
        case "autopilot" if verbosity >= Verbosity.NORMAL:
            return _message(event)
        case "log" if verbosity >= _least_verbosity(event):
            return _message(event)
        case "validation" if verbosity >= Verbosity.MORE:
            return f"Step {_step(event)}: validation loss {loss(event.get('loss'))}"
        case "step" if verbosity >= Verbosity.ALL:
            return f"Step {_step(event)}: train loss {loss(event.get('loss'))}"
        case "status" if event.get("status") == "paused":
            return f"Paused. {_message(event)}".rstrip()
    return ""


def worth_catching_up(events: list[Event]) -> list[Event]:
    """Returns the events that are told of a job that has run for a while.

    They are all snapshots and settings that were changed, and the last completions.
    """
    kept = [event for event in events if event.get("type") in {"snapshot", "autopilot"}]
    completions = [event for event in events if event.get("type") == "completion"]
    if completions:
        last = completions[-1].get("step")
        kept += [event for event in completions if event.get("step") == last]
    return sorted(kept, key=lambda event: event.get("seq", 0))


def _completion(event: Event) -> str:
    prompt = one_line(str(event.get("prompt") or ""), PROMPT_CHARACTERS)
    text = indented(str(event.get("text") or "").strip(), INDENT)
    asked = f"{prompt} → " if prompt else ""
    return f"Step {_step(event)}: {asked}{text}"


def _step(event: Event) -> str:
    return count(event.get("step") or 0)


def _message(event: Event) -> str:
    return indented(str(event.get("message") or ""), INDENT)


def _least_verbosity(event: Event) -> Verbosity:
    return Verbosity.MORE if event.get("level") == "info" else Verbosity.NORMAL

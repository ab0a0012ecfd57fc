"""[torch] How a start of the trainer ends when it does not reach the last step."""

import logging
import shutil
from typing import Any

from jobs.trainer.autopilot import Trouble, disk_words, is_disk_full
from jobs.trainer.compute.model import ModelError
from jobs.trainer.compute.out_of_memory import is_out_of_memory
from jobs.trainer.contract.events import EventWriter
from jobs.trainer.contract.runfolder import RunFolder
from jobs.trainer.contract.spec import SpecError
from jobs.trainer.contract.wishes import Leave
from jobs.trainer.prepare import ReplacedError
from jobs.trainer.rows.token_cache import DatasetError
from jobs.trainer.text.encoding import TokenizerError

# A part of the job cannot be used: its spec, dataset, tokenizer or model. The messages
# are for people.
REFUSALS = (SpecError, DatasetError, TokenizerError, ModelError)

Status = dict[str, Any]

logger = logging.getLogger(__name__)


def ending_of(error: Exception, events: EventWriter | None) -> Status | None:
    """Returns the status with which an error ends this start of the trainer.

    An empty status means that the job keeps the status it has. None means that the
    error is a bug.
    """
    if isinstance(error, Leave):
        return _left(error)
    if isinstance(error, ReplacedError):
        # `forced` tells the site that nobody asked for the pause, so it stays a pause.
        return {"status": "paused", "message": str(error), "forced": True}
    if isinstance(error, (*REFUSALS, Trouble)):
        return {"status": "failed", "message": str(error)}
    if is_disk_full(error):
        return {"status": "paused", "message": disk_words(error), "forced": True}
    if is_out_of_memory(error):
        return _without_memory(events)
    return None


def _left(leave: Leave) -> Status:
    statuses = {"pause": "paused", "stop": "cancelled"}
    if leave.wish not in statuses:
        return {}
    return {"status": statuses[leave.wish], "message": ""}


def _without_memory(events: EventWriter | None) -> Status:
    """Returns the status when the memory was full before a step could begin.

    Fewer rows at once would not help here.
    """
    if events is not None and events.last_step:
        return {
            "status": "paused",
            "forced": True,
            "message": (
                "There is too little memory to load the job again. Nothing is lost: "
                "end other programs on its machine, then let the job go on."
            ),
        }
    return {
        "status": "failed",
        "message": (
            "The memory does not hold the model and its training. End other programs "
            "on the machine, or start again with LoRA or with a smaller base model."
        ),
    }


def say_ending(folder: RunFolder, events: EventWriter | None, ending: Status) -> int:
    """Writes the status as an event; returns the exit code of the process."""
    if not ending:
        return 0
    # The disk may be full, and the reserve makes room for these words.
    folder.give_reserve()
    try:
        events = events or EventWriter(folder.events)
        events.write("status", **ending)
        events.sync()
    except OSError as error:
        logger.error("%s (It could not be written: %s.)", ending["message"], error)
        return 1
    if ending["status"] == "cancelled":
        remove_checkpoint(folder)
    return 1 if ending["status"] == "failed" else 0


def remove_checkpoint(folder: RunFolder) -> None:
    """Removes all checkpoints of a job that is over."""
    shutil.rmtree(folder.checkpoint, ignore_errors=True)

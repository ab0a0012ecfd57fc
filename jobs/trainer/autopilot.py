"""[torch] What the trainer does by itself when there is trouble, and how it says so."""

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path

from jobs.trainer.contract.events import EventWriter
from jobs.trainer.contract.runfolder import Numerics, RunFolder
from jobs.trainer.processes.ranks import StartAgain
from jobs.trainer.rows.memory import less_memory_words, with_less_memory

# This much stays free on the disk, for the database and for other programs.
DISK_RESERVE_BYTES = 200_000_000
# EFBIG means that a file has reached a size limit. For a job that is the same trouble.
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Trouble(Exception):
    """Ends the job as failed. The message is for people."""


def take_less_memory(
    folder: RunFolder, events: EventWriter, numerics: Numerics, step: int, rows: int
) -> None:
    """Makes the job go on with less memory: always raises.

    `rows` is the number of rows that went through the model at once when the memory was
    full. The step learns from the same rows afterwards, only fewer at a time. Raises
    StartAgain, or Trouble when the job cannot take less memory.
    """
    less = with_less_memory(numerics, rows)
    if less is None:
        raise Trouble(
            f"The memory does not hold even one row at step {step:,}. Start again "
            "with fewer max tokens, with LoRA, or with a smaller base model."
        )
    # In this order, because the next start tells a change that was not told yet.
    folder.write_numerics(less)
    say_less_memory(events, less, step, f"The memory was full at step {step:,}.")
    raise StartAgain


def say_less_memory(
    events: EventWriter, numerics: Numerics, step: int, why: str
) -> None:
    """Writes the event that says with how much less memory the job goes on.

    `why` is a sentence that says what happened.
    """
    events.write(
        "autopilot",
        step=step,
        micro_batch=numerics.micro_batch,
        checkpointing=numerics.checkpointing,
        message=(
            f"{why} The job goes back to its last checkpoint, and on from there with "
            f"{less_memory_words(numerics)}."
        ),
    )


def meet_memory_note(
    folder: RunFolder, events: EventWriter, numerics: Numerics
) -> None:
    """Handles the note that a process left when its memory was full, if there is one.

    Raises StartAgain when the numerics change, and Trouble when nothing is left to do.
    """
    note = folder.read_full()
    if note is None:
        return
    try:
        if numerics.micro_batch >= note.rows:
            take_less_memory(folder, events, numerics, note.step, note.rows)
    finally:
        folder.full.unlink()


def halve_rate(
    folder: RunFolder, events: EventWriter, numerics: Numerics, step: int, what: str
) -> None:
    """Halves the learning rate and sends the job back to its last checkpoint.

    `what` says what became infinite or not a number, such as "The loss became nan".
    Raises StartAgain the first time and Trouble the second time.
    """
    if numerics.rate_share < 1:
        raise Trouble(
            f"{what} at step {step:,}, also with half the learning rate. Start again "
            "from the last snapshot with a learning-rate scale of a tenth, and look "
            "for broken examples in the dataset. If it is so from the first step on, "
            "the weights that the job starts from may be broken."
        )
    events.write(
        "autopilot",
        step=step,
        message=(
            f"{what} at step {step:,}. The job goes back to its last checkpoint and on "
            "from there with half the learning rate. Up to this step the chart goes on "
            "showing the first try."
        ),
    )
    folder.write_numerics(replace(numerics, rate_share=0.5))
    raise StartAgain


def check_disk(folder: Path, needed_bytes: int, what: str) -> None:
    """Raises OSError, as a full disk does, unless `needed_bytes` and a reserve fit."""
    free = shutil.disk_usage(folder).free
    if free < needed_bytes + DISK_RESERVE_BYTES:
        raise OSError(
            errno.ENOSPC,
            f"a {what} takes {needed_bytes / 1e6:,.0f} MB, and {free / 1e6:,.0f} MB of "
            "the disk are free",
        )


def is_disk_full(error: BaseException) -> bool:
    """Returns whether the error says that the disk is full.

    Libraries such as safetensors put the system's words into an error of their own, so
    those words count too.
    """
    if isinstance(error, OSError):
        return error.errno in DISK_FULL
    return any(os.strerror(number) in str(error) for number in DISK_FULL)


def disk_words(error: BaseException) -> str:
    """Returns the message for people about a full disk."""
    what = error.strerror if isinstance(error, OSError) else error
    return (
        f"There is too little room on the disk ({what}). Nothing is lost: make room, "
        "then let the job go on."
    )

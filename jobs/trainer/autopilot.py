"""[torch] What the trainer does about trouble by itself, and says in plain words."""

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path

from jobs.trainer.contract.events import EventWriter
from jobs.trainer.contract.runfolder import Numerics, RunFolder
from jobs.trainer.processes.ranks import StartAgain
from jobs.trainer.rows.memory import less_memory_words, with_less_memory

# Left free on the disk, for the database and everybody else.
DISK_RESERVE_BYTES = 200_000_000
# A file may not grow beyond some limit: to a job it is the same.
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Trouble(Exception):
    """Ends the job as failed. The message is for people."""


def take_less_memory(
    folder: RunFolder, events: EventWriter, numerics: Numerics, step: int, rows: int
) -> None:
    """Do the step another way, of which it stays the same step. Raises StartAgain.

    `rows` went through at once. Raises Trouble when nothing is left to do.
    """
    less = with_less_memory(numerics, rows)
    if less is None:
        raise Trouble(
            f"The memory does not hold even one row at step {step:,}. Start again "
            "with fewer max tokens, with LoRA, or with a smaller base model."
        )
    # In this order: a change that was not told is told at the next start.
    folder.write_numerics(less)
    say_less_memory(events, less, step, f"The memory was full at step {step:,}.")
    raise StartAgain


def say_less_memory(
    events: EventWriter, numerics: Numerics, step: int, why: str
) -> None:
    """`why`: a sentence."""
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
    """Meet the note that a process left when its memory was full."""
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
    """Once: back to the last checkpoint with half the rate. Raises StartAgain.

    `what` became no number after all, such as "The loss became nan". Raises Trouble
    the second time.
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
    """Raises OSError, as the disk would, unless there is room and some to spare."""
    free = shutil.disk_usage(folder).free
    if free < needed_bytes + DISK_RESERVE_BYTES:
        raise OSError(
            errno.ENOSPC,
            f"a {what} takes {needed_bytes / 1e6:,.0f} MB, and {free / 1e6:,.0f} MB of "
            "the disk are free",
        )


def is_disk_full(error: BaseException) -> bool:
    """Also as libraries report it that put the system's words into an error of theirs,
    as safetensors does.
    """
    if isinstance(error, OSError):
        return error.errno in DISK_FULL
    return any(os.strerror(number) in str(error) for number in DISK_FULL)


def disk_words(error: BaseException) -> str:
    what = error.strerror if isinstance(error, OSError) else error
    return (
        f"There is too little room on the disk ({what}). Nothing is lost: make room, "
        "then let the job go on."
    )

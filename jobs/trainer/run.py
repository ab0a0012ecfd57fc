"""[torch] A start of the trainer, from its first look at the run folder to its exit."""

import gc
import logging
import os
import signal
import time
from pathlib import Path
from threading import Event

from jobs.trainer.contract.events import EventWriter, last_status, read_events
from jobs.trainer.contract.runfolder import LOCK_FD, RunFolder
from jobs.trainer.endings import REFUSALS, ending_of, remove_checkpoint, say_ending
from jobs.trainer.processes.launch import FAREWELL_SECONDS, is_first, join
from jobs.trainer.processes.ranks import FirstFailed, Ranks, StartAgain
from jobs.trainer.trainer import Trainer

FINAL = {"succeeded", "failed", "cancelled"}

logger = logging.getLogger(__name__)


def run(path: Path) -> int:
    """Train the job of a run folder to its end, or go on with it.

    Returns the exit code: 0 when the job ended as people wanted, paused included. Of
    several processes each one runs it, and only the first one writes.
    """
    folder = RunFolder(path)
    if not is_first():
        return _run_along(folder)
    if LOCK_FD in os.environ:
        # Whoever started this process holds it, through this process too.
        return _run_locked(folder)
    lock = folder.take_lock()
    if lock is None:
        logger.error("Another trainer is at work in %s", path)
        return 1
    try:
        return _run_locked(folder)
    finally:
        os.close(lock)


def _run_locked(folder: RunFolder) -> int:
    told_to_leave = Event()
    signal.signal(signal.SIGTERM, lambda *_: told_to_leave.set())
    events = None
    try:
        folder.take_reserve()
        events = EventWriter(folder.events)
        if events.last_status not in FINAL:
            _train(folder, events, join(folder), told_to_leave)
    except Exception as error:
        ending = ending_of(error, events)
        if ending is None:
            # A bug: the log keeps where, and who started this process goes on.
            raise
        return say_ending(folder, events, ending)
    finally:
        folder.give_reserve()
    if events.last_status in FINAL:
        # It may have been killed in between.
        remove_checkpoint(folder)
    return 0


def _run_along(folder: RunFolder) -> int:
    """All that the first process does, without its files."""
    # The first one says when to leave.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if last_status(read_events(folder.events)[0]) in FINAL:
        return 0
    events = EventWriter(Path(os.devnull))
    try:
        _train(folder, events, join(folder), Event())
    except FirstFailed:
        return 0
    except REFUSALS:
        # The first one fails with the same, and says so.
        time.sleep(FAREWELL_SECONDS)
    return 0


def _train(
    folder: RunFolder, events: EventWriter, ranks: Ranks, told_to_leave: Event
) -> None:
    while True:
        try:
            Trainer(folder, events, ranks, told_to_leave).train()
            return
        except StartAgain:
            pass
        except (RuntimeError, MemoryError):
            # Failing for want of another process. Who started them knows why it is
            # gone, and ends this one or starts it over in a moment.
            if ranks.size > 1:
                time.sleep(FAREWELL_SECONDS)
            raise
        # What the last try held, cycles hold on to, and memory may not hold it twice.
        gc.collect()

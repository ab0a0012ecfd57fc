"""[torch] One start of the trainer, from opening the run folder to the exit code."""

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
    """Trains the job of a run folder, from its beginning or from its last checkpoint.

    Returns the exit code, which is 0 when the job ended or paused as people wanted.
    Each process of a job calls this function, and only the first one writes files.
    """
    folder = RunFolder(path)
    if not is_first():
        return _run_along(folder)
    if LOCK_FD in os.environ:
        # The process that started this one holds the lock and has passed it on.
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
            # This is a bug. The log keeps the traceback, and the site starts again.
            raise
        return say_ending(folder, events, ending)
    finally:
        folder.give_reserve()
    if events.last_status in FINAL:
        # An earlier start may have been killed before it removed the checkpoint.
        remove_checkpoint(folder)
    return 0


def _run_along(folder: RunFolder) -> int:
    """Trains along with the first process, without writing files."""
    # The first process says when to leave.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if last_status(read_events(folder.events)[0]) in FINAL:
        return 0
    events = EventWriter(Path(os.devnull))
    try:
        _train(folder, events, join(folder), Event())
    except FirstFailed:
        return 0
    except REFUSALS:
        # The first process fails in the same way, and writes why.
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
            # Another process may be gone. The one that started them all knows why, and
            # in a moment it ends this process or starts all of them over.
            if ranks.size > 1:
                time.sleep(FAREWELL_SECONDS)
            raise
        # Reference cycles keep the last try's tensors alive, and the memory may not
        # hold them twice.
        gc.collect()

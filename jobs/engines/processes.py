"""Starts, finds and ends the trainer processes of this machine."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
from django.conf import settings

from finetune_site.common import lifeline
from finetune_site.common.secret import without_secrets
from jobs.trainer.contract.runfolder import LOCK_FD

ENVIRONMENT = {
    # Waiting threads give the core back soon, because the model server needs it too.
    "GOMP_SPINCOUNT": "2000",
    # Keeps freed tensors in the process, which saves a tenth of the time.
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "8589934592",
    "MALLOC_TOP_PAD_": "536870912",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
}


def trainer_argv(folder: Path) -> list[str]:
    """Returns the command line of a trainer, by which it is also found again."""
    return [sys.executable, "-m", "jobs.trainer", str(folder)]


def spawn_trainer(folder: Path, lock: int, log: Path) -> int:
    """Starts a trainer that outlives this process, and returns its process id.

    The trainer gets the lock open, so that it is held without a gap. Its standard error
    is appended to `log`.
    """
    environment = without_secrets(os.environ)
    environment.pop(lifeline.VARIABLE, None)
    # One folder for all trainers, so that what one has compiled serves the next.
    compiled = Path(settings.DATA_DIR) / "cache" / "compiled"
    environment["TORCHINDUCTOR_CACHE_DIR"] = str(compiled)
    with log.open("ab") as stderr:
        child = subprocess.Popen(
            trainer_argv(folder),
            cwd=settings.BASE_DIR,
            env={**environment, **ENVIRONMENT, LOCK_FD: str(lock)},
            pass_fds=(lock,),
            stdin=subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
            start_new_session=True,
        )
    # Until this process asks how the trainer ended, it stays in the process table.
    threading.Thread(target=child.wait, daemon=True).start()
    return child.pid


def all_trainers() -> Iterator[tuple[Path, psutil.Process]]:
    """Yields the run folder and the process of every living trainer.

    They are known by their command line, because a process id may belong to another
    process by now.
    """
    for process in psutil.process_iter(["cmdline", "status"]):
        ended = process.info["status"] == psutil.STATUS_ZOMBIE
        argv = process.info["cmdline"] or [""]
        folder = Path(argv[-1])
        if not ended and argv[1:] == trainer_argv(folder)[1:]:
            yield folder, process


def find_trainers(folder: Path) -> Iterator[psutil.Process]:
    """Yields the living trainers of a run folder."""
    return (process for found, process in all_trainers() if found == folder)


def running_folders(runs: Path) -> set[Path]:
    """Returns the run folders in `runs` that have a living trainer."""
    return {folder for folder, _ in all_trainers() if folder.parent == runs}


def end_trainers(folder: Path, *, force: bool) -> None:
    """Ends a run folder's trainers: with SIGTERM, or with SIGKILL if forced.

    The ranks of a job share the process group that the first of them leads, and which
    is signalled as one. A trainer that somebody's script started is in the group of
    that script, and is signalled alone.
    """
    number = signal.SIGKILL if force else signal.SIGTERM
    pids = {process.pid for process in find_trainers(folder)}
    for pid in pids:
        with suppress(ProcessLookupError):
            if os.getpgid(pid) == pid:
                os.killpg(pid, number)
            elif os.getpgid(pid) not in pids:
                os.kill(pid, number)

"""Has base models that were added tried before anybody trains from them."""

import fcntl
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings
from django_q.brokers import get_broker
from django_q.tasks import async_task

from datasets.services.versions import TASK_SECONDS
from finetune_site.common import lifeline
from finetune_site.common.secret import without_secrets
from finetune_site.common.wording import about
from jobs.base_models.registry import folder_names
from jobs.base_models.trials import TRIALS, keep_result
from jobs.engines.processes import ENVIRONMENT
from jobs.selectors.base_models import base_models, models_dir
from jobs.trainer.contract.folder_stamp import folder_stamp

logger = logging.getLogger(__name__)

TRIAL_ARGV = ["-m", "jobs.trainer.model_trial"]
TRIAL_SECONDS = 600
# Who ends a process with these says nothing about the model that it tried.
ENDED_FROM_OUTSIDE = {-signal.SIGTERM, -signal.SIGKILL, -signal.SIGINT}


def models_on_trial() -> list[Path]:
    """Returns the folders of models that are whole, and were not tried yet."""
    found = (model for model in base_models() if model.is_on_trial(models_dir()))
    return [model.folder(models_dir()) for model in found]


def ask_for_trials() -> bool:
    """Has the worker try new models. Returns whether it was asked to.

    The watcher calls this every few seconds.
    """
    if not models_on_trial() or get_broker().queue_size():
        return False
    async_task("jobs.tasks.try_models", timeout=TASK_SECONDS, save=False)
    return True


def try_models() -> None:
    """Tries all new models, one after the other."""
    with _only_one() as is_mine:
        if not is_mine:
            return
        _forget_removed()
        for folder in models_on_trial():
            try_and_keep(folder)


def try_and_keep(folder: Path) -> None:
    """Tries the model of a folder, and notes what came of it."""
    stamp = folder_stamp(folder)
    fault = _fault_by_trial(folder)
    if fault is not None:
        keep_result(folder, stamp, fault)


def _fault_by_trial(folder: Path) -> str | None:
    """Returns what is wrong, "" for nothing, or None if the trial did not end."""
    environment = {**without_secrets(os.environ), **ENVIRONMENT}
    environment.pop(lifeline.VARIABLE, None)
    try:
        trial = subprocess.run(
            [sys.executable, *TRIAL_ARGV, str(folder)],
            cwd=settings.BASE_DIR,
            # Its GPUs are for jobs and answers.
            env={**environment, "CUDA_VISIBLE_DEVICES": ""},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TRIAL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return (
            f"It was tried for {about(TRIAL_SECONDS)}, and came to no end. A size "
            "in its config.json may be wrong; copy the file again."
        )
    if trial.returncode in ENDED_FROM_OUTSIDE:
        return None
    try:
        return str(json.loads(trial.stdout))
    except ValueError:
        logger.warning("The trial of %s: %s", folder.name, trial.stderr[-2000:])
        return (
            f"It was tried, and ended the process (exit code {trial.returncode}). The "
            "site's log has the details; copy the files again."
        )


@contextmanager
def _only_one() -> Iterator[bool]:
    """Yields whether no other process tries models meanwhile."""
    place = models_dir() / TRIALS
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (place / "lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_mine = True
        except BlockingIOError:
            is_mine = False
        yield is_mine


def _forget_removed() -> None:
    names = set(folder_names(models_dir()))
    for kept in (models_dir() / TRIALS).glob("*.json"):
        if kept.stem not in names:
            kept.unlink(missing_ok=True)

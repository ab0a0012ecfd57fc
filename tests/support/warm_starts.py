"""Starts trainers from a process that has imported their code already.

Importing torch and transformers takes seconds of a core, which each trainer of a test
would need anew. What is forked then runs as `python -m MODULE RUN_FOLDER` does.
"""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.paths import ROOT

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    ["jobs.trainer.trainer", "jobs.trainer.run", "tests.support.exact_trainer"]
)


class WarmTrainer:
    """One trainer, with those methods of `subprocess.Popen` that tests use."""

    def __init__(self, module: str, folder: Path, log: Path) -> None:
        # Daemons end with the tests.
        self.process = _context.Process(
            target=_train, args=(module, str(folder), str(log)), daemon=True
        )
        self.process.start()
        self.pid = self.process.pid or 0

    def wait(self, timeout: float | None = None) -> int:
        """Returns the exit code: minus the signal's number if a signal ended it."""
        self.process.join(timeout)
        if self.process.exitcode is None:
            raise subprocess.TimeoutExpired(f"the trainer {self.pid}", timeout or 0)
        return self.process.exitcode

    def terminate(self) -> None:
        os.kill(self.pid, signal.SIGTERM)


def _train(module: str, folder: str, log: str) -> None:
    os.dup2(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT), sys.stderr.fileno())
    os.chdir(ROOT)
    sys.argv[1:] = [folder]
    # With this command a job of several processes starts the others.
    sys.orig_argv[:] = [sys.executable, "-m", module, folder]
    runpy.run_module(module, run_name="__main__", alter_sys=True)

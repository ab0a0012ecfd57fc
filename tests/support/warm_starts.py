"""Starts trainers and model servers from a process that has imported their code.

Importing torch and transformers takes seconds of a core, which each of them would need
anew. What is forked then runs as `python -m MODULE` does, and so do the other processes
of a job.
"""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

from jobs.trainer.processes import launch
from tests.support.paths import ROOT

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    [
        "jobs.trainer.trainer",
        "jobs.trainer.run",
        "jobs.serving.scheduler",
        "tests.support.exact_trainer",
    ]
)


class WarmPython:
    """One process, with those methods of `subprocess.Popen` that tests use.

    The arguments are those of `python`: `-m MODULE` or `-c CODE`, and what follows.
    What it says on standard error goes to `log`.
    """

    def __init__(
        self, argv: Sequence[str | Path], log: Path, env: dict[str, str] | None = None
    ) -> None:
        # Daemons end with the tests.
        self.process = _context.Process(
            target=_begin,
            args=([str(word) for word in argv], str(log), env or {}),
            daemon=True,
        )
        self.process.start()
        self.pid = self.process.pid or 0

    def is_alive(self) -> bool:
        return self.process.is_alive()

    def wait(self, timeout: float | None = None) -> int:
        """Returns the exit code: minus the signal's number if a signal ended it."""
        self.process.join(timeout)
        if self.process.exitcode is None:
            raise subprocess.TimeoutExpired(f"the process {self.pid}", timeout or 0)
        return self.process.exitcode

    def terminate(self) -> None:
        os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


class Fork:
    """Stands in for `subprocess.Popen` where a trainer starts the others of its job."""

    def __init__(
        self, argv: list[str], env: dict[str, str], pass_fds: tuple[int, ...]
    ) -> None:
        self.pid = os.fork()
        if self.pid:
            return
        try:
            _close_all_but(pass_fds)
            os.environ.update(env)
            _run(argv[1:])
        except BaseException:
            traceback.print_exc()
        finally:
            # Nothing of the process that was forked may go on here.
            os._exit(1)

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def _close_all_but(kept: tuple[int, ...]) -> None:
    """Closes what a new program would not have: the first process's locks and pipes."""
    for descriptor in map(int, os.listdir("/dev/fd")):
        if descriptor > sys.stderr.fileno() and descriptor not in kept:
            # One of them read the folder, and is closed already.
            try:
                os.close(descriptor)
            except OSError:
                continue


def _begin(argv: list[str], log: str, env: dict[str, str]) -> None:
    os.dup2(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT), sys.stderr.fileno())
    os.chdir(ROOT)
    os.environ.update(env)
    launch.subprocess = SimpleNamespace(Popen=Fork)
    _run(argv)


def _run(argv: list[str]) -> None:
    how, what, *rest = argv
    sys.argv[1:] = rest
    # With this command a job that starts over replaces its program.
    sys.orig_argv[:] = [sys.executable, *argv]
    if how == "-c":
        exec(what, {"__name__": "__main__"})  # noqa: S102 (the code of a test)
    else:
        runpy.run_module(what, run_name="__main__", alter_sys=True)

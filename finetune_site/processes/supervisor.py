"""Starts the processes of a site, restarts those that die, and ends them together."""

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from finetune_site.common import lifeline
from finetune_site.common.secret import without_secrets
from finetune_site.processes import groups
from finetune_site.processes.programs import Program
from finetune_site.processes.web import LISTEN_VARIABLE

LOOK_SECONDS = 0.1
STOP_SECONDS = 4.0
# The first restart comes at once. A process that keeps dying is restarted less and less
# often.
BACK_OFF_SECONDS = [0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0]
STEADY_SECONDS = 30.0
HANG_CHECK_SECONDS = 5.0
HANGS_AFTER_SECONDS = 40.0


@dataclass
class Child:
    """A program and its present process, if it has one."""

    program: Program
    process: subprocess.Popen[bytes] | None = None
    group: groups.Group | None = None
    started_at: float = 0.0
    num_quick_deaths: int = 0
    start_at: float = 0.0
    # The newest sign of life, and when it was first seen here. This clock is monotonic:
    # a laptop's sleep or a corrected time of day does not change it.
    beat: object = None
    beat_seen_at: float = 0.0


class Supervisor:
    """Keeps the programs of a site running.

    `heartbeats` returns the newest sign of life of each program, by its name, or None
    when it cannot read them.
    """

    def __init__(
        self,
        *,
        programs: list[Program],
        run_dir: Path,
        root: Path,
        env: dict[str, str],
        listener: socket.socket,
        heartbeats: Callable[[], Mapping[str, object] | None],
        say: Callable[[str], None],
    ) -> None:
        self.children = [Child(program) for program in programs]
        self.run_dir = run_dir
        self.root = root
        self.env = env
        self.listener = listener
        self.heartbeats = heartbeats
        self.say = say
        self.stop_asked = threading.Event()
        self.next_hang_check = time.monotonic() + HANG_CHECK_SECONDS
        # The write end stays in this process; see finetune_site.common.lifeline.
        self.lifeline_read, self.lifeline_write = os.pipe()

    def run(self) -> None:
        """Runs until SIGTERM or SIGINT, or until its terminal closes (SIGHUP)."""
        numbers = [signal.SIGTERM, signal.SIGINT]
        # Under `nohup` the site is to outlive its terminal.
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            numbers.append(signal.SIGHUP)
        for number in numbers:
            signal.signal(number, lambda *_: self.stop_asked.set())
        try:
            while not self.stop_asked.wait(LOOK_SECONDS):
                for child in self.children:
                    self._look_after(child)
                self._check_for_hangs()
        finally:
            self._stop()

    def _look_after(self, child: Child) -> None:
        if child.process is None:
            if time.monotonic() >= child.start_at:
                self._try_to_start(child)
            return
        status = child.process.poll()
        if status is not None:
            self._bury(child, _describe(status))

    def _try_to_start(self, child: Child) -> None:
        """Starts a child. If that fails, it is tried again later.

        It may fail because a disk or the memory is full. The other processes go on.
        """
        try:
            self._start(child)
        except OSError as error:
            self._bury(child, f"could not be started: {error.strerror}")

    def _start(self, child: Child) -> None:
        program = child.program
        env = self.env | program.env
        if program.without_secrets:
            env = without_secrets(env)
        descriptors = [self.lifeline_read]
        env[lifeline.VARIABLE] = str(self.lifeline_read)
        if program.listens:
            descriptors.append(self.listener.fileno())
            env[LISTEN_VARIABLE] = str(self.listener.fileno())
        record = self.run_dir / f"{program.name}.json"
        child.process, child.group = groups.start_group(
            record, program.argv, env, descriptors, self.root
        )
        child.started_at = child.beat_seen_at = time.monotonic()

    def _bury(self, child: Child, reason: str) -> None:
        """Ends what is left of the group before its successor starts: the children of a
        killed qcluster would go on taking tasks.
        """
        if child.group is not None:
            groups.kill_group(child.group)
        if child.process is not None:
            child.process.wait()
        if time.monotonic() - child.started_at > STEADY_SECONDS:
            child.num_quick_deaths = 0
        number = min(child.num_quick_deaths, len(BACK_OFF_SECONDS) - 1)
        delay = BACK_OFF_SECONDS[number]
        child.num_quick_deaths += 1
        child.process, child.group = None, None
        child.start_at = time.monotonic() + delay
        when = f"in {delay:g} s" if delay else "now"
        self.say(f"The {child.program.title} {reason}. It starts again {when}.")

    def _check_for_hangs(self) -> None:
        if time.monotonic() < self.next_hang_check:
            return
        beats = self.heartbeats()
        for child in self.children:
            if child.program.has_heartbeat and self._hangs(child, beats):
                self._bury(child, "gave no sign of life and was ended")
                # The watcher asks the worker for its signs of life, so the worker's
                # silence means nothing until the watcher is back.
                break
        self.next_hang_check = time.monotonic() + HANG_CHECK_SECONDS

    def _hangs(self, child: Child, beats: Mapping[str, object] | None) -> bool:
        """Returns whether the process lives and does nothing.

        When an idle worker of django-q2 was killed, its cluster takes tasks from the
        queue and never runs them. A cluster that is busy with long tasks is silent
        too, but it uses the CPU.
        """
        now = time.monotonic()
        beat = None if beats is None else beats.get(child.program.name)
        if beats is None or beat != child.beat:
            child.beat, child.beat_seen_at = beat, now
        silence = now - child.beat_seen_at
        if child.group is None or silence < HANGS_AFTER_SECONDS:
            return False
        return not groups.uses_cpu(child.group)

    def _stop(self) -> None:
        self.listener.close()
        for child in self.children:
            if child.process is not None and child.process.poll() is None:
                # Only the leader gets the signal: it ends qcluster's other processes,
                # and they would be left over if they got one of their own.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.process.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        for child in self.children:
            self._end(child, deadline)
        os.close(self.lifeline_write)
        os.close(self.lifeline_read)

    def _end(self, child: Child, deadline: float) -> None:
        if child.process is None or child.group is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.process.wait(max(0.05, deadline - time.monotonic()))
        groups.kill_group(child.group)
        child.process.wait()
        (self.run_dir / f"{child.program.name}.json").unlink(missing_ok=True)


def _describe(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"

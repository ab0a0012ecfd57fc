"""A real site for tests: `manage.py up` on a data folder and a port of its own."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import psutil
import requests

from finetune_site.processes import groups
from tests.support.paths import ROOT

# The site must stand on its own: neither moved nor excused by the tests' environment.
FOREIGN_VARIABLES = [
    "ALLOWED_HOSTS",
    "DATABASE_URL",
    "DJANGO_ALLOW_ASYNC_UNSAFE",
    "PORT",
    "SITE_URL",
]
PROCESSES = ["web", "watcher", "worker", "model_server"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(check: Callable[[], Any], seconds: float, what: str) -> Any:
    """Returns the first true answer of `check`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := check():
            return answer
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds:g} s: {what}")


def environment(data_dir: Path) -> dict[str, str]:
    env = {**os.environ, "FINETUNE_DATA_DIR": str(data_dir)}
    for name in FOREIGN_VARIABLES:
        env.pop(name, None)
    return env


class RunningSite:
    def __init__(
        self, data_dir: Path, command: str = "up", port: int | None = None
    ) -> None:
        self.data_dir = data_dir
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = data_dir.parent / f"{data_dir.name}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", command, "--port", str(self.port)],
                cwd=ROOT,
                env=environment(self.data_dir),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        try:
            self.wait_until_healthy()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def manage(self, *args: str) -> str:
        """Runs another command of the same site and returns what it printed."""
        return subprocess.run(
            [sys.executable, "manage.py", *args],
            cwd=ROOT,
            env=environment(self.data_dir),
            check=True,
            capture_output=True,
            text=True,
            timeout=120,
        ).stdout.strip()

    def health(self) -> dict[str, Any] | None:
        """Returns what /healthz says, or None while it is not 200."""
        try:
            response = requests.get(f"{self.url}/healthz", timeout=5)
        except requests.RequestException:
            return None
        return response.json() if response.status_code == 200 else None

    def wait_until_healthy(self, seconds: float = 120) -> None:
        wait_for(self.health, seconds, f"healthy site; its log: {self.output()}")

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def sign_in_link(self) -> str:
        def find() -> str:
            lines = self.output().splitlines()
            links = [line for line in lines if line.startswith("Sign in: ")]
            return links[-1].removeprefix("Sign in: ") if links else ""

        return str(wait_for(find, 20, "a sign-in link"))

    def group(self, name: str) -> groups.Group | None:
        return groups.read_group(self.data_dir / "run" / f"{name}.json")

    def pid(self, name: str) -> int:
        """Returns the process's id, or 0 while there is no such process."""
        group = self.group(name)
        return group.pid if group and psutil.pid_exists(group.pid) else 0

    def processes(self) -> list[psutil.Process]:
        """Returns all that was started for this data folder, but for trainers."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.status() == psutil.STATUS_ZOMBIE:
                    continue
                env = process.environ()
                if "jobs.trainer" in process.cmdline():
                    continue
            except psutil.Error:
                continue
            if env.get("FINETUNE_DATA_DIR") == str(self.data_dir):
                found.append(process)
        return found

    def kill(self, name: str) -> int:
        pid = self.pid(name)
        os.kill(pid, signal.SIGKILL)
        return pid

    def stop(self) -> None:
        """Ends the site as Ctrl-C does, and kills whatever is left."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for record in (self.data_dir / "run").glob("*.json"):
            if group := groups.read_group(record):
                groups.kill_group(group)

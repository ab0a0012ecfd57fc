"""Starts and ends process groups: each process of the site leads one.

A group is recorded in DATA_DIR/run, and the record outlives `up`. A process is ours if
it is in the recorded group and has the record's token in its environment. So a process
that only got the same id later is never taken for ours.
"""

import contextlib
import json
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

TOKEN_VARIABLE = "FINETUNE_GROUP"  # noqa: S105 - a name, not a secret
KILL_SECONDS = 5.0
# A process that used this share of one core during the sample is at work.
SAMPLE_SECONDS = 1.0
BUSY_SHARE = 0.3


@dataclass(frozen=True)
class Group:
    pid: int
    token: str


def start_group(
    record: Path, argv: list[str], env: dict[str, str], pass_fds: list[int], cwd: Path
) -> tuple[subprocess.Popen[bytes], Group]:
    """Starts a process in a session of its own, and writes its group to `record`."""
    token = secrets.token_hex(8)
    process = subprocess.Popen(
        argv,
        env=env | {TOKEN_VARIABLE: token},
        pass_fds=pass_fds,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    group = Group(process.pid, token)
    try:
        draft = record.with_suffix(".new")
        draft.write_text(json.dumps({"pid": group.pid, "token": group.token}))
        draft.replace(record)
    except OSError:
        # On a full disk: what nobody could find again must not go on.
        process.kill()
        process.wait()
        raise
    return process, group


def read_group(record: Path) -> Group | None:
    """Returns the recorded group, or None if the file is no record or was cut short."""
    try:
        data = json.loads(record.read_text(encoding="utf-8"))
        return Group(int(data["pid"]), str(data["token"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def members(group: Group) -> Iterator[psutil.Process]:
    """Yields the living processes of the group. A zombie counts as dead."""
    for pid in psutil.pids():
        with contextlib.suppress(psutil.Error, ProcessLookupError, PermissionError):
            if os.getpgid(pid) != group.pid:
                continue
            process = psutil.Process(pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            if process.environ().get(TOKEN_VARIABLE) == group.token:
                yield process


def kill_group(group: Group) -> None:
    """Sends SIGKILL to all processes of the group, again and again until none is left,
    because they may fork meanwhile.
    """
    deadline = time.monotonic() + KILL_SECONDS
    while found := list(members(group)):
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)
        if time.monotonic() > deadline:
            return
        time.sleep(0.02)


def kill_recorded(folder: Path) -> int:
    """Ends what an earlier `up` left behind. Returns the number of processes."""
    num_found = 0
    for record in folder.glob("*.json"):
        group = read_group(record)
        if group is None:
            continue
        num_found += len(list(members(group)))
        kill_group(group)
        record.unlink(missing_ok=True)
    return num_found


def uses_cpu(group: Group) -> bool:
    """Returns whether one of the group's processes works hard at this moment."""
    before = {process: _cpu_seconds(process) for process in members(group)}
    time.sleep(SAMPLE_SECONDS)
    return any(
        _cpu_seconds(process) - seconds > BUSY_SHARE * SAMPLE_SECONDS
        for process, seconds in before.items()
    )


def _cpu_seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)

"""Process groups: each process of the site leads one, recorded in DATA_DIR/run.

The record outlives `up`. A process is ours if it is in the recorded group and carries
the record's token in its environment, which no reused process id does.
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


@dataclass(frozen=True)
class Group:
    pid: int
    token: str


def start_group(
    record: Path, argv: list[str], env: dict[str, str], pass_fds: list[int], cwd: Path
) -> tuple[subprocess.Popen[bytes], Group]:
    """Start a process in a session of its own and write down which it is."""
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
    """None for a file that is not a record, or one cut short."""
    try:
        data = json.loads(record.read_text())
        return Group(int(data["pid"]), str(data["token"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def members(group: Group) -> Iterator[psutil.Process]:
    """The living processes of the group; a zombie is dead."""
    for pid in psutil.pids():
        with contextlib.suppress(psutil.Error, ProcessLookupError, PermissionError):
            if os.getpgid(pid) != group.pid:
                continue
            process = psutil.Process(pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            if process.environ().get(TOKEN_VARIABLE) == group.token:
                yield process


def kill_group(group: Group, wait_seconds: float = 5.0) -> None:
    """SIGKILL everything in the group; again, until nothing is left that forks."""
    deadline = time.monotonic() + wait_seconds
    while found := list(members(group)):
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)
        if time.monotonic() > deadline:
            return
        time.sleep(0.02)


def kill_recorded(folder: Path) -> int:
    """End what an earlier `up` left behind. Returns how many processes that were."""
    num_found = 0
    for record in folder.glob("*.json"):
        group = read_group(record)
        if group is None:
            continue
        num_found += len(list(members(group)))
        kill_group(group)
        record.unlink(missing_ok=True)
    return num_found


def uses_cpu(group: Group, sample_seconds: float = 1.0, share: float = 0.3) -> bool:
    """Whether one of the group's processes works hard at this moment."""
    before = {process: _cpu_seconds(process) for process in members(group)}
    time.sleep(sample_seconds)
    return any(
        _cpu_seconds(process) - seconds > share * sample_seconds
        for process, seconds in before.items()
    )


def _cpu_seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)

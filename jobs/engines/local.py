"""The engine `local`, and further queues like it: jobs run on this machine."""

import json
import os
import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import orjson
from asgiref.sync import sync_to_async
from django.conf import settings
from django.utils import timezone

from jobs.engines.base import Report, RunFolderError
from jobs.engines.processes import end_trainers, running_folders, spawn_trainer
from jobs.models import Job, Snapshot
from jobs.selectors.sources import model_source
from jobs.serving import client
from jobs.trainer.contract.events import Event, read_events
from jobs.trainer.contract.runfolder import Control, RunFolder, Want, write_json
from jobs.trainer.contract.spec import Spec
from jobs.trainer.rows.memory import less_memory_words, with_less_memory

# How long a launcher waits for the lock. A look at the lock holds it for an instant,
# and a trainer that was paused takes a few seconds to leave.
LOCK_SECONDS = 10.0
# How long a trainer may ignore a pause or stop before it is told to end.
OBEY_SECONDS = 30.0
# How long it may take to end: the last snapshot of a large model is many gigabytes.
END_SECONDS = 300.0
# How long after the end of a job its trainer may still be about to leave.
LEAVE_SECONDS = 30.0


class LocalEngine:
    """A queue of this machine. Each row of the kind local makes a further one."""

    is_remote = False

    def __init__(
        self, name: str = "local", title: str = "This machine", jobs_at_once: int = 1
    ) -> None:
        self.name = name
        self.title = title
        self.jobs_at_once = jobs_at_once

    def check_job(self, job: Job) -> None:
        """Does nothing: this machine lacks nothing that a job needs."""

    def start(self, job: Job, spec: Spec) -> None:
        """Starts a trainer; see `Engine.start`."""
        folder = RunFolder(job.folder)
        if job.last_seq and not folder.spec.is_file():
            raise vanished(job)
        folder.path.mkdir(parents=True, exist_ok=True)
        lock = wait_for_lock(job, folder)
        if lock is None:
            return
        try:
            self._start_locked(job, spec, folder, lock)
        finally:
            os.close(lock)

    def _start_locked(self, job: Job, spec: Spec, folder: RunFolder, lock: int) -> None:
        # Looked at again, since only the holder of the lock knows that nothing changes.
        if not Job.objects.filter(pk=job.pk, status=Job.Status.STARTING).exists():
            return
        if ended(new_events(job, folder)[0]):
            return
        if not folder.spec.is_file():
            spec.save(folder.spec)
        folder.write_control(control_of(job))
        attempt = read_trainer(folder).get("attempt", 0) + 1
        pid = spawn_trainer(folder.path, lock, folder.log)
        write_json(
            folder.path / "trainer.json",
            {
                "pid": pid,
                "attempt": attempt,
                "claim": claim_of(job),
                "started": time.time(),
            },
        )

    def poll(self, job: Job) -> Report:
        """Reads the run folder; see `Engine.poll`."""
        folder = RunFolder(job.folder)
        try:
            alive = not folder.lock_is_free()
        except FileNotFoundError:
            if job.last_seq or job.status == Job.Status.RUNNING:
                raise vanished(job) from None
            return Report(events=[], offset=0, alive=False, launched=False)
        events, offset = new_events(job, folder)
        return Report(
            events=events,
            offset=offset,
            alive=alive,
            launched=is_launched(job, folder),
        )

    def control(self, job: Job) -> None:
        """Writes the run folder's control.json, if it has changed."""
        folder = RunFolder(job.folder)
        if folder.read_control() != control_of(job):
            folder.write_control(control_of(job))

    def enforce(self, job: Job) -> None:
        """Ends a trainer that does not obey: first with SIGTERM, then with SIGKILL."""
        folder = RunFolder(job.folder)
        trainer = read_trainer(folder)
        told = max(folder.control.stat().st_mtime, trainer.get("started", 0))
        waited = time.time() - told
        # A trainer looks once a step, and a step of a large model may take long.
        patience = max(OBEY_SECONDS, 3 * (job.seconds_per_step or 0))
        if waited < patience:
            return
        if "ending" not in trainer:
            end_trainers(folder.path, force=False)
            write_json(folder.path / "trainer.json", {**trainer, "ending": time.time()})
        elif time.time() - trainer["ending"] > END_SECONDS:
            end_trainers(folder.path, force=True)

    def end(self, job: Job, *, force: bool = False) -> None:
        """Signals the job's trainer to end; see `Engine.end`."""
        end_trainers(job.folder, force=force)

    def end_strays(self) -> None:
        """Ends the stray trainers of all queues of this machine."""
        # Looked for before the rows are read: a trainer that is launched in between is
        # not among them.
        found = running_folders(Path(settings.DATA_DIR) / "runs")
        uids = {folder.name for folder in found}
        jobs = {job.uid: job for job in Job.objects.filter(uid__in=uids)}
        for folder in found:
            job = jobs.get(folder.name)
            if job is None or not job.is_live:
                end_trainers(folder, force=job is None or ended_long_ago(job))

    def ease(self, job: Job) -> str:
        """Writes numerics that need less memory; see `Engine.ease`."""
        folder = RunFolder(job.folder)
        numerics = folder.read_numerics()
        if numerics is None:
            return ""
        less = with_less_memory(numerics, numerics.micro_batch)
        if less is None:
            return ""
        folder.write_numerics(less)
        return f"It goes on with {less_memory_words(less)}."

    async def complete(
        self, snapshot: Snapshot | None, request: dict[str, Any]
    ) -> AsyncIterator[dict[str, Any]]:
        """Asks the model server; see `Engine.complete`."""
        name = snapshot.base_model if snapshot else request["base_model"]
        source = await sync_to_async(model_source)(name, snapshot)
        asked = {key: request[key] for key in request if key != "base_model"}
        socket = client.socket_path(settings.DATA_DIR)
        async for line in client.stream_completion(
            socket, {**asked, "model": asdict(source)}
        ):
            yield line


def ended_long_ago(job: Job) -> bool:
    """Returns whether the job's trainer had the time to leave by itself."""
    long_ago = timezone.now() - timedelta(seconds=LEAVE_SECONDS)
    return job.finished_at is not None and job.finished_at < long_ago


def wait_for_lock(job: Job, folder: RunFolder) -> int | None:
    """Returns the open lock. None: a trainer has it and does not leave.

    Most often it is the trainer of this very claim.
    """
    until = time.monotonic() + LOCK_SECONDS
    while (lock := folder.take_lock()) is None:
        if is_launched(job, folder) or time.monotonic() > until:
            return None
        time.sleep(0.02)
    return lock


def is_launched(job: Job, folder: RunFolder) -> bool:
    """Returns whether a trainer was started for the job's present claim."""
    return bool(read_trainer(folder).get("claim") == claim_of(job))


def control_of(job: Job) -> Control:
    """Returns what the trainer is to do."""
    return Control(want=cast(Want, job.want), snapshot_request=job.snapshot_requests)


def claim_of(job: Job) -> str:
    """Returns a name for the job's present claim, or "" if the job is not claimed."""
    return job.claimed_at.isoformat() if job.claimed_at else ""


def read_trainer(folder: RunFolder) -> dict[str, Any]:
    """Returns what is known of the last start, or {} if its launcher was killed."""
    try:
        value: dict[str, Any] = json.loads((folder.path / "trainer.json").read_bytes())
    except FileNotFoundError:
        return {}
    return value


def new_events(job: Job, folder: RunFolder) -> tuple[list[Event], int]:
    """Returns the events after `job.last_seq`, and where they end in the file (bytes).

    A machine that lost its power may have lost the file's end too. The trainer writes
    it again, so the offset can point anywhere. In that case the whole file is read.
    Raises RunFolderError if an event is missing.
    """
    try:
        size = folder.events.stat().st_size
    except FileNotFoundError:
        return [], 0
    if size == job.events_offset:
        return [], size
    try:
        events, offset = read_events(folder.events, min(job.events_offset, size))
        if size > job.events_offset and follows(events, job.last_seq):
            return events, offset
    except orjson.JSONDecodeError:
        pass
    return reread_events(job, folder)


def reread_events(job: Job, folder: RunFolder) -> tuple[list[Event], int]:
    """Reads the whole file; returns and raises the same as `new_events`."""
    try:
        events, offset = read_events(folder.events)
    except orjson.JSONDecodeError as error:
        raise RunFolderError(
            f"The run folder's events.jsonl cannot be read ({error}); "
            "something other than the trainer wrote to it. Start a new job."
        ) from error
    fresh = [event for event in events if event["seq"] > job.last_seq]
    if not follows(fresh, job.last_seq):
        raise RunFolderError(
            f"Events are missing in the run folder after number {job.last_seq}. "
            "Start a new job."
        )
    return fresh, offset


def follows(events: list[Event], seq: int) -> bool:
    """Returns whether the events are numbered seq + 1, seq + 2 and so on."""
    return all(event["seq"] == seq + n for n, event in enumerate(events, start=1))


def ended(events: list[Event]) -> bool:
    """Returns whether one of the events ends the job."""
    return any(e["type"] == "status" and e["status"] in Job.FINAL for e in events)


def vanished(job: Job) -> RunFolderError:
    """Returns the error of a job whose run folder was deleted."""
    return RunFolderError(
        f"The run folder {job.folder} is gone, and with it the job's checkpoint. "
        "Start a new job."
    )

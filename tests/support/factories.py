"""Makes the rows and files that tests start from."""

import hashlib
import itertools
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from django.utils import timezone

from datasets.models import Dataset, DatasetVersion
from finetune_site.team.models import Member, Role
from jobs.base_models.trials import keep_result
from jobs.models import Job, Snapshot
from jobs.new_job.creation import NewJob, draft_job, save_job
from jobs.trainer.contract.folder_stamp import folder_stamp
from jobs.trainer.contract.settings import SETTINGS, JobSettings

counter = itertools.count(1)

CAPITALS = [
    [("The capital of France is ", 0.1), ("Paris", 0.9)],
    [("The capital of Kenya is ", 0.1), ("Nairobi", 0.9)],
    [("The capital of Chile is ", 0.1), ("Santiago", 0.9)],
    [("The capital of Japan is ", 0.1), ("Tokyo", 0.9)],
]


def make_member(username: str, role: str = Role.MEMBER) -> Member:
    return Member.objects.create_user(username=username, role=role)


def mark_tried(model_folder: Path) -> None:
    """Notes what the site would, had it tried the model of a folder and found no fault.

    That takes a process with torch some seconds.
    """
    keep_result(model_folder, folder_stamp(model_folder), "")


def write_examples(path: Path, examples: list[list[tuple[str, float]]]) -> None:
    """Writes `examples.jsonl` in the long form, and `examples.idx`, which says where
    each line starts.
    """
    lines = [
        json.dumps(
            {
                "data": {
                    "text_list": [text for text, _ in segments],
                    "loss_weights": [weight for _, weight in segments],
                }
            }
        ).encode()
        + b"\n"
        for segments in examples
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(lines))
    starts = np.cumsum([0, *map(len, lines)], dtype="<u8")[:-1]
    path.with_suffix(".idx").write_bytes(starts.tobytes())


def make_dataset(
    name: str = "",
    examples: list[list[tuple[str, float]]] | None = None,
    **fields: Any,
) -> DatasetVersion:
    """Makes a new dataset's first version, ready, with its files."""
    dataset = Dataset.objects.create(name=name or f"capitals {next(counter)}")
    version = DatasetVersion(
        dataset=dataset, number=1, status=DatasetVersion.Status.READY, **fields
    )
    examples = CAPITALS if examples is None else examples
    write_examples(version.examples_path, examples)
    content = version.examples_path.read_bytes()
    version.sha256 = hashlib.sha256(content).hexdigest()
    version.num_bytes = len(content)
    version.num_examples = len(examples)
    version.save()
    return version


def make_job(version: DatasetVersion | None = None, **fields: Any) -> Job:
    """Makes a queued job, unless `status` says otherwise. It has no run folder yet."""
    fields = {
        "name": f"job {next(counter)}",
        "base_model": "tiny",
        "status": Job.Status.QUEUED,
        "queued_at": timezone.now(),
        "max_tokens": 32,
        "total_steps": 16,
        "prompts": ["The capital of France is "],
        **fields,
    }
    return Job.objects.create(dataset_version=version or make_dataset(), **fields)


def ask(**wishes: Any) -> NewJob:
    """Returns what somebody asks for. Settings of the job are among the wishes."""
    chosen = {name: wishes.pop(name) for name in SETTINGS if name in wishes}
    return NewJob(**wishes, settings=JobSettings(**chosen))


def create_job(*, member: Member, may_import: bool = False, **wishes: Any) -> Job:
    """Creates a job as somebody asks for it, checked and saved as the site does it."""
    return save_job(draft_job(ask(**wishes), may_import=may_import), member=member)


def make_run_events(job: Job, *events: dict[str, Any]) -> Path:
    """Appends events to the run folder as a trainer does; seq and time are added."""
    path = job.folder / "events.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    seq = path.read_bytes().count(b"\n") if path.exists() else 0
    with path.open("a") as file:
        for event in events:
            seq += 1
            file.write(json.dumps({"seq": seq, "time": time.time(), **event}) + "\n")
    return path


def step_event(step: int, **data: Any) -> dict[str, Any]:
    return {
        "type": "step",
        "step": step,
        "loss": 3.0,
        "learned_loss": 3.0,
        "accuracy": 0.5,
        "lr": 0.001,
        "grad_norm": 1.0,
        "tokens": 32,
        "tokens_per_second": 1000.0,
        "memory_bytes": 300_000_000,
        "epoch": step / 4,
        **data,
    }


def make_snapshot(job: Job, step: int = 20, **fields: Any) -> Snapshot:
    """Makes a snapshot's row; the folder of the weights stays empty."""
    fields = {
        "uid": f"tiny:2026-11-22.snap-{next(counter):024d}",
        "base_model": job.base_model,
        "method": job.method,
        "relative_path": f"snapshots/{step}",
        "sha256": "0" * 64,
        "created_at": timezone.now(),
        **fields,
    }
    snapshot = Snapshot.objects.create(job=job, step=step, **fields)
    snapshot.folder.mkdir(parents=True, exist_ok=True)
    return snapshot

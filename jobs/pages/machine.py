"""Measures what this machine has, and how much of it is in use."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import psutil
from django.conf import settings
from django.db.models import Count, Sum

from jobs.engines.registry import get_engine
from jobs.models import Snapshot


@dataclass(frozen=True)
class Machine:
    """What the machine has. Memory and disk are in bytes."""

    jobs_at_once: int
    cores: int
    memory_used: int
    memory_total: int
    num_snapshots: int
    snapshot_bytes: int
    disk_free: int

    @property
    def disk_for_snapshots(self) -> int:
        """The bytes that snapshots use and those that they could still use."""
        return self.snapshot_bytes + self.disk_free


def read_machine() -> Machine:
    """Returns what the machine has at this moment."""
    memory = psutil.virtual_memory()
    here = Snapshot.objects.filter(job__far_uid="")
    kept = here.aggregate(num=Count("pk"), size=Sum("num_bytes"))
    return Machine(
        jobs_at_once=get_engine("local").jobs_at_once,
        cores=_num_cores(),
        memory_used=memory.total - memory.available,
        memory_total=memory.total,
        num_snapshots=kept["num"],
        snapshot_bytes=kept["size"] or 0,
        disk_free=shutil.disk_usage(Path(settings.DATA_DIR)).free,
    )


def _num_cores() -> int:
    """Returns how many cores this process may use.

    In a container or a queue that may be fewer than there are.
    """
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS cannot tell.
        return os.cpu_count() or 1

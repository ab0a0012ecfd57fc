"""The rows of jobs and of all that belongs to them."""

from jobs.models.api import CheckpointPermission, FirstAnswer
from jobs.models.downloads import ModelDownload
from jobs.models.engines import EngineSetting
from jobs.models.heartbeats import Heartbeat
from jobs.models.training import Event, Job, Snapshot
from jobs.models.webhooks import Delivery, Webhook

__all__ = [
    "CheckpointPermission",
    "Delivery",
    "EngineSetting",
    "Event",
    "FirstAnswer",
    "Heartbeat",
    "Job",
    "ModelDownload",
    "Snapshot",
    "Webhook",
]

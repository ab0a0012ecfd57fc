"""Rows of base models that are fetched from the hub."""

from django.conf import settings
from django.db import models


class ModelDownload(models.Model):
    """A base model of the hub that was asked for, is on its way, or is here."""

    class Status(models.TextChoices):
        # A model that is added is looked up, so that its licence and size are known.
        ADDED = "added", "Not downloaded"
        DOWNLOADING = "downloading", "Downloading"
        CANCELLED = "cancelled", "Cancelled"
        FAILED = "failed", "Failed"
        READY = "ready", "Ready"

    # Its folder below `models` has the same name.
    name = models.CharField(max_length=80, unique=True)
    hub_id = models.CharField(max_length=200)
    licence = models.CharField(max_length=200, blank=True)
    # The commit that was the newest when it was looked up, and its files, as
    # `jobs.base_models.hub` describes them: a resume fetches the same.
    revision = models.CharField(max_length=64, blank=True)
    files = models.JSONField(default=list, blank=True)
    status = models.CharField(max_length=12, choices=Status, default=Status.ADDED)
    # It says what went wrong, or what is being done.
    message = models.TextField(blank=True)
    bytes_total = models.BigIntegerField(default=0)
    bytes_done = models.BigIntegerField(default=0)
    bytes_per_second = models.FloatField(null=True, blank=True)
    asked_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL
    )
    asked_at = models.DateTimeField()
    # It is renewed while a task downloads the model; see services.download_claims.
    claimed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.name

    @property
    def seconds_left(self) -> float | None:
        """How long the download still takes, or None while that is not known."""
        if not self.bytes_per_second:
            return None
        return (self.bytes_total - self.bytes_done) / self.bytes_per_second

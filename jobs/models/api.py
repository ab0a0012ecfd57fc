"""Rows that the API keeps for its clients."""

from django.conf import settings
from django.db import models

from jobs.models.training import Snapshot


class FirstAnswer(models.Model):
    """The answer to a POST, for clients that send it again after a lost connection."""

    member = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    path = models.CharField(max_length=300)
    # The hash of the Idempotency-Key, or of the body if a client sends none.
    token = models.CharField(max_length=64)
    created_at = models.DateTimeField()
    # It is null while the first request is being answered.
    status = models.PositiveSmallIntegerField(null=True, blank=True)
    body = models.JSONField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["member", "path", "token"], name="first_answer_unique"
            )
        ]

    def __str__(self) -> str:
        return f"{self.path} by {self.member}"


class CheckpointPermission(models.Model):
    """A project that may use a snapshot. It is a note only: all of a team may."""

    uid = models.CharField(max_length=40, unique=True)
    snapshot = models.ForeignKey(
        Snapshot, on_delete=models.CASCADE, related_name="permissions"
    )
    project_id = models.CharField(max_length=120)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["snapshot", "project_id"], name="permission_unique"
            )
        ]

    def __str__(self) -> str:
        return f"{self.project_id} may use {self.snapshot}"

"""Rows of the addresses that are told when a job ends."""

from django.conf import settings
from django.db import models

from jobs.models.training import Job


class Webhook(models.Model):
    """An address that is told when a job ends."""

    url = models.CharField(max_length=500)
    # It signs what is sent. It is encrypted; see finetune_site.common.sealing.
    sealed_secret = models.TextField()
    # Addresses of the site's own network are refused otherwise.
    allow_private = models.BooleanField(default=False)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.url


class Delivery(models.Model):
    """One event on its way to one address."""

    # It is sent as `webhook-id`. The receiver knows by it what it has had already.
    uid = models.CharField(max_length=40, unique=True)
    webhook = models.ForeignKey(
        Webhook, on_delete=models.CASCADE, related_name="deliveries"
    )
    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="deliveries")
    type = models.CharField(max_length=60)
    created_at = models.DateTimeField(auto_now_add=True)
    # It is null once the event has arrived or was given up.
    due_at = models.DateTimeField(null=True, blank=True, db_index=True)
    num_tries = models.PositiveSmallIntegerField(default=0)
    delivered_at = models.DateTimeField(null=True, blank=True)
    # It tells people why the last try failed.
    message = models.TextField(blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["webhook", "job", "type"], name="delivery_unique"
            )
        ]

    def __str__(self) -> str:
        return f"{self.type} to {self.webhook}"

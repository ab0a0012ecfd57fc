"""Rows of the engines that admins have added."""

from django.conf import settings
from django.db import models


class EngineSetting(models.Model):
    """A place where jobs may run beside this machine. `local` needs no row."""

    class Kind(models.TextChoices):
        LOCAL = "local", "This machine"
        REMOTE = "remote", "Another server with this API"

    name = models.SlugField(max_length=40, unique=True)
    kind = models.CharField(max_length=10, choices=Kind)
    # The base URL that clients of the other server use; it ends in /v1.
    url = models.CharField(max_length=500, blank=True)
    # It is encrypted; see finetune_site.common.sealing.
    sealed_key = models.TextField(blank=True)
    # Addresses of the site's own network are refused otherwise.
    allow_private = models.BooleanField(default=False)
    jobs_at_once = models.PositiveIntegerField(default=1)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL
    )
    created_at = models.DateTimeField(auto_now_add=True)
    # What went wrong when the site last talked with it; empty if nothing did.
    trouble = models.TextField(blank=True)
    last_answer_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

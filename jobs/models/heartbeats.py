"""Rows of the signs of life of the site's own processes."""

from django.db import models


class Heartbeat(models.Model):
    """The last sign of life of a process, which is `worker` or `watcher`."""

    name = models.CharField(max_length=40, primary_key=True)
    at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.name} at {self.at}"

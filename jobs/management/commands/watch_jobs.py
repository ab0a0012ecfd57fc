"""`manage.py watch_jobs`: runs the watcher process."""

import signal
from typing import Any

from django.core.management.base import BaseCommand

from finetune_site.common import lifeline
from jobs.watching.watcher import Watcher


class Command(BaseCommand):
    help = "Watch the jobs: read what trainers do, start, resume and stop them."
    # Checks would import every route.
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        lifeline.hold()
        watcher = Watcher()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: watcher.stop())
        watcher.run()

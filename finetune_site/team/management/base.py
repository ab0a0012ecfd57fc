"""The base classes of the team's commands."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from finetune_site.common.errors import UserError
from finetune_site.processes.addresses import known_url
from finetune_site.processes.prepare import is_migrated
from finetune_site.team.models import Member
from finetune_site.team.services import create_sign_in_link


class SiteCommand(BaseCommand):
    """A command that needs a site which was started before."""

    # Checks import every route, which takes a second, and tell nothing about a site
    # that runs.
    requires_system_checks: list[str] = []

    def execute(self, *args: Any, **options: Any) -> str | None:
        if not is_migrated():
            raise CommandError(
                f"The site of {settings.DATA_DIR} was not started yet, or not since an "
                "upgrade. Start it first (manage.py up), or set FINETUNE_DATA_DIR to "
                "the folder it uses."
            )
        try:
            return super().execute(*args, **options)
        except UserError as error:
            raise CommandError(error.message) from None


class TeamCommand(SiteCommand):
    """A command that concerns the member USERNAME."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("username")

    def print_sign_in_link(self, member: Member) -> None:
        token = create_sign_in_link(member=member)
        url = known_url(Path(settings.DATA_DIR))
        self.stdout.write(f"Sign in: {url}/sign-in/{token}")

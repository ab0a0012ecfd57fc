from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from finetune_site.errors import UserError
from finetune_site.processes.addresses import known_url
from finetune_site.team import services
from finetune_site.team.models import Role


class Command(BaseCommand):
    help = "Make a member and print the link that lets them in."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("username")
        parser.add_argument("--role", choices=Role.values, default=Role.MEMBER.value)

    def handle(self, *args: Any, username: str, role: str, **options: Any) -> None:
        try:
            member = services.create_member(username=username, role=role)
        except UserError as error:
            raise CommandError(error.message) from None
        token = services.create_sign_in_link(member=member)
        self.stdout.write(
            f"Sign in: {known_url(Path(settings.DATA_DIR))}/sign-in/{token}"
        )

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from finetune_site.processes.addresses import known_url
from finetune_site.team import services
from finetune_site.team.models import Member


class Command(BaseCommand):
    help = "Print a link that signs a member in once, within a day."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("username")

    def handle(self, *args: Any, username: str, **options: Any) -> None:
        member = Member.objects.filter(username=username, is_active=True).first()
        if member is None:
            raise CommandError(
                f"There is no active member {username}. Make one: "
                f"manage.py create_member {username}"
            )
        token = services.create_sign_in_link(member=member)
        self.stdout.write(
            f"Sign in: {known_url(Path(settings.DATA_DIR))}/sign-in/{token}"
        )

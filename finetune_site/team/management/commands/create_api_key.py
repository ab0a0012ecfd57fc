from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from finetune_site.team import services
from finetune_site.team.management.base import TeamCommand
from finetune_site.team.models import Member


class Command(TeamCommand):
    help = "Print a new API key, alone. The member is made if absent."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--name", default="", help="What the key is for.")

    def handle(self, *args: Any, username: str, name: str, **options: Any) -> None:
        member = Member.objects.filter(username=username).first()
        if member is not None and not member.is_active:
            raise CommandError(f"The member {username} is not active.")
        member = member or services.create_member(username=username)
        self.stdout.write(services.create_api_key(member=member, name=name))

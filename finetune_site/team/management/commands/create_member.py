from argparse import ArgumentParser
from typing import Any

from finetune_site.team import services
from finetune_site.team.management.base import TeamCommand
from finetune_site.team.models import Role


class Command(TeamCommand):
    help = "Make a member and print the link that lets them in."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--role", choices=Role.values, default=Role.MEMBER.value)

    def handle(self, *args: Any, username: str, role: str, **options: Any) -> None:
        member = services.create_member(username=username, role=role)
        self.print_sign_in_link(member)

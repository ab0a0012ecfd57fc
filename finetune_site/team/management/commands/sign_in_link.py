from typing import Any

from django.core.management.base import CommandError

from finetune_site.team.management.base import TeamCommand
from finetune_site.team.models import Member


class Command(TeamCommand):
    help = "Print a link that signs a member in once, within a day."

    def handle(self, *args: Any, username: str, **options: Any) -> None:
        member = Member.objects.filter(username=username, is_active=True).first()
        if member is None:
            raise CommandError(
                f"There is no active member {username}. Make one: "
                f"manage.py create_member {username}"
            )
        self.print_sign_in_link(member)

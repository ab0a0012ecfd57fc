"""Finds who asks: every call has the API key of a member."""

from datetime import timedelta

from django.core.exceptions import PermissionDenied
from django.db.models import Q
from django.http import HttpRequest
from django.utils import timezone
from ninja.security import HttpBearer

from finetune_site.team.access import VIEWER_MESSAGE
from finetune_site.team.models import ApiKey, Member
from finetune_site.team.selectors import find_key

# Calls may come many times a second. The page shows the last use no finer than this.
USED_AGAIN_SECONDS = 60


class MemberKey(HttpBearer):
    """Accepts the key of an active member, and with `changes` of no viewer."""

    def __init__(self, *, changes: bool = False) -> None:
        super().__init__()
        self.changes = changes

    def authenticate(self, request: HttpRequest, token: str) -> Member | None:
        key = find_key(token)
        if key is None:
            return None
        if self.changes and not key.member.can_work:
            raise PermissionDenied(VIEWER_MESSAGE)
        note_use(key)
        request.user = key.member
        return key.member


def note_use(key: ApiKey) -> None:
    now = timezone.now()
    old = now - timedelta(seconds=USED_AGAIN_SECONDS)
    if key.last_used_at is None or key.last_used_at < old:
        unused = Q(last_used_at=None) | Q(last_used_at__lt=old)
        ApiKey.objects.filter(unused, pk=key.pk).update(last_used_at=now)


# This is for routes that show things or ask models.
reader = MemberKey()
# This is for routes that change something.
worker = MemberKey(changes=True)

"""Who asks: every call carries an API key of a member."""

from datetime import timedelta

from django.core.exceptions import PermissionDenied
from django.db.models import Q
from django.http import HttpRequest
from django.utils import timezone
from ninja.security import HttpBearer

from finetune_site.team.access import VIEWER_MESSAGE
from finetune_site.team.models import ApiKey, Member
from finetune_site.team.services import hash_secret

# Calls may come many times a second; the page that shows it needs no more.
USED_AGAIN_SECONDS = 60


class ReaderKey(HttpBearer):
    """Of any member: looks at everything, changes nothing."""

    def authenticate(self, request: HttpRequest, token: str) -> Member | None:
        key = (
            ApiKey.objects.select_related("member")
            .filter(key_hash=hash_secret(token), revoked_at=None)
            .filter(member__is_active=True)
            .first()
        )
        if key is None:
            return None
        note_use(key)
        request.user = key.member
        return key.member


class WorkerKey(ReaderKey):
    """Of a member who may change things: for everything but reading and asking."""

    def authenticate(self, request: HttpRequest, token: str) -> Member | None:
        member = super().authenticate(request, token)
        if member is not None and not member.can_work:
            raise PermissionDenied(VIEWER_MESSAGE)
        return member


def note_use(key: ApiKey) -> None:
    now = timezone.now()
    old = now - timedelta(seconds=USED_AGAIN_SECONDS)
    if key.last_used_at is None or key.last_used_at < old:
        unused = Q(last_used_at=None) | Q(last_used_at__lt=old)
        ApiKey.objects.filter(unused, pk=key.pk).update(last_used_at=now)


reader = ReaderKey()
worker = WorkerKey()

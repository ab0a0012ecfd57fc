"""Slows down the guessing of passwords, by the wrong ones in the audit trail."""

from datetime import timedelta

from django.utils import timezone

from finetune_site.team.models import AuditEntry
from finetune_site.team.services import record

ACTION = "sign_in.wrong_password"
WINDOW_MINUTES = 10
MAX_WRONG_PER_NAME = 10
# This limit is higher, since a team may share an address. It stops people from trying
# one password on many names.
MAX_WRONG_PER_ADDRESS = 50


def is_closed(username: str, address: str) -> bool:
    since = timezone.now() - timedelta(minutes=WINDOW_MINUTES)
    wrong = AuditEntry.objects.filter(
        action=ACTION, at__gt=since, detail__address=address
    )
    if wrong.count() >= MAX_WRONG_PER_ADDRESS:
        return True
    return wrong.filter(subject=_subject(username)).count() >= MAX_WRONG_PER_NAME


def note_failure(username: str, address: str) -> None:
    record(member=None, action=ACTION, subject=_subject(username), address=address)


def _subject(username: str) -> str:
    return username.strip().casefold()[:150]

"""Gives the first answer again to a client that lost it and repeats its POST.

A client marks a repeated request with an `Idempotency-Key`, or, like OpenAI's own
client, counts its attempts in `x-stainless-retry-count`.

What the request makes and its answer are written in one transaction. A request that
dies half-way therefore leaves neither, and a second one that arrives meanwhile waits
for the database's lock and then finds the answer. Errors are not kept: they made
nothing, and the same request may succeed once their cause is gone.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, TypeVar

from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from finetune_site.common.parsing import small_int
from finetune_site.common.request_hash import hash_of_body
from finetune_site.team.access import current_member
from finetune_site.team.models import Member
from jobs.models import FirstAnswer

KEPT = timedelta(days=1)
RETRIED_WITHIN = timedelta(minutes=10)

Prepared = TypeVar("Prepared")


def answer_once(
    request: HttpRequest,
    *,
    prepare: Callable[[], Prepared],
    make: Callable[[Prepared], dict[str, Any]],
) -> Any:
    """Returns the answer that the request got before, or else a new one.

    `prepare` runs outside of the transaction, so it may take long: checks, questions to
    other machines. `make` gets what `prepare` returned. It creates what was asked for
    and returns the answer, a JSON object that is stored in the same transaction.
    """
    identity = recognise(request)
    known = identity.rows().first()
    if known and identity.accepts(known):
        return known.body
    prepared = prepare()
    forget_old_answers()
    with transaction.atomic():
        row = lock_row(identity)
        if identity.accepts(row):
            return row.body
        answer = make(prepared)
        store(row, answer)
    return answer


@dataclass(frozen=True)
class Identity:
    """What tells one request from all others, and which older answers it may get."""

    member: Member
    path: str
    # A hash of the key, or of the body where there is no key.
    token: str
    # Only answers given after this moment count. None: the request is sent for the
    # first time, so no answer counts, not even one that was given to a request with the
    # same body while this one waited for the lock.
    answered_after: datetime | None

    def rows(self) -> QuerySet[FirstAnswer]:
        """Returns the one row for this request, or none."""
        return FirstAnswer.objects.filter(
            member=self.member, path=self.path, token=self.token
        )

    def accepts(self, row: FirstAnswer) -> bool:
        """Returns whether the row holds an answer that is recent enough."""
        if row.status is None or self.answered_after is None:
            return False
        return row.created_at > self.answered_after


def recognise(request: HttpRequest) -> Identity:
    """Returns by what the request is known when it comes again."""
    now = timezone.now()
    answered_after: datetime | None
    if key := request.headers.get("Idempotency-Key"):
        token = hashlib.sha256(f"key {key}".encode()).hexdigest()
        answered_after = now - KEPT
    else:
        token = hash_of_body(request)
        retries = small_int(request.headers.get("x-stainless-retry-count", ""))
        answered_after = now - RETRIED_WITHIN if retries else None
    return Identity(current_member(request), request.path[:300], token, answered_after)


def lock_row(identity: Identity) -> FirstAnswer:
    """Returns the request's row, locked until the end of the transaction.

    Another request of the same token waits here.
    """
    row, _ = identity.rows().get_or_create(
        defaults={
            "member": identity.member,
            "path": identity.path,
            "token": identity.token,
            "created_at": timezone.now(),
        }
    )
    return FirstAnswer.objects.select_for_update().get(pk=row.pk)


def store(row: FirstAnswer, answer: dict[str, Any]) -> None:
    row.status = HTTPStatus.OK
    row.created_at = timezone.now()
    row.body = answer
    row.save(update_fields=["status", "created_at", "body"])


def forget_old_answers() -> None:
    old = FirstAnswer.objects.filter(created_at__lt=timezone.now() - KEPT)
    # A delete locks out all others, even if there is nothing to delete.
    if old.exists():
        old.delete()

"""Gives the first answer again to a client that lost it and sends its POST once more.

A client says that it is the same request by an `Idempotency-Key`, or, as OpenAI's own
client does, by counting in `x-stainless-retry-count` how often it has sent it.

What the request makes and its answer are written in one transaction. So a request that
dies half-way leaves neither, and one that comes meanwhile waits for the database's lock
and then finds the answer. Only what succeeded is kept: an error made nothing, and the
same request may succeed once its cause is gone.
"""

import hashlib
import os
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial, wraps
from http import HTTPStatus
from typing import Any, cast

from django.core.files.uploadedfile import TemporaryUploadedFile, UploadedFile
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from ninja import Schema

from finetune_site.common.parsing import small_int
from finetune_site.team.access import current_member
from jobs.models import FirstAnswer

KEPT = timedelta(days=1)
RETRIED_WITHIN = timedelta(minutes=10)
HASHED_AT_ONCE = 1024 * 1024

View = Callable[..., Any]


def first_answer(view: View) -> View:
    """For routes that make something and answer with its JSON object."""
    return first_answer_after(lambda *args, **kwargs: None)(view)


def first_answer_after(check: View) -> Callable[[View], View]:
    """With something before it that may take long, and so is done outside the
    transaction. It takes what the route takes.
    """

    def decorate(view: View) -> View:
        @wraps(view)
        def answered(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            token, oldest = recognise(request)
            known = rows(request, token).first()
            if known and holds(known, oldest):
                return known.body
            check(request, *args, **kwargs)
            for _, upload in uploads(request):
                settle(upload)
            forget_old_answers()
            make = partial(view, request, *args, **kwargs)
            return answer_once(request, token, oldest, make)

        return answered

    return decorate


@transaction.atomic
def answer_once(
    request: HttpRequest, token: str, oldest: datetime | None, make: Callable[[], Any]
) -> Any:
    row = lock_row(request, token)
    if holds(row, oldest):
        return row.body
    answer = make()
    row.status = HTTPStatus.OK
    row.created_at = timezone.now()
    row.body = plain(answer)
    row.save(update_fields=["status", "created_at", "body"])
    return answer


def recognise(request: HttpRequest) -> tuple[str, datetime | None]:
    """What tells the request from others, and since when an answer to it holds.

    None: it is sent for the first time. No answer holds, not even one that is given to
    a request just like it while this one waits for the lock.
    """
    now = timezone.now()
    if key := request.headers.get("Idempotency-Key"):
        return hashlib.sha256(f"key {key}".encode()).hexdigest(), now - KEPT
    retries = small_int(request.headers.get("x-stainless-retry-count", "")) or 0
    return hash_of_body(request), now - RETRIED_WITHIN if retries else None


def holds(row: FirstAnswer, oldest: datetime | None) -> bool:
    answered = row.status is not None
    return answered and oldest is not None and row.created_at > oldest


def hash_of_body(request: HttpRequest) -> str:
    if request.content_type != "multipart/form-data":
        return hashlib.sha256(request.body).hexdigest()
    hashed = hashlib.sha256(repr(sorted(request.POST.lists())).encode())
    for field, upload in uploads(request):
        hashed.update(repr((field, upload.name, upload.size)).encode())
        for chunk in upload.chunks(HASHED_AT_ONCE):
            hashed.update(chunk)
        upload.seek(0)
    return hashed.hexdigest()


def uploads(request: HttpRequest) -> list[tuple[str, UploadedFile]]:
    """With the names of their fields."""
    lists = cast(list[tuple[str, list[UploadedFile]]], list(request.FILES.lists()))
    return [(field, upload) for field, found in lists for upload in found]


def settle(upload: UploadedFile) -> None:
    """Have the disk written now: it may take seconds, and would lock others out."""
    if isinstance(upload, TemporaryUploadedFile):
        os.fsync(upload.fileno())


def rows(request: HttpRequest, token: str) -> QuerySet[FirstAnswer]:
    """At most one."""
    return FirstAnswer.objects.filter(
        member=current_member(request), path=request.path[:300], token=token
    )


def lock_row(request: HttpRequest, token: str) -> FirstAnswer:
    """Until the end of the transaction. Another request of that token waits here."""
    found = rows(request, token)
    row, _ = found.get_or_create(
        defaults={
            "member": current_member(request),
            "path": request.path[:300],
            "token": token,
            "created_at": timezone.now(),
        }
    )
    return FirstAnswer.objects.select_for_update().get(pk=row.pk)


def forget_old_answers() -> None:
    old = FirstAnswer.objects.filter(created_at__lt=timezone.now() - KEPT)
    # A delete locks out all others, even if there is nothing to delete.
    if old.exists():
        old.delete()


def plain(answer: Any) -> Any:
    return answer.model_dump(mode="json") if isinstance(answer, Schema) else answer

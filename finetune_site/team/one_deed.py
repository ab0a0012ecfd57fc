"""Makes one deed of a form that was sent twice: one press, two, or a page loaded again.

The second post gets the first one's answer, and waits for it if need be. A page's CSRF
token is another each time the page is made, so two posts that are the same to the byte
come from one page. A form that was corrected or filled in anew is another deed.
"""

import hashlib
import json
import time
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from http import HTTPStatus
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone

from finetune_site.common.request_hash import hash_of_body
from finetune_site.common.sealing import seal, unseal
from finetune_site.team.access import current_member
from finetune_site.team.models import SentForm

View = Callable[..., HttpResponse]

KEPT = timedelta(days=1)
WAIT_SECONDS = 30.0
LOOK_SECONDS = 0.05
HEADERS = ("Content-Type", "Location")
INTERRUPTED = (
    "This form was sent before, and the site was interrupted while it took it. See "
    "what was made before you send it again."
)


def one_deed(view: View) -> View:
    """Returns the view with a memory: a form that it took is not taken again."""

    @wraps(view)
    def remembering(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if request.method != "POST" or "csrfmiddlewaretoken" not in request.POST:
            return view(request, *args, **kwargs)
        while True:
            sent, is_first = _register(request)
            if is_first:
                return _take(sent, lambda: view(request, *args, **kwargs))
            # None: the first post was refused, so this one is the first by now.
            if answer := _first_answer(request, sent):
                return answer

    return remembering


def forget_old_forms() -> None:
    """Removes the answers to forms that nobody sends twice any more. The watcher calls
    this every few seconds.
    """
    old = SentForm.objects.filter(created_at__lt=timezone.now() - KEPT)
    # A delete locks out all others, even if there is nothing to delete.
    if old.exists():
        old.delete()


def _register(request: HttpRequest) -> tuple[SentForm, bool]:
    """Returns the form's row, and whether this post made it."""
    token = hashlib.sha256(f"{request.path} {hash_of_body(request)}".encode())
    return SentForm.objects.get_or_create(
        member=current_member(request), token=token.hexdigest()
    )


def _take(sent: SentForm, view: Callable[[], HttpResponse]) -> HttpResponse:
    try:
        response = view()
    except BaseException:
        sent.delete()
        raise
    if response.status_code >= HTTPStatus.BAD_REQUEST:
        # It made nothing, and the same form may be taken once the cause is gone.
        sent.delete()
        return response
    answer = {
        "status": response.status_code,
        "headers": {name: response[name] for name in HEADERS if name in response},
        "text": response.content.decode(),
    }
    # Sealed, since the page may show a new key.
    sent.answer = seal(json.dumps(answer))
    sent.save(update_fields=["answer"])
    return response


def _first_answer(request: HttpRequest, sent: SentForm) -> HttpResponse | None:
    """Returns the first post's answer, once it is there; None if that was refused."""
    until = time.monotonic() + WAIT_SECONDS
    while not sent.answer:
        if time.monotonic() > until:
            messages.warning(request, INTERRUPTED)
            return redirect("home")
        time.sleep(LOOK_SECONDS)
        found = SentForm.objects.filter(pk=sent.pk).first()
        if found is None:
            return None
        sent = found
    answer = json.loads(unseal(sent.answer))
    return HttpResponse(
        answer["text"], status=answer["status"], headers=answer["headers"]
    )

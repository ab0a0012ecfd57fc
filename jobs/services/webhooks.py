"""What admins do with the addresses that are told when a job ends."""

import requests
from django.db import transaction
from django.utils import timezone

from finetune_site.common.errors import UserError
from finetune_site.common.ids import random_id
from finetune_site.common.no_answer import why_no_answer
from finetune_site.common.outbound import check_url, session
from finetune_site.common.sealing import seal, unseal
from finetune_site.team.models import Member
from finetune_site.team.services import record
from jobs.models import Webhook
from jobs.services.webhook_message import event_body, new_secret, signed_headers

# How many seconds to wait for a connection, and then for the answer.
PATIENCE = (4, 10)
EVENT_PREFIX = "evt"
TEST_TYPE = "webhook.test"


class NotTakenError(UserError):
    """An address did not take what it was sent. The message says why."""


def add_webhook(
    *, member: Member, url: str, allow_private: bool = False
) -> tuple[Webhook, str]:
    """Adds an address. Returns its row and its secret, which is shown once.

    Raises UserError if the address cannot be used.
    """
    url = url.strip()
    check_url(url, allow_private=allow_private)
    if Webhook.objects.filter(url=url).exists():
        raise UserError("This address is in the list already.", field="url")
    secret = new_secret()
    with transaction.atomic():
        webhook = Webhook.objects.create(
            url=url,
            sealed_secret=seal(secret),
            allow_private=allow_private,
            created_by=member,
        )
        record(member=member, action="webhook.add", subject=url)
    return webhook, secret


def remove_webhook(*, member: Member, webhook: Webhook) -> None:
    """Removes an address with all that it has not been told yet."""
    with transaction.atomic():
        record(member=member, action="webhook.remove", subject=webhook.url)
        webhook.delete()


def try_webhook(*, member: Member, webhook: Webhook) -> None:
    """Sends an address a test event. Raises NotTakenError if it does not take it."""
    record(member=member, action="webhook.test", subject=webhook.url)
    uid = random_id(EVENT_PREFIX)
    body = event_body(uid=uid, type_=TEST_TYPE, at=timezone.now(), subject="test")
    post(webhook, uid, body)


def post(webhook: Webhook, uid: str, body: bytes) -> None:
    """Sends a body once. Raises NotTakenError if it has to be sent again."""
    try:
        headers = signed_headers(unseal(webhook.sealed_secret), uid, body)
        with (
            session(allow_private=webhook.allow_private) as outside,
            # The body of the answer is not read, however long it is.
            outside.post(
                webhook.url, data=body, headers=headers, timeout=PATIENCE, stream=True
            ) as answer,
        ):
            status = answer.status_code
    except UserError as error:
        raise NotTakenError(error.message) from None
    except requests.Timeout:
        raise NotTakenError(f"No answer within {PATIENCE[1]} s.") from None
    except (requests.RequestException, OSError) as error:
        raise NotTakenError(f"It cannot be reached: {why_no_answer(error)}.") from None
    if not 200 <= status < 300:
        raise NotTakenError(f"It answered with status {status}, not with 200.")

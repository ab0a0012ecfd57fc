"""Tells webhooks of jobs that have ended: at least once, whatever is killed.

Nothing is sent where a job ends, because jobs end in many places. A sweep compares the
jobs that have ended with what each webhook was told.
"""

from datetime import datetime, timedelta

from django.db.models import Exists, F, OuterRef
from django.utils import timezone

from finetune_site.common.ids import random_id
from jobs.models import Delivery, Job, Webhook
from jobs.services.webhook_message import event_body
from jobs.services.webhooks import EVENT_PREFIX, NotTakenError, post

# Seconds until each next try; the last one is used over and over.
WAITS = (5, 30, 120, 600, 1800, 3600)
# This is longer than sending may take, or else the same event would go out twice.
CLAIMED_SECONDS = 30
GIVEN_UP_AFTER = timedelta(days=1)
# A site that was down for longer tells nobody of jobs that ended before.
LAID_WITHIN = timedelta(days=7)


def lay_deliveries() -> None:
    """Makes a delivery for each webhook and each job that ended since it was added."""
    recently = timezone.now() - LAID_WITHIN
    for webhook in Webhook.objects.all():
        told = Delivery.objects.filter(webhook=webhook, job=OuterRef("pk"))
        untold = Job.objects.filter(
            ~Exists(told),
            status__in=Job.FINAL,
            finished_at__gte=max(webhook.created_at, recently),
        )
        Delivery.objects.bulk_create(
            [new_delivery(webhook, job) for job in untold.only("status")],
            ignore_conflicts=True,
        )


def new_delivery(webhook: Webhook, job: Job) -> Delivery:
    """Returns a delivery, not saved, that tells a webhook how a job ended."""
    return Delivery(
        uid=random_id(EVENT_PREFIX),
        webhook=webhook,
        job=job,
        type=f"fine_tuning.job.{job.status}",
        due_at=timezone.now(),
    )


def deliver_due() -> bool:
    """Sends the first delivery that is due of each webhook, one after another.

    So a receiver that does not answer holds up the others only once a round. Returns
    False if nothing was due.
    """
    due = Delivery.objects.filter(due_at__lte=timezone.now()).order_by("due_at")
    first: dict[int, int] = {}
    for webhook_id, pk in due.values_list("webhook_id", "pk"):
        first.setdefault(webhook_id, pk)
    for pk in first.values():
        deliver(pk)
    return bool(first)


def deliver(delivery_id: int) -> None:
    """Sends a delivery, if it is due. If this is killed, it is due again later."""
    delivery = claim(delivery_id)
    if delivery is None:
        return
    try:
        post(delivery.webhook, delivery.uid, body_of(delivery))
    except NotTakenError as error:
        note_failure(delivery, error.message)
    else:
        arrived = {"due_at": None, "delivered_at": timezone.now(), "message": ""}
        Delivery.objects.filter(pk=delivery.pk).update(**arrived)


def claim(delivery_id: int) -> Delivery | None:
    """Returns a delivery to send; None if it is not due or somebody else sends it."""
    now = timezone.now()
    rows = Delivery.objects.filter(pk=delivery_id, due_at__lte=now)
    delivery = rows.select_related("webhook", "job").first()
    if delivery is None:
        return None
    mine = rows.filter(due_at=delivery.due_at).update(
        due_at=now + timedelta(seconds=CLAIMED_SECONDS), num_tries=F("num_tries") + 1
    )
    return delivery if mine else None


def body_of(delivery: Delivery) -> bytes:
    """Returns what is sent, which is the same bytes at each try."""
    job = delivery.job
    return event_body(
        uid=delivery.uid,
        type_=delivery.type,
        at=job.finished_at or delivery.created_at,
        subject=job.uid,
    )


def note_failure(delivery: Delivery, message: str) -> None:
    """Notes why a try failed, and when to try again, if at all."""
    now = timezone.now()
    given_up = now - delivery.created_at > GIVEN_UP_AFTER
    Delivery.objects.filter(pk=delivery.pk).update(
        message=message, due_at=None if given_up else next_try(delivery, now)
    )


def next_try(delivery: Delivery, now: datetime) -> datetime:
    """Returns the time of the next try."""
    wait = WAITS[min(delivery.num_tries, len(WAITS) - 1)]
    return now + timedelta(seconds=wait)
